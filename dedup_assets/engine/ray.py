"""Tasks on a Ray cluster: one that is joined, the caller's own, or one for the step alone."""

import contextlib
import importlib
import logging
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from dedup_assets.compute.threads import processor_count
from dedup_assets.engine import C, Engine, R, T, Work
from dedup_assets.engine.worker import own_version, run_task
from dedup_assets.errors import DedupError, EngineError, first_line, one_line
from dedup_assets.progress import Advance, track

_TRIES = 5  # of a task whose worker or node was lost
_PATIENCE_S = 300.0  # for a node that has what a task asks for, where clusters grow by themselves
_POLL_S = 1.0  # so that an interrupt is heard
_LAST_WORDS_S = 30.0  # for tasks that end when others have failed
_LOOPBACK = "127.0.0.2"  # Ray takes 127.0.0.1 for the address that others reach
_ANSWER_S = 10.0  # for a cluster that is joined
_PLACE = re.compile(r"(?:ray://)?(?P<host>[^:/]+):(?P<port>[0-9]{1,5})")
_AHEAD = 16  # tasks that wait at a cluster beside two for each that it can run

_alone = False
"""Whether the cluster was started here, for this process alone."""


@contextmanager
def session(engine: Engine) -> Iterator[None]:
    """Connect this process to a cluster, unless it is connected, and leave it at the end."""
    ray = _import_ray()
    if ray.is_initialized():  # by the user's resource, or around this
        yield
        return
    global _alone
    with track("starting Ray" if engine.address is None else "joining Ray"):
        _connect(ray, engine)
    _alone = engine.address is None
    try:
        yield
    finally:
        _alone = False
        ray.shutdown()


def run_tasks(
    engine: Engine,
    work: Work[C, T, R],
    common: C,
    tasks: Iterable[T],
    advance: Advance,
    weight: Callable[[T], int],
    *,
    computes: bool,
) -> Iterator[list[R]]:
    """As `dedup_assets.engine.run_tasks`."""
    with session(engine), _errors():
        yield from _Run(_import_ray(), engine, computes).results(
            work, common, iter(tasks), advance, weight
        )


class _Run:
    """The tasks of one call."""

    def __init__(self, ray: Any, engine: Engine, computes: bool) -> None:
        self._ray = ray
        self._wanted = _resources(ray, engine, computes)
        self._grows = not _alone
        self._began = time.monotonic()
        self._running: dict[Any, Any] = {}
        if not self._grows:
            self._refuse_what_nobody_has()

    def results(
        self, work: Any, common: Any, tasks: Iterator[Any], advance: Advance, weight: Any
    ) -> Iterator[list[Any]]:
        ray = self._ray
        asked = {"num_cpus": self._wanted["CPU"], "num_gpus": self._wanted["GPU"]}
        if self._wanted["memory"]:
            asked["memory"] = self._wanted["memory"]
        remote = ray.remote(run_task).options(
            **asked, max_retries=_TRIES, retry_exceptions=False, name=work.__name__.strip("_")
        )
        threads = max(1, int(self._wanted["CPU"]))
        reference = [ray.put(common)]
        try:
            while True:
                room = self._room() - len(self._running)
                for task in _some(tasks, room):
                    call = remote.remote(own_version(), work, reference, task, threads)
                    self._running[call] = task
                if not self._running:
                    return
                if done := self._done():
                    for call in done:
                        advance(weight(self._running.pop(call)))
                    yield [result for results in ray.get(done) for result in results]
        finally:
            self._stop()

    def _room(self) -> int:
        """Tasks that are given to the cluster at one time; it may grow."""
        there = self._ray.cluster_resources()
        fits = [there.get(name, 0) / n for name, n in self._wanted.items() if n]
        return _AHEAD + 2 * int(min(fits, default=1))

    def _done(self) -> list[Any]:
        """Calls that have ended; those there now, or the first within a second."""
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_POLL_S)
        if done:
            return self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)[0]
        if time.monotonic() - self._began > _PATIENCE_S:
            self._refuse_what_nobody_has()
        return []

    def _refuse_what_nobody_has(self) -> None:
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        wanted = self._wanted.items()
        if any(all(node.get(name, 0) >= amount for name, amount in wanted) for node in nodes):
            return
        asks = ", ".join(f"{_NAMES[name]} {amount:g}" for name, amount in wanted if amount)
        raise EngineError(
            f"no node of the Ray cluster has what a task asks for ({asks}); lower it, or add such "
            "a node"
        )

    def _stop(self) -> None:
        """End what still runs: it must not write when the lease is given up."""
        if not self._running:
            return
        for call in self._running:
            with contextlib.suppress(Exception):  # it has ended
                self._ray.cancel(call)
        with contextlib.suppress(Exception):  # the cluster is gone, and its tasks with it
            running = list(self._running)
            self._ray.wait(running, num_returns=len(running), timeout=_LAST_WORDS_S)


_NAMES = {"CPU": "task_cpus", "GPU": "task_gpus", "memory": "task_memory"}


def _resources(ray: Any, engine: Engine, computes: bool) -> dict[str, float]:
    """What a task asks for, by Ray's names."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpu_nodes = [node for node in nodes if node.get("GPU", 0) > 0]
    gpus = engine.gpus
    if not computes or engine.device == "cpu":
        gpus = 0.0
    elif gpus is None:
        gpus = 1.0 if gpu_nodes or engine.device != "auto" else 0.0
    cpus = engine.cpus
    if cpus is None and gpus and gpu_nodes:
        cpus = max(1.0, gpus * min(node.get("CPU", 1) / node["GPU"] for node in gpu_nodes) // 1)
    return {"CPU": 1.0 if cpus is None else cpus, "GPU": gpus, "memory": engine.memory or 0}


def _some(tasks: Iterator[Any], most: int) -> Iterator[Any]:
    for _ in range(most):
        try:
            yield next(tasks)
        except StopIteration:
            return


def _import_ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise EngineError("engine ray needs Ray: pip install 'dedup-assets[ray]'") from error


def _connect(ray: Any, engine: Engine) -> None:
    quiet: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "namespace": "dedup_assets",
    }
    if engine.address is None:
        quiet |= {
            "address": "local",
            "include_dashboard": False,
            "num_cpus": processor_count(),
            "_node_ip_address": _LOOPBACK,
        }
    else:
        quiet["address"] = engine.address
    where = "Ray on this machine" if engine.address is None else f"Ray at {engine.address}"
    try:
        if place := _PLACE.fullmatch(engine.address or ""):  # Ray itself would try for minutes
            answer = (place["host"], int(place["port"]))
            socket.create_connection(answer, timeout=_ANSWER_S).close()
        ray.init(**quiet)
    except Exception as error:
        ray.shutdown()
        raise EngineError(
            f"cannot use {where}: {first_line(error)}; start a cluster there with this version of "
            f"Ray ({ray.__version__}), or leave out address to start one for the run"
        ) from error


@contextmanager
def _errors() -> Iterator[None]:
    """Raise what a task raised as if it had been done here, and faults of Ray's in one line."""
    exceptions = importlib.import_module("ray.exceptions")
    try:
        yield
    except exceptions.RayTaskError as error:  # which is of the class of its cause, too
        raise error.cause from None
    except DedupError:
        raise
    except exceptions.RayError as error:
        raise EngineError(f"Ray gave up: {one_line(error)}; the same run goes on from here") from (
            error
        )
