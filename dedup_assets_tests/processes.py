"""Processes as ``/proc`` shows them."""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process, told apart from a later one with the same number by when it started."""

    pid: int
    started: int


def family(pid: int) -> set[Process]:
    """The processes that descend from one, itself not included."""
    found = _processes()
    wanted: set[int] = set()
    new = {pid}
    while new:
        wanted |= new
        new = {p.pid for p, (_, parent) in found.items() if parent in wanted} - wanted
    return {process for process in found if process.pid in wanted - {pid}}


def still_running(processes: Collection[Process]) -> set[Process]:
    """Those that have not ended; a process that only waits to be reaped has."""
    running = {process for process, (state, _) in _processes().items() if state not in "ZX"}
    return running.intersection(processes)


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.05)


def _processes() -> dict[Process, tuple[str, int]]:
    """State and parent of each."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        found[Process(int(path.parent.name), int(fields[19]))] = fields[0], int(fields[1])
    return found
