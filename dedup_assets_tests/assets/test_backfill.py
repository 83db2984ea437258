"""Backfills as the UI launches them."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.execution.backfill import BulkActionStatus

from dedup_assets.assets.common import asset_key
from dedup_assets.checks import BLOCKING
from dedup_assets.component import build_definitions
from dedup_assets.graph import CURATION
from dedup_assets.partitions import eps_partitions_name
from dedup_assets.runs import RANGE_END, RANGE_START
from dedup_assets_tests.assets.daemon import LAUNCHER, Daemon, daemon_over
from dedup_assets_tests.assets.helpers import (
    KEYS,
    make_settings,
    metadata_of,
    open_instance,
    run_scoring,
)

# Dagster's daemon calls what Dagster itself has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* is deprecated and will be removed in 2.0:DeprecationWarning"
)


def key_of(run: dg.DagsterRun) -> str:
    return run.tags["dagster/partition"]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("backfill")
    settings = make_settings(root, eps_thresholds=[], eps_to_extract=None)
    with (
        open_instance(root / "dagster", LAUNCHER) as instance,
        daemon_over(settings, instance) as daemon,
    ):
        assert run_scoring(settings, instance).success
        yield daemon


def test_backfill_over_eps_makes_one_run_for_each(daemon: Daemon) -> None:
    eps = ["0.001", "0.02", "0.05"]
    daemon.instance.add_dynamic_partitions(eps_partitions_name(daemon.settings), eps)
    backfill = daemon.backfill(["duplicate_ids", "curated_shards"], eps)
    assert backfill.status == BulkActionStatus.COMPLETED_SUCCESS
    runs = daemon.runs(backfill)
    assert sorted(key_of(run) for run in runs) == eps
    assert {run.asset_selection for run in runs} == {
        frozenset(asset_key(daemon.settings, name) for name in ("duplicate_ids", "curated_shards"))
    }
    output = Path(daemon.settings.storage.output_path)
    removed = []
    for value in eps:
        numbers = metadata_of(daemon.instance, daemon.settings, "duplicate_ids", value)
        removed.append(numbers["removed"])
        assert (output / f"shards/eps={value}/index.parquet").exists()
        assert numbers["kept"] + numbers["removed"] == 60
    assert removed == sorted(removed)
    assert removed[0] < removed[-1]


def status_of(daemon: Daemon, asset: str, check: str, eps: str | None) -> str:
    """The latest status of a check of an eps, or of all of them, as the UI shows it."""
    key = dg.AssetCheckKey(asset_key(daemon.settings, asset), check)
    records = daemon.instance.event_log_storage.get_asset_check_execution_history(
        key, limit=1, partition_filter=PartitionKeyFilter(key=eps)
    )
    return records[0].status.value if records else "none"


EPS_CHECKS = [(asset, check) for asset in CURATION for check in BLOCKING[asset]]


def test_each_check_of_a_backfill_passes_for_its_eps(daemon: Daemon) -> None:
    """Runs of ranges of partitions left them planned: the UI said that all were skipped."""
    eps = ["0.004", "0.04"]
    daemon.instance.add_dynamic_partitions(eps_partitions_name(daemon.settings), eps)
    daemon.backfill(["duplicate_ids", "curated_shards"], eps)
    found = {(c, e): status_of(daemon, a, c, e) for a, c in EPS_CHECKS for e in eps}
    assert set(found.values()) == {"SUCCEEDED"}, found


def test_checks_run_again_without_a_partition_verify_every_eps(daemon: Daemon) -> None:
    """As "Execute all" does on the page of an asset's checks."""
    eps = ["0.006", "0.06"]
    daemon.instance.add_dynamic_partitions(eps_partitions_name(daemon.settings), eps)
    daemon.backfill(["duplicate_ids", "curated_shards"], eps)
    keys = {dg.AssetCheckKey(asset_key(daemon.settings, a), c) for a, c in EPS_CHECKS}

    def again() -> dict[str, dg.AssetCheckEvaluation]:
        job = build_definitions(daemon.settings).resolve_implicit_global_asset_job_def()
        subset = job.get_subset(asset_selection=set(), asset_check_selection=keys)
        result = subset.execute_in_process(instance=daemon.instance, raise_on_error=False)
        return {found.check_name: found for found in result.get_asset_check_evaluations()}

    found = again()
    assert found.keys() == {check for _, check in EPS_CHECKS}
    assert all(check.passed for check in found.values())
    assert {status_of(daemon, a, c, None) for a, c in EPS_CHECKS} == {"SUCCEEDED"}
    index = Path(daemon.settings.storage.output_path) / "shards/eps=0.006/index.parquet"
    kept = index.read_bytes()
    pq.write_table(pq.read_table(index).slice(1), index)
    try:
        broken = again()["shards_hold_kept"]
    finally:
        index.write_bytes(kept)
    assert not broken.passed
    assert "eps 0.006: the index names" in str(broken.description)
    assert "eps 0.06:" not in str(broken.description)


