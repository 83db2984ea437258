"""What a step reads is what the graph shows: dependencies, leases and opened files are one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import dagster as dg
import pytest

from dedup_assets.assets import common
from dedup_assets.component import build_definitions
from dedup_assets.graph import (
    CENTROIDS,
    CLUSTER_PARTITIONS,
    CURATED_SHARDS,
    DUPLICATE_IDS,
    EMBEDDINGS,
    MISSED_BY_CLUSTERING,
    PAIRWISE_SCORES,
    READS,
    SCORING,
    SIMILARITY_HISTOGRAM,
)
from dedup_assets.settings import Settings
from dedup_assets.state.seen import _seen as seen
from dedup_assets.store.filesystem import Store
from dedup_assets.store.locks import writing
from dedup_assets_tests.assets.helpers import (
    clip_ids,
    make_settings,
    run_curation,
    run_scoring,
    steps,
    write_clips,
)

pytestmark = pytest.mark.slow

EPS = "0.05"
PER_CLUSTER = ("extraction/semdedup_pruning_tables/", "extraction/unique_ids_")

OWNERS = {
    "embeddings/": EMBEDDINGS,
    "clustering_results/kmeans_centroids.": CENTROIDS,
    "clustering_results/embs_by_nearest_center/": CLUSTER_PARTITIONS,
    "clustering_results/partitions/": CLUSTER_PARTITIONS,
    "rejected/": CLUSTER_PARTITIONS,
    "extraction/semdedup_pruning_tables/": PAIRWISE_SCORES,
    "extraction/scores/": PAIRWISE_SCORES,
    "extraction/missed_by_clustering.parquet": MISSED_BY_CLUSTERING,
    "extraction/similarity_histogram.": SIMILARITY_HISTOGRAM,
    "extraction/unique_ids_": DUPLICATE_IDS,
    "extraction/duplicates/": DUPLICATE_IDS,
    "extraction/dedup_summary_": DUPLICATE_IDS,
    "shards/": CURATED_SHARDS,
}
"""Which asset writes the files whose names start so."""


def owner(name: str) -> str:
    found = [asset for start, asset in OWNERS.items() if name.startswith(start)]
    assert len(found) == 1, f"{name} is written by {found}"
    return found[0]


def run_alone(
    settings: Settings, instance: dg.DagsterInstance, name: str
) -> dg.ExecuteInProcessResult:
    if name in SCORING:
        return run_scoring(settings, instance, only=[name])
    return run_curation(settings, instance, EPS, only=[name])


def test_dependencies_of_each_asset_are_those_of_the_table(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    graph = build_definitions(settings).resolve_asset_graph()
    found = {
        key.path[-1]: {parent.path[-1] for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert found == {name: set(settings.reads(name)) for name in settings.assets_made}


def test_missed_by_clustering_depends_on_partitions_and_is_read_by_what_shows_it() -> None:
    assert CLUSTER_PARTITIONS in READS[MISSED_BY_CLUSTERING]
    assert PAIRWISE_SCORES not in READS[MISSED_BY_CLUSTERING]
    readers = {name for name, reads in READS.items() if MISSED_BY_CLUSTERING in reads}
    assert readers == {SIMILARITY_HISTOGRAM, DUPLICATE_IDS}


def test_table_is_in_an_order_in_which_the_assets_can_be_made() -> None:
    made: set[str] = set()
    for name, reads in READS.items():
        assert made.issuperset(reads), name
        made.add(name)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_clips(tmp_path / "clips", clip_ids())
    return make_settings(tmp_path, clips_path=str(tmp_path / "clips"), metadata_fields=[])


def test_each_step_opens_files_of_what_it_depends_on_and_of_nothing_else(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice, since a step that finds everything current reads other files than the first one."""
    opened: list[str] = []
    open_ = Store.open

    def audited(store: Store, name: str) -> IO[bytes]:
        if store.root == settings.storage.output_path:
            opened.append(name)
        return open_(store, name)

    monkeypatch.setattr(Store, "open", audited)
    for time in ("first", "again"):
        for name in settings.assets_made:
            reads = settings.reads(name)
            opened.clear()
            seen.clear()  # as a process of its own would find it
            result = run_alone(settings, instance, name)
            assert result.success, name
            assert steps(result, dg.DagsterEventType.STEP_SUCCESS)[0] == name
            owners = {owner(file) for file in opened}
            assert owners - {name} <= set(reads), (time, name)
            if time == "first":
                assert owners >= set(reads), f"{name} reads nothing of some of its dependencies"


def test_steps_after_comparing_read_ledgers_and_no_file_of_a_cluster(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_scoring(settings, instance).success
    assert run_curation(settings, instance, EPS).success
    opened: list[str] = []
    open_ = Store.open

    def audited(store: Store, name: str) -> IO[bytes]:
        opened.append(name)
        return open_(store, name)

    stage_ = common.writing

    @contextmanager
    def audited_stage(*arguments: Any, **options: Any) -> Iterator[None]:
        """Of the asset alone: its checks compare the files with each other."""
        with stage_(*arguments, **options), monkeypatch.context() as patch:
            patch.setattr(Store, "open", audited)
            yield

    monkeypatch.setattr(common, "writing", audited_stage)
    (Path(settings.storage.output_path) / "extraction/similarity_histogram.parquet").unlink()
    (Path(settings.storage.output_path) / f"shards/eps={EPS}/index.parquet").unlink()
    assert run_scoring(settings, instance, only=[SIMILARITY_HISTOGRAM]).success
    assert run_curation(settings, instance, EPS).success
    assert run_curation(settings, instance, "0.001", only=[DUPLICATE_IDS]).success
    assert [name for name in opened if name.startswith("extraction/scores/")]
    assert [name for name in opened if name.startswith(PER_CLUSTER)] == []


def test_leases_are_held_on_what_each_asset_reads(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: dict[str, set[str]] = {}

    def recorded(
        store: Store,
        asset: str,
        keys: Sequence[str],
        *,
        reads: Mapping[str, Sequence[str]],
        run: str,
    ) -> Any:
        assert all(reads.values())
        held[asset] = set(reads)
        return writing(store, asset, keys, reads=reads, run=run)

    monkeypatch.setattr(common, "writing", recorded)
    assert run_scoring(settings, instance).success
    assert run_curation(settings, instance, EPS).success
    assert held == {name: set(settings.reads(name)) for name in settings.assets_made}
