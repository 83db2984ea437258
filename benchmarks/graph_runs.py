"""What the processes of `benchmarks.end_to_end` do: the graph, its functions, an empty graph.

Each starts its clock after all imports and after its Dagster instance is open.
"""

import cProfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console

import dedup_assets.stages.plot  # noqa: F401  (imported late by the product; no clock counts it)
from benchmarks.child import peak_memory_mib
from benchmarks.empty_graph import run_empty_graph
from benchmarks.stages import Stopwatch, call_stages, stages_timed_in_place
from dedup_assets.assets import build_assets
from dedup_assets.command.instance import open_instance, use_instance
from dedup_assets.command.plan import plan_run
from dedup_assets.command.runner import run_graph
from dedup_assets.command.settings_file import write_settings
from dedup_assets.command.terminal import TerminalProgress
from dedup_assets.progress import listening
from dedup_assets.settings import Settings
from dedup_assets.store.filesystem import Store


def graph(settings: dict[str, Any], profile: str | None = None) -> dict[str, Any]:
    """The graph through Dagster, as the command runs it."""
    parsed = Settings.of(**settings)
    use_instance(parsed.storage.output_path)
    write_settings(parsed, Store(parsed.storage.output_path))
    watch, clock = Stopwatch(), Stopwatch()
    with open_instance() as instance, stages_timed_in_place(watch):
        before = peak_memory_mib()
        with _profiled(profile), listening(TerminalProgress(Console())):
            work = plan_run(parsed, parsed.storage.open_output(), instance)
            report = clock.timed("all", run_graph)(parsed, instance, work)
        events = count_events(parsed, instance)
    return {
        **_seconds(clock, watch),
        "dagster_inside_s": clock.wall["all"] - sum(watch.wall.values()),
        "dagster_inside_processor_s": clock.processor["all"] - sum(watch.processor.values()),
        "step_s": report.seconds,
        "before_mib": before,
        "result": {
            entry["partition"]: {k: entry[k] for k in ("kept", "removed", "fingerprint")}
            for entry in report.metadata["duplicate_ids"]
        },
        "events": events,
    }


def functions(settings: dict[str, Any], profile: str | None = None) -> dict[str, Any]:
    """The same stages without Dagster."""
    parsed = Settings.of(**settings)
    watch, clock = Stopwatch(), Stopwatch()
    before = peak_memory_mib()
    with _profiled(profile), listening(TerminalProgress(Console())):
        result = clock.timed("all", call_stages)(parsed, watch)
    return {**_seconds(clock, watch), "before_mib": before, "result": result}


def empty(
    settings: dict[str, Any], metadata: bool = True, profile: str | None = None
) -> dict[str, Any]:
    """A graph with the same keys that does nothing."""
    parsed = Settings.of(**settings)
    use_instance(parsed.storage.output_path)
    clock = Stopwatch()
    with open_instance() as instance:
        with _profiled(profile):
            clock.timed("all", run_empty_graph)(parsed, instance, metadata=metadata)
        events = count_events(parsed, instance)
    return {**_seconds(clock, Stopwatch()), "events": events}


def count_events(settings: Settings, instance: dg.DagsterInstance) -> dict[str, Any]:
    """What the instance holds: materializations by asset and key, and all events by type."""
    assets: dict[str, dict[str, int]] = {}
    for definition in build_assets(settings):
        spec = definition.get_asset_spec()
        asked: list[str | None] = [None]
        if isinstance(spec.partitions_def, dg.StaticPartitionsDefinition):
            asked = [*spec.partitions_def.get_partition_keys()]
        elif spec.partitions_def is not None:
            asked = [*settings.thresholds.eps_thresholds]
        found = Counter(_materialized_keys(instance, spec.key))
        assets[spec.key.path[-1]] = {
            "keys": len(asked),
            "materializations": sum(found.values()),
            "keys_with_exactly_one": sum(found[key] == 1 for key in asked),
        }
    types: Counter[str] = Counter()
    for run in instance.get_runs():
        for entry in instance.all_logs(run.run_id):
            event = entry.dagster_event
            types[event.event_type_value if event is not None else "LOG_LINE"] += 1
    home = Path(instance.root_directory)
    return {
        "materializations": assets,
        "by_type": dict(sorted(types.items())),
        "all": sum(types.values()),
        "instance_bytes": sum(f.stat().st_size for f in home.rglob("*") if f.is_file()),
    }


def _materialized_keys(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[str | None]:
    cursor = None
    while True:
        page = instance.fetch_materializations(key, limit=500, cursor=cursor)
        for record in page.records:
            yield record.partition_key
        if not page.has_more:
            return
        cursor = page.cursor


def _seconds(clock: Stopwatch, watch: Stopwatch) -> dict[str, Any]:
    return {
        "wall_s": clock.wall["all"],
        "processor_s": clock.processor["all"],
        "stage_s": watch.wall,
        "stage_processor_s": watch.processor,
    }


@contextmanager
def _profiled(path: str | None) -> Iterator[None]:
    """Write a profile for ``pstats``; what it adds spoils the times."""
    if path is None:
        yield
        return
    profile = cProfile.Profile(time.perf_counter)
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        profile.dump_stats(path)
