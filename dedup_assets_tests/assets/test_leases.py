"""Leases that a run left on another machine: waited for if Dagster knows that it has ended."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import dagster as dg
import pytest

from dedup_assets.runs import scoring_job_name
from dedup_assets.settings import Settings
from dedup_assets.store.locks import FILE, Lease
from dedup_assets_tests.assets.helpers import build_definitions, failure, make_settings, run_scoring


def left_by(
    settings: Settings, instance: dg.DagsterInstance, status: dg.DagsterRunStatus, lasting: float
) -> str:
    """A lease on `embeddings` of so many seconds, held by a run on a machine that is not this."""
    job = build_definitions(settings).resolve_job_def(scoring_job_name(settings))
    run = instance.create_run_for_job(job, status=status)
    now = time.time()
    lease = Lease("embeddings", ["*"], run.run_id, "gone", "another", 7, now, now + lasting)
    store = settings.storage.open_output()
    store.write_bytes(FILE, json.dumps({"other": asdict(lease)}).encode())
    return run.run_id


def test_a_lease_of_a_run_that_has_ended_is_waited_for(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path)
    left_by(settings, instance, dg.DagsterRunStatus.FAILURE, 5)
    assert run_scoring(settings, instance, only=["embeddings"]).success


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
def test_a_lease_of_a_run_that_is_at_work_is_refused_at_once(
    tmp_path: Path, instance: dg.DagsterInstance, status: dg.DagsterRunStatus
) -> None:
    settings = make_settings(tmp_path)
    run = left_by(settings, instance, status, 600)
    result = run_scoring(settings, instance, only=["embeddings"])
    assert f"is being written by run {run} on gone" in failure(result)[1]
