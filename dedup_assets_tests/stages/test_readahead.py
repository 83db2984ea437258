"""Reading ahead: the order, the bytes, the errors and the end of its threads."""

import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_assets.stages.readahead import Queue, read_ahead

SIZES = [[3, 1, 4], [], [1, 5, 9, 2], [6], [5, 3, 5, 8, 9, 7]]


class Readers:
    """Sources of items of given sizes; remembers which threads read them."""

    def __init__(self, sizes: list[list[int]]) -> None:
        self.sizes = sizes
        self.threads: set[threading.Thread] = set()
        self.begun: list[int] = []

    def read(self, source: int) -> Iterator[tuple[int, int, int]]:
        self.threads.add(threading.current_thread())
        self.begun.append(source)
        for number, size in enumerate(self.sizes[source]):
            yield source, number, size

    def items(self) -> list[list[tuple[int, int, int]]]:
        return [[(s, n, z) for n, z in enumerate(row)] for s, row in enumerate(self.sizes)]


def size_of(item: tuple[int, int, int]) -> int:
    return item[2]


def alive() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=6),
    st.integers(0, 4),
    st.integers(0, 40),
)
def test_items_come_in_the_order_of_the_sources(sizes: list[list[int]], threads: int, budget: int):
    """Also where the budget is below one item, which must not block."""
    readers = Readers(sizes)
    with read_ahead(
        range(len(sizes)), readers.read, size_of, threads=threads, budget=budget, expected=9
    ) as sources:
        assert [list(items) for items in sources] == readers.items()
    assert not alive()


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("budget", [9, 18, 27, 40])
def test_bytes_held_stay_within_the_budget(threads: int, budget: int):
    """However slowly the items are taken: all threads come to wait before each one."""
    queue: Queue[int, tuple[int, int, int]] = Queue(
        range(5), Readers(SIZES).read, size_of, budget=budget, expected=9
    )
    workers = [threading.Thread(target=queue.work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for items in queue.sources():
        for _ in items:
            settle(queue)
            assert queue.held <= budget
    for worker in workers:
        worker.join()
    assert 0 < queue.most <= budget
    assert queue.held == 0


def settle(queue: Queue[Any, Any]) -> None:
    """Give the threads as many turns as they can use."""
    for _ in range(50):
        with queue._changed:
            queue._changed.notify_all()


def test_one_larger_item_than_the_budget_is_read_alone():
    queue: Queue[int, tuple[int, int, int]] = Queue(
        [0], Readers([[50, 60, 70]]).read, size_of, budget=10, expected=1
    )
    worker = threading.Thread(target=queue.work)
    worker.start()
    assert [[size for _, _, size in items] for items in queue.sources()] == [[50, 60, 70]]
    worker.join()
    assert queue.most == 70


def test_nothing_is_read_beyond_what_the_budget_has_room_for():
    """Two items of 9 fit; the third source is not begun although a thread is free."""
    readers = Readers([[9]] * 5)
    with read_ahead(range(5), readers.read, size_of, threads=2, budget=18, expected=9) as sources:
        first = next(sources)
        assert next(first) == (0, 0, 9)
        assert set(readers.begun) <= {0, 1, 2}


def broken_at_two(source: int) -> Iterator[int]:
    yield source
    if source == 2:
        raise ValueError("source 2 is broken")
    yield source


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_error_of_a_source_comes_after_what_was_read_before_it(threads: int):
    taken = []
    with (
        pytest.raises(ValueError, match="source 2 is broken"),
        read_ahead(
            range(9), broken_at_two, lambda _: 1, threads=threads, budget=5, expected=1
        ) as sources,
    ):
        for items in sources:
            for item in items:
                taken.append(item)
    assert taken == [0, 0, 1, 1, 2]
    assert not alive()


def test_no_source_is_begun_after_one_that_failed():
    begun = []

    def read(source: int) -> Iterator[int]:
        begun.append(source)
        yield from broken_at_two(source)

    with (
        pytest.raises(ValueError, match="broken"),
        read_ahead(range(99), read, lambda _: 1, threads=1, budget=50, expected=1) as sources,
    ):
        for items in sources:
            list(items)
    assert begun == [0, 1, 2]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_end_with_a_body_that_fails(error: type[BaseException], threads: int):
    """Here they wait for room: the budget holds one item, and nobody takes the next."""
    readers = Readers(SIZES)
    with (
        pytest.raises(error),
        read_ahead(
            range(5), readers.read, size_of, threads=threads, budget=9, expected=9
        ) as sources,
    ):
        next(next(sources))
        raise error
    assert readers.threads
    assert not alive()


def test_threads_end_when_a_generator_that_reads_ahead_is_closed():
    def rows() -> Iterator[int]:
        with read_ahead(
            range(5), Readers(SIZES).read, size_of, threads=2, budget=9, expected=9
        ) as sources:
            for items in sources:
                for _, _, size in items:
                    yield size

    generator = rows()
    assert next(generator) == 3
    assert alive()
    generator.close()
    assert not alive()


def test_a_source_left_in_the_middle_is_closed_in_its_thread():
    closed = []

    def read(source: int) -> Iterator[int]:
        try:
            while True:
                yield source
        finally:
            closed.append(threading.current_thread().name)

    with read_ahead([0], read, lambda _: 1, threads=1, budget=3, expected=1) as sources:
        next(next(sources))
    assert closed == ["read-ahead-0"]


def test_an_item_that_was_taken_is_not_kept():
    """Else two batches more than the budget says would stay in memory."""

    class Item:
        pass

    seen: list[weakref.ref[Item]] = []

    def read(_: int) -> Iterator[Item]:
        for _ in range(4):
            yield Item()

    with read_ahead([0], read, lambda _: 1, threads=1, budget=1, expected=1) as sources:
        for item in next(sources):
            assert not [ref for ref in seen if ref() is not None]
            seen.append(weakref.ref(item))
            del item
