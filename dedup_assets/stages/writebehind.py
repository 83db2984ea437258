"""A pool of background writers."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

Write = Callable[[], object]


def writers_for(cores: int) -> int:
    """Writes at once: while one encodes, another may wait for the storage."""
    return max(2, cores // 4)


class WriteBehind:
    """Runs writes in threads, begun in the order in which they come.

    What a write raises, a later `write` or `drain` raises. The threads end with the context;
    if it ends by an error, writes that have not begun are dropped.

    Args:
        threads: how many writes run at once; 0 runs each when it comes, in its caller.
        budget: bytes that unfinished writes may hold. One may always run, so a budget below that
            of one only delays.

    Attributes:
        held: bytes of the unfinished writes, as far as was looked.
        most: the highest ``held`` so far.
    """

    def __init__(self, threads: int, budget: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "write-behind") if threads else None
        self._budget = budget
        self._unfinished: deque[tuple[Future[object], int]] = deque()
        self.held = self.most = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.drain()
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)

    def write(self, write: Write, size: int) -> None:
        """Run ``write``, which holds ``size`` bytes until it is done."""
        if self._pool is None:
            write()
            return
        while self._unfinished and (
            self.held + size > self._budget or self._unfinished[0][0].done()
        ):
            self._finish_oldest()
        self.held += size
        self.most = max(self.most, self.held)
        self._unfinished.append((self._pool.submit(write), size))

    def drain(self) -> None:
        """Wait until all writes are done."""
        while self._unfinished:
            self._finish_oldest()

    def _finish_oldest(self) -> None:
        future, size = self._unfinished.popleft()
        self.held -= size
        future.result()
