"""What clustering misses, in a graph: the check that warns, and the graph without it."""

from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from dedup_assets.settings import Settings
from dedup_assets_tests.assets.helpers import (
    make_settings,
    metadata_of,
    run_curation,
    run_scoring,
)

pytestmark = pytest.mark.slow

EPS = "0.3"
MISSED = "extraction/missed_by_clustering.parquet"


def check_of(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    evaluations = result.get_asset_check_evaluations()
    return next(e for e in evaluations if e.check_name == "missed_share")


def scored(root: Path, instance: dg.DagsterInstance, **changes: Any) -> tuple[Settings, Any]:
    """Forty clusters for thirty pairs of near copies, so some pairs are parted."""
    options = {"n_clusters": 40, "clusters_per_partition": 20, "eps_thresholds": [EPS]}
    settings = make_settings(root, **{**options, "eps_to_extract": None, **changes})
    return settings, check_of(run_scoring(settings, instance))


def test_share_above_the_limit_warns_and_stops_nothing(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings, check = scored(tmp_path, instance, missed_limit=0)
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert not check.blocking
    assert "clustering misses more than missed_limit 0 of the duplicates" in check.description
    assert str(tmp_path / "output" / MISSED) in check.description
    assert run_curation(settings, instance, EPS).success
    assert check.metadata["worst"].value > 0
    _, check = scored(tmp_path, instance, missed_limit=1)
    assert check.passed


def test_switched_off_there_is_no_column_no_file_and_a_check_that_says_so(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    scored(tmp_path, instance)
    assert (tmp_path / "output" / MISSED).exists()
    settings, check = scored(tmp_path, instance, missed_sample=0)
    assert check.passed
    assert check.description == "not estimated: missed_sample is 0"
    assert not (tmp_path / "output" / MISSED).exists()
    numbers = metadata_of(instance, settings, "missed_by_clustering")
    assert (numbers["sampled"], numbers["dagster/row_count"]) == (0, 0)
    assert "dagster/uri" not in numbers
    metadata = metadata_of(instance, settings, "similarity_histogram")
    table = metadata["share_removed_by_eps"]
    assert "missed" not in table.records[0].data
    assert "missed" not in [column.name for column in table.schema.columns]
    assert run_curation(settings, instance, EPS).success
    assert "missed_by_clustering" not in metadata_of(instance, settings, "duplicate_ids", EPS)


def test_one_cluster_misses_nothing(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings, check = scored(tmp_path, instance, n_clusters=1, clusters_per_partition=1)
    assert check.passed
    assert check.metadata["worst"].value == 0
    for asset, table in (
        ("missed_by_clustering", "missed_by_eps"),
        ("similarity_histogram", "share_removed_by_eps"),
    ):
        records = metadata_of(instance, settings, asset)[table].records
        assert {r.data["missed_share"] for r in records} == {0.0}
    assert metadata_of(instance, settings, "missed_by_clustering")["sampled"] == 0
    assert not (tmp_path / "output" / MISSED).exists()


def test_metadata_say_how_many_rows_were_compared_with_what(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings, _ = scored(tmp_path, instance)
    metadata = metadata_of(instance, settings, "missed_by_clustering")
    assert metadata["compared_with_all"] == metadata["sampled"] > 0
    assert metadata["compared_with_new"] == 0


def test_missed_rows_can_be_looked_up_with_their_partners(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings, _ = scored(tmp_path, instance)
    rows = pq.read_table(tmp_path / "output" / MISSED).to_pylist()
    limit = 1 - float(EPS)
    missed = [r for r in rows if r["across_score"] >= limit and (r["within_score"] or -1) < limit]
    duplicates = [r for r in rows if max(r["across_score"], r["within_score"] or -1) >= limit]
    assert missed
    for asset, table in (
        ("missed_by_clustering", "missed_by_eps"),
        ("similarity_histogram", "share_removed_by_eps"),
    ):
        records = metadata_of(instance, settings, asset)[table].records
        record = next(r.data for r in records if r.data["eps"] == EPS)
        assert record["missed_share"] == round(len(missed) / len(duplicates), 6)
    assert all(r["across_cluster"] != r["cluster"] for r in missed)


def test_lists_can_be_made_where_the_sample_is_not_current(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """The share is shown beside a list, and decides nothing in it."""
    settings, _ = scored(tmp_path, instance)
    (tmp_path / "output" / MISSED).unlink()
    assert run_curation(settings, instance, EPS).success
    assert "missed_by_clustering" not in metadata_of(instance, settings, "duplicate_ids", EPS)
