"""What the processes of `benchmarks.engine` do."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.stages import Stopwatch, stage_function


def stages(settings: dict[str, Any], output: str) -> dict[str, Any]:
    """Processor seconds of each stage."""
    watch = Stopwatch()
    _run(settings, output, watch)
    return {"processor": watch.processor, "wall": watch.wall}


def whole(settings: dict[str, Any], output: str) -> dict[str, Any]:
    """Seconds of all stages."""
    watch = Stopwatch()
    _run(settings, output, watch)
    return {"seconds": sum(watch.wall.values())}


def rate(settings: dict[str, Any], output: str, workers: int) -> dict[str, Any]:
    """Seconds of the stages that have tasks, on so many processors."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:workers])
    from dedup_assets.engine import session
    from dedup_assets.settings import Settings
    from dedup_assets.stages.machine import engine_of

    watch = Stopwatch()
    parsed = Settings.of(**settings, output_path=output)
    with session(engine_of(parsed)):
        _run(settings, output, watch)
    return {"seconds": sum(watch.wall.values()), "stages": watch.wall}


def overhead(tasks: int) -> dict[str, Any]:
    """Milliseconds of a task of Ray's that does nothing, beyond the first ones."""
    from dedup_assets.engine import Engine, run_tasks, session

    engine = Engine("ray")
    with session(engine):
        for count in (20, tasks):
            began = time.perf_counter()
            for _ in run_tasks(
                engine, nothing, _Nothing(), range(count), lambda units: None, weight=int
            ):
                pass
            seconds = time.perf_counter() - began
    return {"milliseconds": 1000 * seconds / tasks}


@dataclass(frozen=True)
class _Nothing:
    pass


def nothing(common: Any, tasks: Iterable[int], advance: Any) -> Iterator[None]:
    for _ in tasks:
        yield None


def _run(settings: dict[str, Any], output: str, watch: Stopwatch) -> None:
    from dedup_assets.settings import Settings
    from dedup_assets.state.ranges import cluster_ranges
    from dedup_assets.state.snapshot import Snapshot

    parsed = Settings.of(**settings, output_path=output)
    store, keys = parsed.storage.open_output(), list(cluster_ranges(parsed))

    def timed(name: str, *arguments: Any, **options: Any) -> Any:
        return watch.timed(name, stage_function(name))(*arguments, **options)

    manifest = timed("embeddings", parsed, store)
    timed("centroids", parsed, store, manifest, refit=False)
    timed("cluster_partitions", Snapshot(parsed, store), keys)
    timed("pairwise_scores", Snapshot(parsed, store), keys)
    timed("missed_by_clustering", Snapshot(parsed, store))
    timed("duplicate_ids", Snapshot(parsed, store), "0.01")
