"""The whole graph on an instance on disk: what each asset leaves there."""

import json
from pathlib import Path

import dagster as dg
import pytest

from dedup_assets.assets.common import asset_key
from dedup_assets.graph import CURATION, SCORING
from dedup_assets.partitions import eps_partitions_name
from dedup_assets_tests.assets.conftest import Finished
from dedup_assets_tests.assets.helpers import (
    KEYS,
    ROWS,
    latest,
    materialized,
    metadata_of,
)

PARTITIONS: dict[str, list[str | None]] = {
    "embeddings": [None],
    "centroids": [None],
    "cluster_partitions": [*KEYS],
    "pairwise_scores": [*KEYS],
    "missed_by_clustering": [None],
    "similarity_histogram": [None],
    "duplicate_ids": ["0.05"],
    "curated_shards": ["0.05"],
}
EACH = [(name, partition) for name, keys in PARTITIONS.items() for partition in keys]


def test_scoring_over_all_clusters_succeeds_in_one_run(finished: Finished) -> None:
    assert [run.success for run in finished.scoring] == [True, True]
    assert [run.success for run in finished.curation] == [True, True]


def test_one_materialization_event_for_each_key_and_asset(finished: Finished) -> None:
    """An event costs 20 to 45 ms, so a second one for a key would double the bookkeeping."""
    for scoring, curation in zip(finished.scoring, finished.curation, strict=True):
        assert sorted(materialized(scoring) + materialized(curation), key=str) == sorted(
            EACH, key=str
        )


def test_every_asset_and_partition_shows_as_materialized(finished: Finished) -> None:
    for name in (*SCORING, *CURATION):
        key = asset_key(finished.settings, name)
        record = finished.instance.get_asset_records([key])[0]
        assert record.asset_entry.last_materialization is not None
        partitions = {p for p in PARTITIONS[name] if p is not None}
        assert finished.instance.get_materialized_partitions(key) == partitions


@pytest.mark.parametrize(("name", "partition"), EACH)
def test_every_materialization_says_rows_place_fingerprint_and_columns(
    finished: Finished, name: str, partition: str | None
) -> None:
    metadata = metadata_of(finished.instance, finished.settings, name, partition)
    assert Path(metadata["dagster/uri"]).exists()
    assert str(metadata["dagster/uri"]).startswith(finished.settings.storage.output_path)
    assert len(metadata["fingerprint"]) == 24
    assert isinstance(metadata["dagster/column_schema"], dg.TableSchema)


def test_row_counts_add_up_to_the_input(finished: Finished) -> None:
    def rows(name: str, partition: str | None = None) -> int:
        return metadata_of(finished.instance, finished.settings, name, partition)[
            "dagster/row_count"
        ]

    assert rows("embeddings") == ROWS
    assert rows("centroids") == finished.settings.clustering.n_clusters
    assert sum(rows("cluster_partitions", key) for key in KEYS) == ROWS
    assert sum(rows("pairwise_scores", key) for key in KEYS) == ROWS
    removed = rows("duplicate_ids", "0.05")
    assert 0 < removed < ROWS
    assert removed + rows("curated_shards", "0.05") == ROWS


def test_column_schemas_are_those_of_the_files(finished: Finished) -> None:
    def columns(name: str, partition: str | None = None) -> list[tuple[str, str]]:
        metadata = metadata_of(finished.instance, finished.settings, name, partition)
        return [(c.name, c.type) for c in metadata["dagster/column_schema"].columns]

    pairs = [("id", "string"), ("max_id", "string"), ("cosine_sim_score", "float")]
    assert columns("pairwise_scores", KEYS[0]) == pairs
    assert columns("duplicate_ids", "0.05") == pairs
    assert [name for name, _ in columns("embeddings")] == ["file", "rows", "bytes", "fingerprint"]
    assert [name for name, _ in columns("cluster_partitions", KEYS[0])] == [
        *("id", "embedding", "cosine_dist_to_cent", "l2_dist_to_cent")
    ]
    assert [name for name, _ in columns("curated_shards", "0.05")] == [
        *("id", "key", "shard", "offset", "size")
    ]


