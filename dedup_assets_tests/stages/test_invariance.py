"""The result is a function of rows and settings, not of how they are cut or computed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.duplicates import list_duplicates
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.partitioning import shuffle
from dedup_assets.stages.scores import score
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets_tests.conftest import (
    Results,
    bytes_of,
    make_settings,
    run_stages,
    write_inputs,
    write_parquet,
)

pytestmark = pytest.mark.slow

N, CLUSTERS = 60, 4
RNG = np.random.default_rng(7)
NAMES = [f"clip/{i:02d}.v" for i in range(N)]
VECTORS = np.float32(RNG.normal(size=(5, 6))[RNG.integers(0, 5, N)] + RNG.normal(size=(N, 6)) / 3)
VECTORS[40:50] = VECTORS[:10]


def outcome(results: Results) -> dict[str, Any]:
    """What may not change; names and footers of tables follow from files and groups."""
    out = bytes_of(results.settings.storage.output_path)
    return {"rows": results.all_pairs()} | {
        name: data
        for name, data in out.items()
        if name.endswith(".csv") or name == layout.CENTROIDS
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Results:
    path = tmp_path_factory.mktemp("plain")
    write_parquet(path / "in" / "all.parquet", NAMES, VECTORS)
    options = {"n_clusters": CLUSTERS, "eps_thresholds": ["0", "0.05"]}
    return run_stages(make_settings(path, **options), curate=False)


@settings(max_examples=25)
@given(
    order=st.permutations(range(N)),
    cuts=st.lists(st.integers(0, N), max_size=6),
    names=st.permutations("abcdefg"),
    files_per_partition=st.sampled_from([None, 1, 2, 5]),
    clusters_per_partition=st.sampled_from([None, 1, 2, 3]),
    form=st.sampled_from(["list", "large_list", "fixed_size_list"]),
    row_group_size=st.sampled_from([None, 1, 7]),
    batch=st.sampled_from([None, 1, 8]),
    budget=st.sampled_from([None, 20_000]),
)
def test_files_groups_keys_and_budgets_change_nothing(
    plain: Results,
    tmp_path_factory: pytest.TempPathFactory,
    order: list[int],
    cuts: list[int],
    names: list[str],
    files_per_partition: int | None,
    clusters_per_partition: int | None,
    form: str,
    row_group_size: int | None,
    batch: int | None,
    budget: int | None,
):
    path = tmp_path_factory.mktemp("other")
    bounds = [0, *sorted(cuts), N]
    for name, first, last in zip(names, bounds, bounds[1:], strict=False):
        rows = order[first:last]
        file = path / "in" / name / f"{name}.parquet"
        write_parquet(
            file,
            pa.array([NAMES[i] for i in rows], pa.string()),
            VECTORS[rows] if len(rows) else [],
            form=form if len(rows) else "list",
            row_group_size=row_group_size,
        )
    options = {"n_clusters": CLUSTERS, "eps_thresholds": ["0", "0.05"]}
    changed = make_settings(
        path,
        files_per_partition=files_per_partition,
        clusters_per_partition=clusters_per_partition,
        pairwise_batch_size=batch,
        memory_budget=budget,
        **options,
    )
    assert outcome(run_stages(changed, curate=False)) == outcome(plain)
    shutil.rmtree(path)


@settings(max_examples=10)
@given(st.lists(st.sets(st.sampled_from(["0", "1", "2", "3"]), min_size=1), max_size=4))
def test_keys_in_several_subsets_leave_the_bytes_of_one_run(
    plain: Results, tmp_path_factory: pytest.TempPathFactory, subsets: list[set[str]]
):
    """A backfill with gaps becomes several runs; no step may assume that it has all keys."""
    path = tmp_path_factory.mktemp("subsets")
    ours = plain.settings.replace(output_path=str(path / "out"), clusters_per_partition=1)
    store = Store(ours.storage.output_path)
    fit_centroids(ours, store, list_embeddings(ours, store), refit=False)
    rest = set(cluster_ranges(ours)).difference(*subsets)
    for keys in [*subsets, rest] if rest else subsets:
        shuffle(Snapshot(ours, store), sorted(keys, reverse=True))
        score(Snapshot(ours, store), sorted(keys))
    for eps in ours.thresholds.eps_thresholds:
        list_duplicates(Snapshot(ours, store), eps)
    once = path / "once"
    run_stages(ours.replace(output_path=str(once)), curate=False)
    assert bytes_of(path / "out") == bytes_of(once)
    shutil.rmtree(path)


def test_a_group_past_the_memory_budget_spills_and_leaves_the_same_bytes(
    plain: Results, tmp_path: Path
):
    centroids = Path(plain.settings.storage.output_path) / "clustering_results"
    ours = plain.settings.replace(output_path=str(tmp_path / "out"), memory_budget=400)
    for name in ("kmeans_centroids.npy", "kmeans_centroids.json"):
        target = tmp_path / "out" / "clustering_results" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(centroids / name, target)
    results = run_stages(ours, curate=False)
    assert results.centroids.reused
    assert results.shuffled.spilled_bytes > VECTORS.nbytes  # the columns too
    assert bytes_of(ours.storage.output_path) == bytes_of(plain.settings.storage.output_path)


def test_float_width_of_the_input_decides_only_the_rounding(tmp_path: Path):
    """Float16 rows that are exact in all three types give one result."""
    exact = np.float16(VECTORS).astype(np.float64)
    outcomes = []
    for type_ in (pa.float16(), pa.float32(), pa.float64()):
        path = tmp_path / str(type_)
        write_inputs(path / "in", NAMES, exact, files=2, value_type=type_)
        outcomes.append(outcome(run_stages(make_settings(path, n_clusters=3), curate=False)))
    assert outcomes[0] == outcomes[1] == outcomes[2]
