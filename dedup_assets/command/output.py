"""``dedup-assets ui``: an output folder of the command in the Dagster UI."""

import os
import socket
import sys
from pathlib import Path

from dedup_assets.command import output_definitions
from dedup_assets.command.instance import own_instance, refuse_links, use_instance
from dedup_assets.command.output_definitions import COPY, OUTPUT
from dedup_assets.command.settings_file import load_settings, write_settings
from dedup_assets.command.supervise import supervise
from dedup_assets.errors import SettingsError
from dedup_assets.runs import LOCATION
from dedup_assets.settings import Settings
from dedup_assets.store.access import is_remote
from dedup_assets.store.filesystem import Store


def open_ui(settings: Settings, port: int) -> int:
    """Serve an output folder, with these settings of it, until a signal ends it.

    Returns:
        the exit code of the servers, or that of the signal.

    Raises:
        SettingsError: the port is taken, or Dagster cannot keep its events.
    """
    output = settings.storage.output_path
    use_instance(output)
    refuse_links(own_instance(output))  # with DAGSTER_HOME too, since this is written there
    workspace = own_instance(output) / "workspace.yaml"
    workspace.parent.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, OUTPUT: output}
    env.pop(COPY, None)
    if is_remote(output) or settings != load_settings(output):
        # Loaded often, and by several processes: from this machine, with the access that was named.
        write_settings(settings, Store(str(workspace.parent)))
        env[COPY] = str(workspace.parent)
    workspace.write_text(
        f"load_from:\n  - python_module:\n      module_name: {output_definitions.__name__}\n"
        f"      location_name: {LOCATION}\n"
    )
    refuse_taken_port(port)
    sys.stdout.write(f"http://127.0.0.1:{port} in some 15 seconds; stop with Ctrl-C\n")
    sys.stdout.flush()
    return supervise(
        [
            *(sys.executable, "-W", "ignore:Function `dev_command` is superseded"),
            *("-m", "dagster", "dev", "-w", str(workspace)),
            *("-h", "127.0.0.1", "-p", str(port)),
        ],
        # Dagster reads .env and imports modules from the working directory: not from that of the
        # caller, nor from the output, which may come from someone else.
        cwd=Path(sys.executable).anchor,
        env=env,
    )


def refuse_taken_port(port: int) -> None:
    """Refuse a port that cannot be served: Dagster would go on for ever without its page.

    Raises:
        SettingsError: it is taken, or needs rights that this user does not have.
    """
    with socket.socket() as page:
        page.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
        try:
            page.bind(("127.0.0.1", port))
        except OSError as error:
            raise SettingsError(
                f"port {port} of 127.0.0.1 cannot be served ({os.strerror(error.errno or 0)}); "
                "choose another with --port"
            ) from error
