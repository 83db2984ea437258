"""Progress reporting of long passes: to a terminal, a run's log, or nowhere."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

Advance = Callable[[int], None]
"""Called with how many more units are done."""


class Progress(Protocol):
    """Listens to passes."""

    def start(self, label: str, total: int, unit: str) -> Advance:
        """A pass over ``total`` units begins; 0 where nobody knows how many."""
        ...

    def finish(self) -> None:
        """The pass that began last has ended."""
        ...


@dataclass
class _Pass:
    label: str
    total: int
    unit: str
    began: float = field(default_factory=time.monotonic)
    done: int = 0

    def line(self) -> str:
        count = f"{self.done:,} of {self.total:,} {self.unit}, " if self.total else ""
        return f"{self.label}: {count}{time.monotonic() - self.began:.0f} s so far"


class LogProgress:
    """Writes a line about the innermost pass every ten seconds, whether it advances or not.

    It writes in a thread; what that raises is raised where the pass advances or ends.
    """

    def __init__(self, log: Callable[[str], None], every_s: float = 10.0) -> None:
        self._log = log
        self._every_s = every_s
        self._open: list[_Pass] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed: Exception | None = None

    def start(self, label: str, total: int, unit: str) -> Advance:
        begun = _Pass(label, total, unit)
        self._open.append(begun)
        if self._thread is None:
            self._ended.clear()
            self._thread = threading.Thread(target=self._speak, name="progress", daemon=True)
            self._thread.start()

        def advance(units: int) -> None:
            begun.done += units
            self._raise_failure()

        return advance

    def finish(self) -> None:
        self._open.pop()
        if not self._open and self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None
            self._raise_failure()

    def _raise_failure(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def _speak(self) -> None:
        while not self._ended.wait(self._every_s):
            if innermost := self._open[-1:]:
                try:
                    self._log(innermost[0].line())
                except Exception as error:
                    self._failed = error
                    return


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
def track(label: str, total: int = 0, unit: str = "") -> Iterator[Advance]:
    """Report a pass over ``total`` units, or an unknown number of them.

    Yields the function to call with units done.
    """
    progress = _listener.get()
    if progress is None:
        yield lambda units: None
        return
    advance = progress.start(label, total, unit)
    try:
        yield advance
    finally:
        progress.finish()
