"""What a worker of Ray's runs; it knows its tasks and nothing of Ray but where objects lie."""

import importlib
from collections.abc import Iterator
from typing import Any

from threadpoolctl import threadpool_limits

from dedup_assets.errors import EngineError


def own_version() -> str:
    """Of the package in this process."""
    return str(importlib.import_module(__package__.partition(".")[0]).__version__)


_held: dict[str, Any] = {}
"""What the tasks have in common that this process does now, by the object that it came in."""


def run_task(version: str, work: Any, common: list[Any], task: Any, threads: int) -> list[Any]:
    """Do one task.

    Args:
        version: of the package that sent it.
        work: as for `dedup_assets.engine.run_tasks`.
        common: one reference to what the tasks have in common, in a list: Ray would read what an
            argument of its own refers to anew for each task.
        task: one of them.
        threads: that linear algebra may use.

    Raises:
        EngineError: this process has another version of the package.
    """
    if version != own_version():
        raise EngineError(
            f"the Ray workers have dedup-assets {own_version()}, and this is {version}; install "
            "one version on all of them"
        )
    with threadpool_limits(threads, user_api="blas"):
        return list(_results(work, _of(common[0]), task))


def _results(work: Any, common: Any, task: Any) -> Iterator[Any]:
    return work(common, [task], lambda units: None)


def _of(reference: Any) -> Any:
    name = reference.hex()
    if name not in _held:
        _held.clear()
        _held[name] = importlib.import_module("ray").get(reference)
    return _held[name]
