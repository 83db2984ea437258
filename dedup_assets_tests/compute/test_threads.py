"""As many threads as the process was given, and no more."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

from dedup_assets.compute import threads
from dedup_assets.compute.threads import in_order, in_threads, one_blas_thread, thread_count


def blas_threads() -> set[int]:
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def test_thread_count_follows_the_limit_of_blas():
    with threadpool_limits(1):
        assert thread_count() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_thread_count_follows_the_affinity_of_the_process():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert thread_count() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(threads, "_blas", lambda: ThreadpoolController().select(user_api="none"))
    threads._quota.cache_clear()
    yield tmp_path
    threads._quota.cache_clear()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "400000 100000\n"}, 4),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "12800000 100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu.max": ""}, 64),
        ({}, 64),
    ],
)
def test_thread_count_follows_the_limit_of_the_container(
    cgroup: Path, files: dict[str, str], expected: int
):
    for name, text in files.items():
        (cgroup / name).parent.mkdir(exist_ok=True)
        (cgroup / name).write_text(text)
    assert thread_count() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_work_of_a_process_with_one_processor_keeps_blas_to_one_thread():
    before, allowed, within = blas_threads(), os.sched_getaffinity(0), []
    try:
        os.sched_setaffinity(0, {min(allowed)})
        in_threads(lambda task: blas_threads(), range(1), 1, lambda _, count: within.append(count))
    finally:
        os.sched_setaffinity(0, allowed)
    assert within == [{1}]
    assert blas_threads() == before


def test_work_beside_threads_that_compute_has_its_own_number_of_them():
    before, within = thread_count(), []
    with one_blas_thread():
        assert thread_count() == before
        in_threads(lambda task: thread_count(), range(4), 2, lambda _, count: within.append(count))
    assert within == [1] * 4


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_task_is_done_once(count: int):
    done: dict[int, int] = {}
    in_threads(lambda task: task * task, range(40), count, done.__setitem__)
    assert done == {task: task * task for task in range(40)}


def test_results_are_handed_over_in_the_calling_thread():
    seen = set()
    in_threads(lambda task: task, range(9), 3, lambda *_: seen.add(threading.get_ident()))
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("count", [1, 3])
def test_the_first_error_ends_the_work(count: int):
    begun = []

    def work(task: int) -> None:
        begun.append(task)
        if task == 4:
            raise KeyError("four")

    with pytest.raises(KeyError, match="four"):
        in_threads(work, range(10_000), count, lambda *_: None)
    assert len(begun) < 100
    assert not [t for t in threading.enumerate() if t.name.startswith("compute")]


def test_an_interrupt_in_the_calling_thread_leaves_no_thread_behind():
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_threads(lambda task: task, range(100), 2, interrupted)
    assert not [t for t in threading.enumerate() if t.name.startswith("compute")]


def test_blas_keeps_to_one_thread_inside_and_gets_its_own_back():
    before = blas_threads()
    with one_blas_thread():
        assert blas_threads() == {1}
        with one_blas_thread():
            pass
        assert blas_threads() == {1}
    assert blas_threads() == before
    assert threads._holders == 0


def test_results_come_in_the_order_of_the_tasks_and_few_calls_ahead():
    begun = []

    def work(task: int) -> int:
        begun.append(task)
        return -task

    results = in_order(work, iter(range(1000)), 3, 5)
    assert next(results) == 0
    assert len(begun) <= 5
    assert list(results) == [-task for task in range(1, 1000)]


def test_an_error_comes_in_its_turn_and_ends_the_work():
    begun = []

    def work(task: int) -> int:
        begun.append(task)
        if task == 7:
            raise KeyError("seven")
        return task

    results = in_order(work, range(10_000), 2, 4)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(KeyError, match="seven"):
        next(results)
    assert len(begun) <= 12
    assert not [t for t in threading.enumerate() if t.name.startswith("in-order")]
