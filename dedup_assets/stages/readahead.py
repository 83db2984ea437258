"""Items of many sources, read ahead by threads and returned in one fixed order."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")
_END: Any = object()


def readers_for(cores: int) -> int:
    """Sources read at once. Decoding one takes a core, or the time of the storage."""
    return max(2, cores // 2)


REMOTE_READERS = 4
"""As many from a remote store. Each holds some 16 MiB beside what it reads."""


@contextmanager
def read_ahead(
    sources: Sequence[S],
    read: Callable[[S], Iterable[T]],
    size: Callable[[T], int],
    *,
    threads: int,
    budget: int,
    expected: int,
) -> Iterator[Iterator[Iterator[T]]]:
    """Read ``sources`` in threads, each in one, while the body takes their items.

    Args:
        sources: what there is to read, in the order in which it will be taken.
        read: the items of a source; called in the thread that reads it.
        size: bytes of an item.
        threads: how many sources are read at once; 0 reads each in the body, on its turn.
        budget: bytes that items may take from when a thread begins to read one until the body
            takes it. One item may always be read, so a budget below that of one only delays.
        expected: bytes that an item is taken for before it is there.

    Yields:
        An iterator over the sources; each is an iterator over its items, which must be used up
        before the next source. What ``read`` raises is raised there, after the items before it.
        The threads end with the body, however it ends.
    """
    if threads == 0:
        yield (iter(read(source)) for source in sources)
        return
    queue = Queue(sources, read, size, budget=budget, expected=expected)
    workers = [
        threading.Thread(target=queue.work, name=f"read-ahead-{number}", daemon=True)
        for number in range(threads)
    ]
    try:
        for worker in workers:
            worker.start()
        yield queue.sources()
    finally:
        queue.close()
        for worker in workers:
            if worker.ident is not None:  # an interrupt may come before all have started
                worker.join()


@dataclass(eq=False)
class _Lane(Generic[T]):
    """A source being read: what waits to be taken, with its bytes, and how it ended."""

    waiting: deque[tuple[T, int]] = field(default_factory=deque)
    ended: bool = False
    error: BaseException | None = None


class Queue(Generic[S, T]):
    """What `read_ahead` and its threads share; arguments as there.

    Attributes:
        held: bytes of the items that wait and, as far as is known, of those being read.
        most: the highest ``held`` so far.
    """

    def __init__(
        self,
        sources: Sequence[S],
        read: Callable[[S], Iterable[T]],
        size: Callable[[T], int],
        *,
        budget: int,
        expected: int,
    ) -> None:
        self._sources = sources
        self._read = read
        self._size = size
        self._budget = budget
        self._expected = expected
        self._begun = 0
        self._lanes: deque[_Lane[T]] = deque()
        self._closed = False
        self._changed = threading.Condition()
        self.held = self.most = 0

    def work(self) -> None:
        """Read one source after the other until there are no more; what each thread does."""
        while (begun := self._begin()) is not None:
            source, lane = begun
            error: BaseException | None = None
            try:
                self._fill(lane, source)
            except BaseException as raised:  # raised where the items are taken
                error = raised
            with self._changed:
                lane.error, lane.ended = error, True
                if error is not None:  # nobody gets past this source
                    self._begun = len(self._sources)
                self._changed.notify_all()

    def sources(self) -> Iterator[Iterator[T]]:
        """The sources in order, each an iterator over its items."""
        for _ in self._sources:
            with self._changed:
                self._changed.wait_for(lambda: self._lanes)
                lane = self._lanes[0]
            yield self._items(lane)
            with self._changed:
                self._lanes.popleft()
                self._changed.notify_all()

    def close(self) -> None:
        """Let each thread end after the item that it is at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _begin(self) -> tuple[S, _Lane[T]] | None:
        with self._changed:
            if self._closed or self._begun == len(self._sources):
                return None
            lane: _Lane[T] = _Lane()
            self._lanes.append(lane)
            self._begun += 1
            self._changed.notify_all()
            return self._sources[self._begun - 1], lane

    def _fill(self, lane: _Lane[T], source: S) -> None:
        items = iter(self._read(source))
        while (reserved := self._reserve(lane)) is not None:
            if not self._make(items, lane, reserved):
                return

    def _reserve(self, lane: _Lane[T]) -> int | None:
        """Wait for room for one more item; its bytes, or None if nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(lane))
            if self._closed:
                return None
            self._hold(self._expected)
            return self._expected

    def _has_room(self, lane: _Lane[T]) -> bool:
        if lane is self._lanes[0]:
            return not lane.waiting or self.held + self._expected <= self._budget
        # The source whose turn it is keeps room for an item, or all would wait for it.
        return self.held + 2 * self._expected <= self._budget

    def _make(self, items: Iterator[T], lane: _Lane[T], reserved: int) -> bool:
        """Read one item; whether there was one.

        A function of its own, so that nothing here keeps an item that was taken.
        """
        made: list[tuple[T, int]] = []
        try:
            item = next(items, _END)
            if item is not _END:
                made.append((item, self._size(item)))
        finally:
            with self._changed:
                size = sum(size for _, size in made)
                self._expected = max(self._expected, size)
                self._hold(size - reserved)
                lane.waiting.extend(made)
                self._changed.notify_all()
        return bool(made)

    def _items(self, lane: _Lane[T]) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: lane.waiting or lane.ended)
                if not lane.waiting:
                    break
                item, size = lane.waiting.popleft()
                self._hold(-size)
                self._changed.notify_all()
            yield item
            del item  # not kept while the next one is waited for
        if lane.error is not None:
            raise lane.error

    def _hold(self, more: int) -> None:
        self.held += more
        self.most = max(self.most, self.held)