def test_the_shuffle_says_how_many_fragments_it_has_and_what_memory_it_took(
    finished: Finished,
) -> None:
    of_keys = [
        metadata_of(finished.instance, finished.settings, "cluster_partitions", k) for k in KEYS
    ]
    written = list(finished.output.glob("**/nearest_cent=*/*.parquet"))
    assert sum(metadata["fragments"] for metadata in of_keys) == len(written)
    for metadata in of_keys:
        assert metadata["fragments_in_run"] == len(written)
        assert metadata["spilled_bytes_in_run"] == 0
        assert metadata["process_peak_bytes"] > 10 << 20


def test_histogram_shows_a_plot_and_the_share_removed_by_eps(finished: Finished) -> None:
    metadata = metadata_of(finished.instance, finished.settings, "similarity_histogram")
    assert metadata["plot"].startswith("![similarity](data:image/png;base64,iVBOR")
    records = [r.data for r in metadata["share_removed_by_eps"].records]
    eps = [float(r["eps"]) for r in records]
    assert eps == sorted(eps)
    assert {"0.05", "0.001"} <= {r["eps"] for r in records}
    removed = [r["removed"] for r in records]
    assert removed == sorted(removed)
    at_eps = next(r["removed"] for r in records if r["eps"] == "0.05")
    listed = metadata_of(finished.instance, finished.settings, "duplicate_ids", "0.05")
    assert at_eps == listed["removed"] == listed["dagster/row_count"]


def test_what_clustering_misses_is_shown_at_each_eps(finished: Finished) -> None:
    """All 60 rows are sampled, so the shares are counts, and each eps has some duplicates."""
    metadata = metadata_of(finished.instance, finished.settings, "missed_by_clustering")
    records = {r.data["eps"]: r.data for r in metadata["missed_by_eps"].records}
    assert all(0 <= r["missed_share"] <= 1 for r in records.values() if float(r["eps"]) >= 0.001)
    assert records["0.05"]["missed"] == f"{records['0.05']['missed_share']:.1%}"
    assert records["0"] == {**records["0"], "missed_share": None} | {
        "missed": "no duplicates in the sample"
    }
    assert metadata["sampled"] == metadata["all_rows"] == ROWS
    assert Path(metadata["dagster/uri"]).name == "missed_by_clustering.parquet"
    histogram = metadata_of(finished.instance, finished.settings, "similarity_histogram")
    beside = {r.data["eps"]: r.data for r in histogram["share_removed_by_eps"].records}
    assert {eps: {**r, **records[eps]} for eps, r in beside.items()} == beside
    listed = metadata_of(finished.instance, finished.settings, "duplicate_ids", "0.05")
    assert listed["missed_by_clustering"] == records["0.05"]["missed"]


def test_missed_sample_is_compared_once(finished: Finished) -> None:
    metadata = metadata_of(finished.instance, finished.settings, "missed_by_clustering")
    assert metadata["reused"] is True


def test_numbers_say_what_a_run_did(finished: Finished) -> None:
    """The first run made everything and the second nothing; the UI plots each number over time."""

    def numbers(run: int, asset: str, *names: str) -> list[int]:
        made = finished.scoring[run].asset_materializations_for_node(f"small__{asset}")
        return [made[0].metadata[name].value for name in names]

    came = ("files_added", "files_removed", "rows_added", "rows_removed")
    assert numbers(0, "embeddings", *came) == [2, 0, ROWS, 0]
    assert numbers(1, "embeddings", *came) == [0, 0, 0, 0]
    done = ("clusters_compared", "rows_compared", "bytes_read")
    size = numbers(0, "embeddings", "bytes")
    assert numbers(0, "embeddings", "bytes_added") == size
    assert numbers(0, "similarity_histogram", *done) == [6, ROWS, *size]
    assert numbers(1, "similarity_histogram", *done) == [0, 0, 0]


def test_every_asset_that_is_not_of_clusters_says_how_long_it_took(finished: Finished) -> None:
    for name, partition in EACH:
        metadata = metadata_of(finished.instance, finished.settings, name, partition)
        assert ("seconds" in metadata) == (partition not in KEYS)


