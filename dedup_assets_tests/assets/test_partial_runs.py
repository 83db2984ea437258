"""Runs over some of the cluster partitions."""

from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from dedup_assets.assets.common import asset_key
from dedup_assets.graph import CLUSTER_PARTITIONS, PAIRWISE_SCORES, SIMILARITY_HISTOGRAM
from dedup_assets_tests.assets.helpers import (
    KEYS,
    clip_ids,
    contents,
    failure,
    make_settings,
    materialized,
    metadata_of,
    near_duplicates,
    run_curation,
    run_scoring,
    write_part,
)

pytestmark = pytest.mark.slow

BEFORE_SCORES = ("embeddings", "centroids", CLUSTER_PARTITIONS)


def test_histogram_names_the_partitions_whose_scores_are_missing(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """deps promise no completeness, so a histogram of half of the clusters could look whole."""
    settings = make_settings(tmp_path)
    assert run_scoring(settings, instance, only=BEFORE_SCORES).success
    assert run_scoring(settings, instance, KEYS[0], KEYS[0], only=[PAIRWISE_SCORES]).success
    result = run_scoring(settings, instance, only=[SIMILARITY_HISTOGRAM])
    assert not result.success
    asset, message = failure(result)
    assert asset == "similarity_histogram"
    assert "the scores of 4 of 6 clusters are missing or stale" in message
    assert "materialize pairwise_scores for partitions 2-3, 4-5" in message
    assert not (tmp_path / "output/extraction/similarity_histogram.parquet").exists()


def test_keys_with_a_gap_leave_the_clusters_between_untouched(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """Dagster makes two runs of a gap, so no code may take the asked keys for all of them."""
    settings = make_settings(tmp_path)
    assert run_scoring(settings, instance, only=BEFORE_SCORES[:2]).success
    for key in (KEYS[0], KEYS[2]):
        run = run_scoring(settings, instance, key, key, only=[CLUSTER_PARTITIONS, PAIRWISE_SCORES])
        assert run.success
        assert materialized(run) == [("cluster_partitions", key), ("pairwise_scores", key)]
    tables = tmp_path / "output/extraction/semdedup_pruning_tables"
    assert {p.name for p in tables.iterdir()} == {f"cluster_{i}.parquet" for i in (0, 1, 4, 5)}
    asset = asset_key(settings, PAIRWISE_SCORES)
    assert instance.get_materialized_partitions(asset) == {KEYS[0], KEYS[2]}
    asset_failed, message = failure(run_scoring(settings, instance, only=[SIMILARITY_HISTOGRAM]))
    assert asset_failed == "similarity_histogram"
    assert "partition 2-3" in message
    assert "materialize cluster_partitions" in message

    between = [CLUSTER_PARTITIONS, PAIRWISE_SCORES, SIMILARITY_HISTOGRAM]
    assert run_scoring(settings, instance, KEYS[1], KEYS[1], only=between).success
    assert metadata_of(instance, settings, SIMILARITY_HISTOGRAM)["all_rows"] == 60


def test_partitions_made_apart_equal_those_made_in_one_run(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """The result is a function of the data, not of the partitioning of the runs."""
    together = make_settings(tmp_path)
    assert run_scoring(together, instance).success
    apart = make_settings(tmp_path, dataset="apart", output_path=str(tmp_path / "apart"))
    assert run_scoring(apart, instance, only=BEFORE_SCORES[:2]).success
    for key in reversed(KEYS):
        only = [CLUSTER_PARTITIONS, PAIRWISE_SCORES]
        assert run_scoring(apart, instance, key, key, only=only).success
    for folder in ("clustering_results", "extraction/semdedup_pruning_tables"):
        one = {n: data for n, (_, data) in contents(tmp_path / "output" / folder).items()}
        two = {n: data for n, (_, data) in contents(tmp_path / "apart" / folder).items()}
        assert one == two


def test_added_input_makes_scores_stale_until_they_are_made_again(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path, files_per_partition=1)
    assert run_scoring(settings, instance).success
    assert run_curation(settings, instance, "0.001").success
    extra = near_duplicates(10, seed=1)
    write_part(tmp_path / "embeddings", extra, [f"new-{i}" for i in range(10)], "part-2.parquet")
    assert run_scoring(settings, instance, only=["embeddings"]).success

    asset, message = failure(run_curation(settings, instance, "0.001"))
    assert asset == "duplicate_ids"
    assert "materialize cluster_partitions" in message

    assert run_scoring(settings, instance).success
    assert metadata_of(instance, settings, "centroids")["reused"] is True
    rows = metadata_of(instance, settings, CLUSTER_PARTITIONS, KEYS[0])
    assert (rows["groups"], rows["reused_groups"]) == (3, 2)
    assert run_curation(settings, instance, "0.001").success
    assert metadata_of(instance, settings, "curated_shards")["kept"] > 30
    index = pq.read_table(tmp_path / "output/shards/eps=0.001/index.parquet")
    removed = metadata_of(instance, settings, "duplicate_ids", "0.001")["removed"]
    assert index.num_rows + removed == 70


def test_smaller_n_clusters_leaves_no_file_of_the_old_clusters(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path)
    assert run_scoring(settings, instance).success
    fewer = make_settings(tmp_path, n_clusters=4)
    assert run_scoring(fewer, instance).success
    output = tmp_path / "output"
    tables = output / "extraction/semdedup_pruning_tables"
    assert {p.name for p in tables.iterdir()} == {f"cluster_{i}.parquet" for i in range(4)}
    assert {p.stem for p in (output / "clustering_results/partitions").iterdir()} == {"0-1", "2-3"}
    assert metadata_of(instance, fewer, SIMILARITY_HISTOGRAM)["all_rows"] == 60
    with pytest.raises(AssertionError, match="never materialized"):
        metadata_of(instance, fewer, PAIRWISE_SCORES, "6-7")


def test_refit_fits_current_centroids_again(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    from dedup_assets.component import build_definitions

    settings = make_settings(tmp_path)
    job = build_definitions(settings).resolve_job_def("small_scoring")
    keys = [asset_key(settings, name) for name in BEFORE_SCORES[:2]]
    config = {"ops": {"small__centroids": {"config": {"refit": True}}}}
    for run_config, reused in (({}, False), ({}, True), (config, False)):
        result = job.execute_in_process(
            instance=instance, asset_selection=keys, run_config=run_config
        )
        assert result.success
        assert metadata_of(instance, settings, "centroids")["reused"] is reused


def test_rows_keep_their_ids_through_the_graph(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path)
    assert run_scoring(settings, instance).success
    tables = (tmp_path / "output/extraction/semdedup_pruning_tables").glob("*.parquet")
    ids = [id_ for table in tables for id_ in pq.read_table(table)["id"].to_pylist()]
    assert sorted(ids) == clip_ids()


def test_checks_of_some_keys_speak_of_those_that_are_there(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path)
    assert run_scoring(settings, instance, only=["embeddings", "centroids"]).success
    result = run_scoring(settings, instance, KEYS[1], KEYS[1], only=["cluster_partitions"])
    assert result.success
    said = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert said.keys() == {"rows_valid", "clusters_balanced"}
    assert "1 of 3 keys are there" in (said["clusters_balanced"].description or "")
