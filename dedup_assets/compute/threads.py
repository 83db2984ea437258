"""How many threads this process was given, and work that is shared among them."""

import functools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Task = TypeVar("Task")
Result = TypeVar("Result")

_CGROUP = Path("/sys/fs/cgroup")
_QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))  # version 2 and 1

_guard = threading.Lock()
_holders = 0
_limited: object = None
_unlimited = 1  # threads before the holders limited BLAS
_of_thread = threading.local()


def thread_count() -> int:
    """Processors this process may use, and no more than its linear algebra is limited to.

    So OMP_NUM_THREADS, threadpoolctl, a CPU affinity and the CPU limit of a container all hold for
    what is not BLAS as well. A limit of `one_blas_thread` says nothing to other threads than those
    of `in_threads`, which are one each.
    """
    if getattr(_of_thread, "computes", False):
        return 1
    with _guard:
        return _unlimited if _holders else _count()


def processor_count() -> int:
    """Processors this process may use, by its CPU affinity and the CPU limit of its container."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every platform
        processors = os.cpu_count() or 1
    return min(processors, _quota() or processors)


def _count() -> int:
    limits = [library["num_threads"] for library in _blas().info()]
    return max(1, min([processor_count(), *limits]))


@functools.cache
def _quota() -> int | None:
    """Processors that the CPU limit of the container amounts to, rounded up; None without one."""
    for names in _QUOTAS:
        try:
            words = " ".join((_CGROUP / name).read_text() for name in names).split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):  # another version, or "max"
            continue
        if quota > 0 and period > 0:
            return -(-quota // period)
    return None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread a call, for callers that are many threads themselves.

    The limit belongs to the process, so of several callers the last one to leave lifts it.
    """
    global _holders, _limited, _unlimited
    with _guard:
        if _holders == 0:
            _unlimited = _count()
            _limited = _blas().limit(limits=1)
        _holders += 1
    try:
        yield
    finally:
        with _guard:
            _holders -= 1
            if _holders == 0:
                _limited.restore_original_limits()  # type: ignore[attr-defined]


def in_threads(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    threads: int,
    on_done: Callable[[Task, Result], None],
) -> None:
    """Call ``function`` on each task, in order of the tasks, in up to ``threads`` threads.

    ``on_done`` is called in the calling thread as tasks end, in no fixed order. The first error
    ends the work: tasks that have not begun are dropped, and it is raised here.
    """
    if threads == 1:
        # BLAS may have begun with as many threads as the machine has processors.
        with one_blas_thread() if thread_count() == 1 else nullcontext():
            for task in tasks:
                on_done(task, function(task))
        return
    with one_blas_thread():
        executor = ThreadPoolExecutor(
            threads, thread_name_prefix="compute", initializer=_begin_computing
        )
        try:
            running: dict[Future[Result], Task] = {}
            for task in tasks:
                running[executor.submit(function, task)] = task
                if len(running) >= 2 * threads:
                    _collect(running, on_done)
            while running:
                _collect(running, on_done)
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def in_order(
    function: Callable[[Task], Result], tasks: Iterable[Task], threads: int, ahead: int
) -> Iterator[Result]:
    """The result of each task, in order of the tasks, computed in ``threads`` threads.

    For work that waits for a disk or a server. Up to ``ahead`` calls have begun, or wait to, when
    a result is asked for. An error is raised in its turn; calls that have not begun are dropped.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="in-order") as pool:
        calls: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                calls.append(pool.submit(function, task))
                del task  # which may hold much, and is the thread's now
                if len(calls) >= ahead:
                    yield calls.popleft().result()
            while calls:
                yield calls.popleft().result()
        finally:
            for call in calls:
                call.cancel()


def _begin_computing() -> None:
    _of_thread.computes = True


def _collect(running: dict[Future[Result], Task], on_done: Callable[[Task, Result], None]) -> None:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        on_done(running.pop(future), future.result())


def _blas() -> ThreadpoolController:
    # Finding the libraries takes longer than comparing a small cluster; they come with modules.
    return _blas_of(len(sys.modules))


@functools.lru_cache(maxsize=1)
def _blas_of(modules: int) -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