def test_column_lineage_leads_from_removed_ids_to_the_vectors(finished: Finished) -> None:
    def made_from(name: str, column: str, partition: str | None = None) -> tuple[str, str]:
        metadata = metadata_of(finished.instance, finished.settings, name, partition)
        (dep,) = metadata["dagster/column_lineage"].deps_by_column[column]
        return dep.asset_key.path[-1], dep.column_name

    score = "cosine_sim_score"
    assert made_from("duplicate_ids", score, "0.05") == ("pairwise_scores", score)
    assert made_from("pairwise_scores", score, KEYS[0]) == ("cluster_partitions", "embedding")
    assert made_from("pairwise_scores", "max_id", KEYS[0]) == ("cluster_partitions", "id")
    assert made_from("curated_shards", "id", "0.05") == ("pairwise_scores", "id")
    assert made_from("similarity_histogram", "count") == ("pairwise_scores", score)


def test_metadata_holds_no_nan(finished: Finished) -> None:
    """NaN is no JSON; the UI cannot load an asset that has one."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for name, partition in EACH:
        metadata = latest(finished.instance, finished.settings, name, partition).metadata
        for value in metadata.values():
            json.loads(dg.serialize_value(value), parse_constant=refuse)


@pytest.mark.parametrize(("name", "partition"), EACH)
def test_data_version_stays_when_a_rerun_finds_everything_current(
    finished: Finished, name: str, partition: str | None
) -> None:
    """Otherwise the UI calls all downstream eps partitions stale after a run that did nothing."""
    records = finished.instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=asset_key(finished.settings, name),
            asset_partitions=None if partition is None else [partition],
        ),
        limit=10,
    ).records
    versions = []
    for record in records:
        assert record.asset_materialization is not None
        versions.append((record.asset_materialization.tags or {})["dagster/data_version"])
    assert len(versions) == 2
    assert versions[0] == versions[1]


def test_rerun_reuses_everything(finished: Finished) -> None:
    for name in ("centroids", "missed_by_clustering", "similarity_histogram"):
        assert metadata_of(finished.instance, finished.settings, name)["reused"] is True
    for key in KEYS:
        scores = metadata_of(finished.instance, finished.settings, "pairwise_scores", key)
        assert scores["reused_clusters"] == scores["clusters"] == 2
        rows = metadata_of(finished.instance, finished.settings, "cluster_partitions", key)
        assert rows["reused_groups"] == rows["groups"]
    shards = metadata_of(finished.instance, finished.settings, "curated_shards", "0.05")
    assert shards["reused"] is True


def test_configured_eps_are_registered_by_the_histogram(finished: Finished) -> None:
    name = eps_partitions_name(finished.settings)
    assert name == "small/eps"
    assert set(finished.instance.get_dynamic_partitions(name)) == {"0.05", "0.001"}


def test_checks_pass_and_are_recorded_for_the_eps(finished: Finished) -> None:
    evaluations = finished.curation[-1].get_asset_check_evaluations()
    assert {(e.asset_key.path[-1], e.check_name, e.passed) for e in evaluations} == {
        ("duplicate_ids", "rows_conserved", True),
        ("duplicate_ids", "removed_have_match", True),
        ("duplicate_ids", "lists_match_ledger", True),
        ("duplicate_ids", "removed_steady", True),
        ("curated_shards", "shards_hold_kept", True),
    }
    conserved = next(e for e in evaluations if e.check_name == "rows_conserved")
    assert "= 60 input rows" in (conserved.description or "")
    steady = next(e for e in evaluations if e.check_name == "removed_steady")
    assert steady.metadata["now"].value == steady.metadata["before"].value > 0
    scoring = finished.scoring[-1].get_asset_check_evaluations()
    assert {(e.asset_key.path[-1], e.check_name) for e in scoring} == {
        ("cluster_partitions", "rows_valid"),
        ("cluster_partitions", "clusters_balanced"),
        ("pairwise_scores", "tables_match_ledger"),
        ("similarity_histogram", "ids_unique"),
        ("similarity_histogram", "centroids_fit"),
        ("missed_by_clustering", "missed_share"),
    }
