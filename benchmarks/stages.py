"""The product's stage functions in the order of the graph, called directly or timed in place."""

import functools
import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from dedup_assets.settings import Settings
from dedup_assets.store.filesystem import Store

CALLS = (
    ("embeddings", "dedup_assets.assets.embeddings", "list_embeddings"),
    ("centroids", "dedup_assets.assets.centroids", "fit_centroids"),
    ("cluster_partitions", "dedup_assets.assets.cluster_partitions", "shuffle"),
    ("pairwise_scores", "dedup_assets.assets.pairwise_scores", "score"),
    ("missed_by_clustering", "dedup_assets.assets.missed_by_clustering", "estimate_missed"),
    ("missed_beside", "dedup_assets.assets.similarity_histogram", "find_missed"),
    ("similarity_histogram", "dedup_assets.assets.similarity_histogram", "build_histogram"),
    ("ids_unique", "dedup_assets.checks", "verify_unique"),
    ("missed_at_eps", "dedup_assets.assets.duplicate_ids", "find_missed"),
    ("missed_below_limit", "dedup_assets.checks", "verify_missed"),
    ("duplicate_ids", "dedup_assets.assets.duplicate_ids", "list_duplicates"),
    ("tables_match_ledger", "dedup_assets.checks", "verify_sampled_tables"),
    ("lists_match_ledger", "dedup_assets.checks", "verify_sampled_lists"),
    ("rows_conserved", "dedup_assets.checks", "verify_conservation"),
    ("removed_have_match", "dedup_assets.checks", "verify_removed"),
    ("curated_shards", "dedup_assets.assets.curated_shards", "write_shards"),
    ("shards_hold_kept", "dedup_assets.checks", "verify_shards"),
)
"""Of each asset and check: its name, the module that calls its stage, and the function."""


class Stopwatch:
    """Wall and processor seconds by name."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.processor: dict[str, float] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            wall, processor = time.perf_counter(), time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
                self.processor[name] = (
                    self.processor.get(name, 0.0) + time.process_time() - processor
                )

        return call


@contextmanager
def stages_timed_in_place(watch: Stopwatch) -> Iterator[None]:
    """Time the stages where the assets and checks call them."""
    patches = []
    for name, module_name, function in CALLS:
        module = importlib.import_module(module_name)
        original = getattr(module, function)
        patches.append(patch.object(module, function, watch.timed(name, original)))
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


def stage_function(name: str) -> Callable[..., Any]:
    """The function behind an asset or check of `CALLS`."""
    module, function = next((m, f) for found, m, f in CALLS if found == name)
    return getattr(importlib.import_module(module), function)


def call_scoring(settings: Settings, watch: Stopwatch) -> None:
    """Do what the assets up to the scores do, without Dagster."""
    from dedup_assets.state.ranges import cluster_ranges

    run = {name: watch.timed(name, stage_function(name)) for name, _, _ in CALLS[:4]}
    keys = list(cluster_ranges(settings))
    run["embeddings"](settings, _snapshot(settings).store)
    state = _snapshot(settings)
    run["centroids"](settings, state.store, state.manifest, refit=False)
    run["cluster_partitions"](_snapshot(settings), keys)
    run["pairwise_scores"](_snapshot(settings), keys)


def _snapshot(settings: Settings) -> Any:
    from dedup_assets.state.snapshot import Snapshot

    opened = Store(settings.storage.output_path)
    opened.sweep()
    return Snapshot(settings, opened)


def call_stages(settings: Settings, watch: Stopwatch) -> dict[str, Any]:
    """Do what the assets and checks do, without Dagster. Returns what came out at each eps."""
    from dedup_assets.state.snapshot import Snapshot

    run = {name: watch.timed(name, stage_function(name)) for name, _, _ in CALLS}

    def snapshot() -> Snapshot:
        return _snapshot(settings)

    def check(name: str, *eps: str) -> None:
        verdict = run[name](snapshot(), *eps)
        if not verdict.passed:
            raise RuntimeError(f"{name}: {verdict.description}")

    call_scoring(settings, watch)
    check("tables_match_ledger")
    run["missed_by_clustering"](snapshot())
    run["missed_below_limit"](snapshot())
    state = snapshot()
    run["similarity_histogram"](state)
    run["missed_beside"](state)
    check("ids_unique")
    out = {}
    for eps in settings.thresholds.eps_thresholds:
        state = snapshot()
        found = run["duplicate_ids"](state, eps)
        run["missed_at_eps"](state)
        out[eps] = {"kept": found.kept, "removed": found.removed, "fingerprint": found.fingerprint}
        for name in ("rows_conserved", "removed_have_match", "lists_match_ledger"):
            check(name, eps)
        if eps == settings.thresholds.eps_to_extract:
            run["curated_shards"](snapshot(), eps)
            check("shards_hold_kept", eps)
    return out
