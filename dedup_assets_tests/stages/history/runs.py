"""Runs of all stages or of what a plan names, and what stops them."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from dedup_assets import graph
from dedup_assets.settings import Settings
from dedup_assets.stages import comparing, missed, plot, score_batches, scores
from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.duplicates import list_duplicates
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.histogram import build_histogram
from dedup_assets.stages.partitioning import shuffle
from dedup_assets.stages.plan import Work, plan_work
from dedup_assets.stages.shards import write_shards
from dedup_assets.state import groups
from dedup_assets.state.manifest import load_manifest
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store.filesystem import Store


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Acts:
    """The writes and deletions of stores below one folder, each with a moment before and after.

    Attributes:
        done: all of them, in order.
        deadly: that at which the process ends, or how it begins; from then on it does nothing.
    """

    done: list[str] = field(default_factory=list)
    deadly: str | None = None
    by_prefix: bool = False
    dead: bool = False

    def reach(self, act: str) -> None:
        self.done.append(act)
        if self.deadly is not None:
            self.dead |= act.startswith(self.deadly) if self.by_prefix else act == self.deadly
        if self.dead:
            raise Killed(act)


def kind_of(act: str) -> str:
    """An act with the folder, or the name, of what is written without numbers."""
    moment, doing, name = act.split(" ", 2)
    parts = name.split("/")
    return f"{moment} {doing} {'/'.join(parts[:2] if len(parts) > 2 else parts[:1])}"


@dataclass
class Watched:
    """What runs do: their acts, and how often each way of updating an output was taken."""

    acts: Acts = field(default_factory=Acts)
    seen: Counter[str] = field(default_factory=Counter)


def watch_acts(patch: pytest.MonkeyPatch, watched: Watched) -> None:
    """See, and stop, what is written and deleted."""
    write, delete = Store.write, Store.delete

    @contextlib.contextmanager
    def writing(store: Store, name: str) -> Iterator[Any]:
        watched.acts.reach(f"before writing {name}")
        with write(store, name) as file:
            yield file
        watched.acts.reach(f"after writing {name}")

    def deleting(store: Store, name: str) -> None:
        there = store.exists(name)
        if there:
            watched.acts.reach(f"before deleting {name}")
        delete(store, name)
        if there:
            watched.acts.reach(f"after deleting {name}")

    patch.setattr(Store, "write", writing)
    patch.setattr(Store, "delete", deleting)


def draw_quickly(patch: pytest.MonkeyPatch) -> None:
    """Write text instead of a picture, which takes longer than all else together."""
    patch.setattr(plot, "draw", lambda table, rows: f"{table.to_pydict()} {rows}".encode())


def run_all(settings: Settings) -> None:
    """Every stage, on all keys and eps."""
    keys = tuple(Snapshot(settings, settings.storage.open_output()).ranges)
    for asset in settings.assets_made:
        match graph.PARTITIONED.get(asset):
            case "clusters":
                make(settings, Work(asset, "asked for", keys))
            case "eps":
                for eps in settings.thresholds.eps_thresholds:
                    make(settings, Work(asset, "asked for", (eps,)))
            case _:
                make(settings, Work(asset, "asked for"))


def run_planned(settings: Settings) -> list[Work]:
    """What the plan names, as the command does."""
    work = plan_work(settings, settings.storage.open_output())
    for item in work:
        make(settings, item)
    return work


def make(settings: Settings, work: Work) -> None:
    """Run the stage of an asset."""
    store = settings.storage.open_output()
    snapshot = Snapshot(settings, store)
    match work.asset:
        case graph.EMBEDDINGS:
            list_embeddings(settings, store)
        case graph.CENTROIDS:
            fit_centroids(settings, store, load_manifest(settings, store), refit=False)
        case graph.CLUSTER_PARTITIONS:
            shuffle(snapshot, list(work.keys))
        case graph.PAIRWISE_SCORES:
            scores.score(snapshot, list(work.keys))
        case graph.MISSED_BY_CLUSTERING:
            missed.estimate_missed(snapshot)
        case graph.SIMILARITY_HISTOGRAM:
            build_histogram(snapshot)
        case graph.DUPLICATE_IDS:
            list_duplicates(snapshot, work.keys[0])
        case graph.CURATED_SHARDS if work.keys[0] == settings.thresholds.eps_to_extract:
            write_shards(snapshot, work.keys[0])


def watch_paths(patch: pytest.MonkeyPatch, seen: Counter[str]) -> None:
    """Count how often each way of bringing an output up to date was taken."""
    score, recover = scores.score, score_batches._recover
    estimate, join = missed.estimate_missed, groups._joined

    def scoring(snapshot: Snapshot, keys: list[str]) -> Any:
        done = score(snapshot, keys)
        seen["updated clusters"] += sum(key.updated for key in done.values())
        return done

    def recovering(*args: Any) -> Any:
        table = recover(*args)
        seen["recovered tables"] += table is not None
        return table

    def estimating(snapshot: Snapshot) -> Any:
        found = estimate(snapshot)
        seen["sample updates"] += found is not None and found.compared_with_new > 0
        return found

    def joining(settings: Settings, before: list[Any]) -> Any:
        after = join(settings, before)
        seen["joined groups"] += len(after) < len(before)
        return after

    patch.setattr(scores, "score", scoring)
    patch.setattr(score_batches, "_recover", recovering)
    patch.setattr(missed, "estimate_missed", estimating)
    patch.setattr(groups, "_joined", joining)
    patch.setattr(comparing, "FEWEST_UPDATED", 4)
