"""A real Postgres server on loopback, in a folder of its own."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dedup_assets_tests.served import free_port


@dataclass(frozen=True)
class PostgresServer:
    """A running server with an empty database."""

    host: str
    port: str
    username: str
    password: str
    db: str

    def environment(self) -> dict[str, str]:
        """The variables that docs/deployment/dagster.yaml reads."""
        return {f"DAGSTER_PG_{name.upper()}": value for name, value in asdict(self).items()}


def find_binaries() -> Path | None:
    """The folder of `initdb`, `postgres` and `pg_ctl`; Debian keeps it out of PATH."""
    found = [Path(path).parent for path in (shutil.which("initdb"),) if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        if all((folder / name).exists() for name in ("initdb", "postgres", "pg_ctl")):
            return folder
    return None


@contextmanager
def serving(binaries: Path) -> Iterator[PostgresServer]:
    """A server until the block ends; as root it runs as nobody, since Postgres refuses root."""
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        server = PostgresServer("127.0.0.1", str(free_port()), "dagster", "p@ss:w/rd", "postgres")
        (folder / "password").write_text(server.password)
        if user is not None:
            for path in (folder, folder / "password"):
                os.chown(path, pwd.getpwnam(user).pw_uid, -1)

        def call(command: str, *arguments: str) -> None:
            call = [str(binaries / command), "-D", str(folder / "data"), *arguments]
            with (folder / "log").open("a") as log:
                done = subprocess.run(
                    call, cwd=folder, user=user, stdout=log, stderr=log, check=False
                )
            assert done.returncode == 0, (folder / "log").read_text()

        call("initdb", "-A", "scram-sha-256", "-U", server.username, "--pwfile=password")
        options = f"-h {server.host} -p {server.port} -k {folder} -c fsync=off"
        call("pg_ctl", "-w", "-o", options, "start")
        try:
            yield server
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")
