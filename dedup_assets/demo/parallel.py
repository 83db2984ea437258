"""Work spread over processes, one thread each, results in the order of the tasks."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from threadpoolctl import threadpool_limits

T = TypeVar("T")
R = TypeVar("R")


def in_processes(work: Callable[[T], R], tasks: Sequence[T], workers: int | None) -> Iterator[R]:
    """Yield `work(task)` for each task, in order.

    `workers` processes are spawned (None: one per processor); one worker means this process. The
    BLAS gets one thread in either case, so that a result does not depend on `workers`. `work` must
    be importable by name. The first exception ends the iteration and cancels what has not begun.
    """
    count = min(workers_or_default(workers), len(tasks))
    if count <= 1:
        with threadpool_limits(limits=1):
            for task in tasks:
                yield work(task)
        return
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_limit_threads)
    try:
        yield from pool.map(work, tasks)
    finally:
        pool.shutdown(cancel_futures=True)


def workers_or_default(workers: int | None) -> int:
    """The number of processes to use: what was asked, or one per processor."""
    if workers is None:
        return os.cpu_count() or 1
    if workers < 1:
        raise ValueError(f"workers={workers} should be >= 1, or None for one per processor.")
    return workers


def _limit_threads() -> None:
    threadpool_limits(limits=1)
