"""What docs/deployment.md and the files beside it say, loaded and run."""

import importlib.util
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.instance.config import dagster_instance_config
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.workspace.config_schema import process_workspace_config

from dedup_assets import build_definitions
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

PAGE = ROOT / "docs/deployment.md"
DEPLOYMENT = ROOT / "docs/deployment"
EPS = ["0.001", "0.02", "0.05"]


def shown(language: str, word: str) -> str:
    """The one block of the page in a language that has a word."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if word in block)
    return block


def values() -> dict[str, Any]:
    """The values of the Helm chart."""
    return yaml.safe_load((DEPLOYMENT / "values.yaml").read_text())


def snake(value: Any) -> Any:
    """Keys as `dagster.yaml` and dagster-k8s spell them."""
    if isinstance(value, dict):
        return {re.sub("([A-Z])", r"_\1", k).lower(): snake(v) for k, v in value.items()}
    return [snake(v) for v in value] if isinstance(value, list) else value


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
        pool = instance.event_log_storage.get_concurrency_info("gpu")
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


def test_values_of_the_chart_say_what_dagster_yaml_says():
    told = yaml.safe_load((DEPLOYMENT / "dagster.yaml").read_text())
    chart = snake(values())
    assert chart["concurrency"] == {"enabled": True, **told["concurrency"]}
    assert chart["telemetry"] == told["telemetry"]
    daemon = chart["dagster_daemon"]
    assert daemon["run_retries"].items() <= told["run_retries"].items()
    assert daemon["run_monitoring"].items() <= told["run_monitoring"].items()
    for name, kept in told["retention"].items():
        days = chart["retention"][name]["purge_after_days"]
        assert days == kept["purge_after_days"] or days.items() >= kept["purge_after_days"].items()
    database = told["storage"]["postgres"]["postgres_db"]
    assert chart["postgresql"]["postgresql_scheme"] == database["scheme"]
    logs = chart["compute_log_manager"]["config"]["s3_compute_log_manager"]
    assert logs.keys() == told["compute_logs"]["config"].keys()


def test_workspace_of_the_docs_is_valid():
    workspace = yaml.safe_load(shown("yaml", "load_from"))
    assert process_workspace_config(workspace).success


def test_steps_on_a_gpu_are_those_that_the_docs_name(tmp_path: Path):
    definitions = build_definitions(make_settings(tmp_path))
    pooled = {
        asset.key.path[-1]
        for asset in definitions.resolve_asset_graph().assets_defs
        if asset.node_def.pools == {"gpu"}
    }
    (told,) = re.findall(r"the steps that compute on a GPU take one: (.*?)\. ", PAGE.read_text())
    assert pooled == set(re.findall("`(.*?)`", told))


def test_run_launcher_and_tags_of_the_docs_are_valid():
    """dagster-k8s refuses keys that Kubernetes does not have."""
    pytest.importorskip("dagster_k8s", reason="needs dagster-k8s: pip install '.[k8s]'")
    from dagster_k8s.job import UserDefinedDagsterK8sConfig

    launcher = values()["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]
    config = UserDefinedDagsterK8sConfig.from_dict(snake(launcher))
    assert config.container_config["resources"]["limits"]["nvidia.com/gpu"] == 1
    for tags in yaml.safe_load(shown("yaml", "op_tags"))["assets"]["op_tags"].values():
        tagged = UserDefinedDagsterK8sConfig.from_dict(tags["dagster-k8s/config"])
        assert tagged.container_config["resources"]["limits"] == {"nvidia.com/gpu": 1}


def test_executor_of_the_docs_runs_the_jobs():
    pytest.importorskip("dagster_k8s", reason="needs dagster-k8s: pip install '.[k8s]'")
    names: dict[str, Any] = {"__file__": str(ROOT / "dedup_assets/definitions.py")}
    exec(shown("python", "k8s_job_executor"), names)
    job = names["defs"].resolve_job_def("demo_scoring")
    assert job.executor_def.name == "k8s"
    assert dg.validate_run_config(job, {})


def test_dockerfile_names_files_and_extras_that_exist():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert copied and all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in copied} <= set(ignored)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"EXTRAS=([\w,-]+)", "\n".join(lines) + PAGE.read_text())
    extras = {extra for group in named for extra in group.split(",")}
    assert extras <= project["optional-dependencies"].keys()
