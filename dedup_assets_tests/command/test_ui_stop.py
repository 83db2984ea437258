"""``dedup-assets ui`` ends on a signal, with its servers and the run in progress."""

import signal
from pathlib import Path

import numpy as np
import pytest

from dedup_assets.command.settings_file import write_settings
from dedup_assets.partitions import cluster_partitions_def
from dedup_assets.runs import RANGE_END, RANGE_START, scoring_job_name
from dedup_assets.store.filesystem import Store
from dedup_assets_tests.assets.helpers import make_settings, open_instance
from dedup_assets_tests.command.test_ui import start_ui
from dedup_assets_tests.conftest import unit, write_inputs
from dedup_assets_tests.processes import family, still_running, wait_until
from dedup_assets_tests.served import ask, ask_when_ready

pytestmark = pytest.mark.slow

LAUNCH = """
mutation Launch($job: String!, $tags: [ExecutionTag!]!) {
  launchPipelineExecution(executionParams: {
    selector: {
      repositoryName: "__repository__", repositoryLocationName: "dedup_assets", jobName: $job
    }
    mode: "default", runConfigData: "{}", executionMetadata: { tags: $tags }
  }) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
  }
}
"""


def test_ctrl_c_ends_every_server(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    write_settings(settings, Store(settings.storage.output_path))
    log = tmp_path / "server.log"
    url, server = start_ui(tmp_path, log)
    try:
        ask_when_ready(url, server, log)
        started = family(server.pid)
        assert len(started) >= 4  # Dagster, its web server, daemon and code server
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 130
        assert not still_running(started)
    finally:
        server.kill()
        server.wait()
    assert "Traceback" not in log.read_text()


def test_sigterm_ends_every_server_and_the_run_in_progress(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """A run that nobody marks as ended would be shown as started for ever."""
    x = unit(rng.normal(size=(12_000, 64))).astype(np.float32)
    write_inputs(tmp_path / "embeddings", [f"clip-{i}" for i in range(len(x))], x, files=20)
    settings = make_settings(tmp_path, n_clusters=64, files_per_partition=1)
    write_settings(settings, Store(settings.storage.output_path))
    log = tmp_path / "server.log"
    url, server = start_ui(tmp_path, log)
    try:
        ask_when_ready(url, server, log)
        keys = cluster_partitions_def(settings).get_partition_keys()
        launched = ask(
            url,
            LAUNCH,
            job=scoring_job_name(settings),
            tags=[{"key": RANGE_START, "value": keys[0]}, {"key": RANGE_END, "value": keys[-1]}],
        )
        run_id = launched["launchPipelineExecution"]["run"]["runId"]
        wait_until((tmp_path / "output/embeddings/manifest.parquet").exists)
        started = family(server.pid)
        server.terminate()
        assert server.wait(60) == 143
        assert not still_running(started)
    finally:
        server.kill()
        server.wait()
    assert "Traceback" not in log.read_text()
    with open_instance(tmp_path / "output/.dagster") as instance:
        run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.is_finished, run.status
