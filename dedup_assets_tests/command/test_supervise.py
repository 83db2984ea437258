"""`supervise` ends with its program, and the program and all that it started end with it."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedup_assets_tests.command.helpers import clean_environment
from dedup_assets_tests.processes import family, still_running, wait_until

pytestmark = pytest.mark.slow

SUPERVISOR = """
import os, signal, sys
from dedup_assets.command.supervise import supervise
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
for name in sys.argv[3].split():
    signal.signal(signal.Signals[name], signal.SIG_IGN)
sys.exit(supervise([sys.executable, "-c", sys.argv[1], sys.argv[2]], sys.argv[2], os.environ))
"""
PARENT = """
import subprocess, sys, time
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path(sys.argv[1], "ready").touch()
"""
WAITS = f"{PARENT}time.sleep(600)\n"
ALONE = """
import sys, time
from pathlib import Path
Path(sys.argv[1], "ready").touch()
time.sleep(600)
"""
DEAF = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, lambda number, frame: Path(sys.argv[1], "told").touch())
Path(sys.argv[1], "ready").touch()
while True:
    time.sleep(600)
"""

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a supervisor of a program, which has started all that it does once it is returned."""
    running = []

    def run(program: str, ignored: str = "") -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, program, str(tmp_path), ignored],
            env=clean_environment(),
            stderr=subprocess.PIPE,
        )
        running.append(process)
        wait_until((tmp_path / "ready").exists)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


def end(process: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """Exit code and standard error, once it has ended."""
    _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


@pytest.mark.parametrize(
    ("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_program_and_its_children(
    start: Start, sign: signal.Signals, code: int
) -> None:
    process = start(WAITS)
    started = family(process.pid)
    assert len(started) == 2
    process.send_signal(sign)
    assert end(process) == (code, "")
    assert not still_running(started)


def test_ctrl_c_works_where_it_was_ignored_as_in_the_background_of_a_script(start: Start) -> None:
    """Dagster takes SIGTERM as SIGINT, so it would end on neither."""
    process = start(WAITS, "SIGINT")
    started = family(process.pid)
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "")
    assert not still_running(started)


def test_hangup_stays_ignored_under_nohup(start: Start) -> None:
    process = start(WAITS, "SIGHUP")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert end(process) == (143, "")


def test_a_second_signal_kills_a_program_that_does_not_end(start: Start, tmp_path: Path) -> None:
    process = start(DEAF)
    started = family(process.pid)
    process.send_signal(signal.SIGINT)
    wait_until((tmp_path / "told").exists)
    assert still_running(started) == started
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "")
    assert not still_running(started)


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ("sys.exit(7)", 7),
        ("sys.exit(0)", 0),
        ("import os; os.kill(os.getpid(), 9)", 137),
    ],
)
def test_a_program_that_ends_gives_its_code_and_leaves_no_children(
    start: Start, tmp_path: Path, last: str, code: int
) -> None:
    pause = "while not Path(sys.argv[1], 'go').exists(): time.sleep(0.05)\n"
    process = start(f"{PARENT}{pause}{last}\n")
    started = family(process.pid)
    assert len(started) == 2
    (tmp_path / "go").touch()
    assert end(process) == (code, "")
    assert not still_running(started)


def test_a_program_is_told_to_end_when_its_supervisor_is_killed(start: Start) -> None:
    process = start(ALONE)
    started = family(process.pid)
    assert len(started) == 1
    process.kill()
    wait_until(lambda: not still_running(started))
