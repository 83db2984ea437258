"""Processes that run the command, forked from one that has imported it.

To import everything takes as long as a run over a few rows, and there are hundreds of such runs.
What a test asks of the process itself, such as its signals or its end, needs one of its own.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_PRELOADED = (
    "dedup_assets.cli",
    "dedup_assets.command.run",
    "dedup_assets.stages.plot",
    "dedup_assets.store.s3",
)


class Preloaded:
    """A process that waits for commands to run, one at a time; it ends with this one."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", __name__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def run(
        self, arguments: list[str], cwd: Path, environment: dict[str, str], timeout: float
    ) -> "subprocess.CompletedProcess[str]":
        with tempfile.TemporaryDirectory(prefix="preloaded-") as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            asked = {
                "arguments": arguments,
                "cwd": str(cwd),
                "environment": environment,
                "out": str(out),
                "err": str(err),
            }
            assert self._server.stdin is not None and self._server.stdout is not None
            self._server.stdin.write(json.dumps(asked).encode() + b"\n")
            self._server.stdin.flush()
            if not select.select([self._server.stdout], [], [], timeout)[0]:
                os.killpg(self._server.pid, 9)
                raise subprocess.TimeoutExpired(arguments, timeout, out.read_bytes())
            code = int(self._server.stdout.readline())
            return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def _serve() -> None:
    for name in _PRELOADED:
        __import__(name)
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(asked)
            return
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(asked: dict[str, Any]) -> None:
    """Run the command in this process, which ends with it."""
    from dedup_assets.cli import main

    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, file in ((0, os.devnull), (1, asked["out"]), (2, asked["err"])):
        opened = os.open(file, flags if number else os.O_RDONLY, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["cwd"])
    sys.argv = ["dedup-assets", *asked["arguments"]]
    sys.exit(main())


if __name__ == "__main__":
    _serve()
