"""Run a program with all that it starts, and end all of it when this process is told to end."""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STAGES = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
"""What the processes are sent, and the seconds in which they may then end.

Dagster takes SIGTERM as it takes SIGINT, and a run in progress records that it was interrupted. A
process that is still importing ends silently; SIGINT would make it print a traceback.
"""

_LIBC = ctypes.CDLL(None)  # opened before a fork, not after it
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_Wait = Callable[[float | None], int | None]
"""Wait for a signal, at most so many seconds; its number, or None."""


def supervise(command: Sequence[str], cwd: str, env: Mapping[str, str]) -> int:
    """Run a program in a process group of its own until it ends, or a signal asks to.

    Returns its exit code, as a shell gives it: 130 after SIGINT (Ctrl-C), 143 after SIGTERM, 129
    after SIGHUP. No process of its group is left, unless one made a group of its own. If this
    process is killed, the program gets SIGTERM.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what loses its parent is waited for here
    with _signals() as wait:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            start_new_session=True,
            preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),
        )
        while True:
            received = wait(None)
            if received in _STOPS:
                code = 128 + received
                break
            if child.poll() is not None:
                code = child.returncode if child.returncode >= 0 else 128 - child.returncode
                break
        _end(child, wait)
    return code


@contextmanager
def _signals() -> Iterator[_Wait]:
    """Catch the signals that stop a program and those of ended children, also where they were
    ignored, as in the background of a script; only SIGHUP stays ignored, as under nohup.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    caught = [
        sign
        for sign in (*_STOPS, signal.SIGCHLD)
        if sign != signal.SIGHUP or signal.getsignal(sign) != signal.SIG_IGN
    ]
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    handlers = {sign: signal.signal(sign, lambda number, frame: None) for sign in caught}

    def wait(seconds: float | None) -> int | None:
        ready, _, _ = select.select([read], [], [], seconds)
        return os.read(read, 1)[0] if ready else None

    try:
        yield wait
    finally:
        for sign, handler in handlers.items():
            signal.signal(sign, handler)
        signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)


def _end(child: "subprocess.Popen[bytes]", wait: _Wait) -> None:
    """End the group of a process. Another stop meanwhile, such as a second Ctrl-C, kills it."""
    for sign, seconds in _STAGES:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        end = time.monotonic() + seconds
        while not _all_ended(child):
            left = end - time.monotonic()
            if left <= 0 or wait(left) in _STOPS:
                break
        else:
            return


def _all_ended(child: "subprocess.Popen[bytes]") -> bool:
    try:
        while os.waitpid(-child.pid, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        child.poll()  # which takes note that there is nothing to wait for any more
        return True
    return False


def _prctl(option: int, value: int) -> None:
    """Ask Linux for a property of this process; other systems do not have it."""
    if sys.platform == "linux":
        _LIBC.prctl(option, ctypes.c_ulong(value))
