"""Who does the tasks of a step: this process, or the workers of a Ray cluster.

A stage plans tasks, gives them to `run_tasks` with the function that does them, and commits what
comes back. No other module knows which engine that is.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

from dedup_assets.progress import Advance

C = TypeVar("C")
T = TypeVar("T")
R = TypeVar("R")

Work = Callable[[C, Iterable[T], Advance], Iterator[R]]
"""Does some tasks, one after the other or overlapped, and yields the result of each.

It is called with what the tasks have in common, the tasks, and the function to call with units of
progress. It has to be a function of a module, so that a worker finds it.
"""


@dataclass(frozen=True)
class Engine:
    """Who does the tasks.

    Attributes:
        name: ``local`` or ``ray``.
        address: of the Ray cluster to join; none starts one on this machine for the step.
        cpus: processors that a task takes; None: 1, or its share of those of a node with GPUs.
        gpus: GPUs that a task takes that computes; None: 1 where tasks may compute on one.
        memory: bytes that a task reserves on its node; None reserves nothing.
        device: where tasks compute that may use a GPU: ``auto``, ``cpu`` or ``cuda``.
    """

    name: Literal["local", "ray"] = "local"
    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None
    memory: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Common:
    """Base of what the tasks of a stage have in common.

    Only its fields travel to other processes. Its cached properties are made anew in each and are
    kept there from task to task.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def run_tasks(
    engine: Engine,
    work: Work[C, T, R],
    common: C,
    tasks: Iterable[T],
    advance: Advance,
    *,
    weight: Callable[[T], int],
    computes: bool = True,
) -> Iterator[list[R]]:
    """Have tasks done; yields results as they come, those that are there together in one list.

    Args:
        engine: who does them.
        work: does them.
        common: what they have in common; sent once to each process.
        tasks: small values and names of files, never arrays, those that take longest first. They
            are taken as there is room for them.
        advance: called with units of progress.
        weight: units of a task.
        computes: whether they may use a GPU.

    Raises:
        EngineError: the cluster cannot be had, or lacks what a task asks for.
        Exception: what a task raised.
    """
    if engine.name == "local":
        for result in work(common, tasks, advance):
            yield [result]
        return
    from dedup_assets.engine import ray

    yield from ray.run_tasks(engine, work, common, tasks, advance, weight, computes=computes)


def session(engine: Engine) -> AbstractContextManager[None]:
    """Keep the engine for several calls of `run_tasks`: what has to be started is started once."""
    if engine.name == "local":
        return nullcontext()
    from dedup_assets.engine import ray

    return ray.session(engine)
