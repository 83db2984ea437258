"""What docs/deployment.md and the files beside it say, loaded and run."""

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.instance.config import dagster_instance_config
from dagster._core.run_coordinator import QueuedRunCoordinator

from dedup_assets.assets.common import GPU_POOL
from dedup_assets.graph import CURATION, SCORING
from dedup_assets.partitions import eps_partitions_name
from dedup_assets_tests.assets.daemon import LAUNCHER, daemon_over
from dedup_assets_tests.assets.helpers import (
    make_settings,
    materialized,
    metadata_of,
    run_scoring,
    write_clips,
)
from dedup_assets_tests.command.helpers import ROOT
from dedup_assets_tests.postgres import PostgresServer, find_binaries, serving
from dedup_assets_tests.s3 import S3Server

DEPLOYMENT = ROOT / "docs/deployment"
EPS = ["0.001", "0.02", "0.05"]


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """An empty database; where it is and the password are in the environment."""
    if importlib.util.find_spec("dagster_postgres") is None:
        pytest.skip("dagster-postgres is not installed: pip install '.[postgres]'")
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no initdb of Postgres: apt-get install postgresql")
    with serving(binaries) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def test_dagster_yaml_of_the_docs_is_valid(tmp_path: Path):
    """Unknown keys and wrong types raise; the classes that it names are not loaded."""
    shutil.copy(DEPLOYMENT / "dagster.yaml", tmp_path)
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["run_retries"]["retry_on_asset_or_op_failure"] is False
    assert config["concurrency"]["pools"] == {"granularity": "op", "default_limit": 1}


@pytest.mark.slow
# Dagster's daemon calls what Dagster itself has deprecated.
@pytest.mark.filterwarnings("ignore:.* is deprecated and will be removed in 2.0:DeprecationWarning")
def test_graph_and_backfill_with_dagster_yaml_of_the_docs(
    tmp_path: Path, s3: S3Server, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    """All stages, a backfill over eps, pools and logs, with nothing kept on this machine's disk."""
    monkeypatch.setenv("DAGSTER_LOGS_BUCKET", s3.bucket)
    settings = make_settings(
        tmp_path, eps_thresholds=[], eps_to_extract=None, clips_path=str(tmp_path / "clips")
    )
    write_clips(tmp_path / "clips", [f"clip-{i:03d}" for i in range(60)])
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((DEPLOYMENT / "dagster.yaml").read_text() + LAUNCHER)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        scored = run_scoring(settings, instance)
        assert scored.success
        assert {name for name, _ in materialized(scored)} == set(SCORING)
        pool = instance.event_log_storage.get_concurrency_info(GPU_POOL)
        assert (pool.slot_count, pool.active_slot_count, pool.pending_step_count) == (1, 0, 0)

        instance.add_dynamic_partitions(eps_partitions_name(settings), EPS)
        with daemon_over(settings, instance) as daemon:
            backfill = daemon.backfill(CURATION, EPS)
            assert backfill.status == BulkActionStatus.COMPLETED_SUCCESS
            assert len(daemon.runs(backfill)) == len(EPS)
        for eps in EPS:
            numbers = metadata_of(instance, settings, "duplicate_ids", eps)
            assert numbers["kept"] + numbers["removed"] == 60
        logs = [name for name in s3.names("dagster-logs") if scored.run_id in name]
        assert any(s3.get(name) for name in logs if name.endswith(".err")), logs
    assert not list(home.rglob("*.db"))
