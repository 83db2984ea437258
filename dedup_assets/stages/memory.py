"""How work is cut to fit the memory budget, and how much memory the process has taken."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

BATCH_BYTES = 16 << 20
"""Vectors of one batch, at most: larger ones are no faster, and each step holds a few of them."""

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Shares:
    """Bytes that each part of the shuffle may hold.

    Attributes:
        batch: vectors of one batch; a few of that size are in hand at any time.
        read_ahead: batches that wait to be assigned, and those being read.
        assign: products of rows and centroids.
        spool: rows that wait to be written.
        write_behind: fragments being written.
    """

    batch: int
    read_ahead: int
    assign: int
    spool: int
    write_behind: int


def shares(budget: int) -> Shares:
    """Divide ``budget``; an eighth of it is left for the batches in hand."""
    return Shares(
        batch=min(BATCH_BYTES, budget // 64),
        read_ahead=budget // 16,
        assign=budget // 4,
        spool=budget // 2,
        write_behind=budget // 16,
    )


def process_peak_bytes() -> int | None:
    """The most memory that this process has had resident so far, whatever it did before.

    None where the system does not say.
    """
    try:
        # What getrusage says also counts what a parent held when it started this process.
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _Sized(Protocol):
    @property
    def rows(self) -> int: ...


S = TypeVar("S", bound=_Sized)


def cut(items: Iterable[S], rows: int) -> Iterator[list[S]]:
    """Runs of items that hold at most ``rows`` rows together, or one item that has more."""
    run: list[S] = []
    held = 0
    for item in items:
        if run and held + item.rows > rows:
            yield run
            run, held = [], 0
        run.append(item)
        held += item.rows
    if run:
        yield run