def test_materialize_all_writes_shards_where_they_were_asked_for(daemon: Daemon) -> None:
    """Every eps ever registered would be terabytes."""
    eps = ["0.007", "0.07"]
    daemon.instance.add_dynamic_partitions(eps_partitions_name(daemon.settings), eps)
    everything = daemon.backfill(daemon.settings.assets_made, None)
    assert everything.status == BulkActionStatus.COMPLETED_SUCCESS
    shards = Path(daemon.settings.storage.output_path) / "shards"
    for value in eps:
        assert metadata_of(daemon.instance, daemon.settings, "duplicate_ids", value)
        assert not (shards / f"eps={value}").exists()
    by_name = daemon.backfill(["curated_shards"], eps[:1])
    assert by_name.status == BulkActionStatus.COMPLETED_SUCCESS
    assert (shards / "eps=0.007/index.parquet").exists()
    assert not (shards / "eps=0.07").exists()


def test_backfill_with_a_misspelt_eps_fails_that_one_and_finishes_the_others(
    daemon: Daemon,
) -> None:
    eps = ["0.03", "0.030"]
    name = eps_partitions_name(daemon.settings)
    daemon.instance.add_dynamic_partitions(name, eps)
    backfill = daemon.backfill(["duplicate_ids", "curated_shards"], eps)
    assert backfill.status == BulkActionStatus.COMPLETED_FAILED
    by_key = {key_of(run): run.status for run in daemon.runs(backfill)}
    assert by_key == {"0.03": dg.DagsterRunStatus.SUCCESS, "0.030": dg.DagsterRunStatus.FAILURE}
    daemon.instance.delete_dynamic_partition(name, "0.030")
    assert "0.030" not in daemon.instance.get_dynamic_partitions(name)


def test_backfill_over_all_clusters_is_one_run(daemon: Daemon) -> None:
    """One pass over the data serves all keys, so they must not be cut into runs."""
    backfill = daemon.backfill(["cluster_partitions", "pairwise_scores"], KEYS)
    assert backfill.status == BulkActionStatus.COMPLETED_SUCCESS
    (run,) = daemon.runs(backfill)
    assert (run.tags[RANGE_START], run.tags[RANGE_END]) == (KEYS[0], KEYS[-1])


def test_backfill_over_clusters_with_a_gap_makes_what_was_asked_and_no_more(
    daemon: Daemon,
) -> None:
    backfill = daemon.backfill(["cluster_partitions", "pairwise_scores"], [KEYS[0], KEYS[2]])
    assert backfill.status == BulkActionStatus.COMPLETED_SUCCESS
    runs = {run.run_id for run in daemon.runs(backfill)}
    records = daemon.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=asset_key(daemon.settings, "pairwise_scores")), limit=100
    ).records
    assert {r.partition_key for r in records if r.run_id in runs} == {KEYS[0], KEYS[2]}
    histogram = run_scoring(daemon.settings, daemon.instance, only=["similarity_histogram"])
    assert histogram.success
