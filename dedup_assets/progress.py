"""How a long pass says how far it is, whoever listens: a terminal, a run's log, or nobody."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

Advance = Callable[[int], None]
"""Called with how many more units are done."""


class Progress(Protocol):
    """Listens to passes."""

    def start(self, label: str, total: int, unit: str) -> Advance:
        """A pass over ``total`` units begins."""
        ...

    def finish(self) -> None:
        """The pass that began last has ended."""
        ...


class LogProgress:
    """Writes a line at most every ten seconds."""

    def __init__(self, log: Callable[[str], None], every_s: float = 10.0) -> None:
        self._log = log
        self._every_s = every_s

    def start(self, label: str, total: int, unit: str) -> Advance:
        done, last = 0, time.monotonic()

        def advance(units: int) -> None:
            nonlocal done, last
            done += units
            if time.monotonic() - last >= self._every_s:
                last = time.monotonic()
                self._log(f"{label}: {done:,} of {total:,} {unit}")

        return advance

    def finish(self) -> None:
        pass


_listener: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def listening(progress: Progress) -> Iterator[None]:
    """Send the passes of this thread to ``progress``; an outer listener keeps precedence."""
    token = _listener.set(_listener.get() or progress)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def track(label: str, total: int, unit: str) -> Iterator[Advance]:
    """Report a pass over ``total`` units; yields the function to call with units done."""
    progress = _listener.get()
    if progress is None:
        yield lambda units: None
        return
    advance = progress.start(label, total, unit)
    try:
        yield advance
    finally:
        progress.finish()
