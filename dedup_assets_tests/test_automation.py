"""Jobs, the schedule of the whole graph, and the sensors that follow it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dedup_assets.assets.common import asset_key
from dedup_assets.component import build_definitions
from dedup_assets.runs import (
    AUTOMATIC,
    PROCESS,
    RANGE_END,
    RANGE_START,
    end_abandoned_runs,
)
from dedup_assets.settings import Settings
from dedup_assets.store.locks import this_machine
from dedup_assets_tests.assets.helpers import KEYS, make_settings, materialized, open_instance

pytestmark = pytest.mark.slow


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(tmp_path / "dagster") as opened:
        yield opened


def schedule_of(settings: Settings) -> dg.ScheduleDefinition:
    return build_definitions(settings).resolve_schedule_def("small_schedule")


def scheduled_requests(settings: Settings, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    context = dg.build_schedule_context(instance=instance)
    return list(schedule_of(settings).evaluate_tick(context).run_requests or [])


def after(
    settings: Settings, instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult
) -> list[Any]:
    """What the sensor asks for once a run has succeeded."""
    name = "small_each_eps"
    sensor = build_definitions(settings).resolve_sensor_def(name)
    (event,) = (
        e for e in result.all_events if e.event_type == dg.DagsterEventType.PIPELINE_SUCCESS
    )
    context = dg.build_run_status_sensor_context(
        sensor_name=name,
        dagster_event=event,
        dagster_instance=instance,
        dagster_run=result.dagster_run,
    )
    answer = sensor(context)
    return [answer] if isinstance(answer, dg.RunRequest | dg.SkipReason) else list(answer)


def run_request(
    settings: Settings, instance: dg.DagsterInstance, job: str, request: dg.RunRequest
) -> dg.ExecuteInProcessResult:
    return (
        build_definitions(settings)
        .resolve_job_def(job)
        .execute_in_process(
            instance=instance,
            partition_key=request.partition_key,
            asset_selection=request.asset_selection,
            tags=dict(request.tags),
            raise_on_error=False,
        )
    )


def test_schedule_is_off_until_switched_on(tmp_path: Path) -> None:
    schedule = schedule_of(make_settings(tmp_path))
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "0 3 * * *"


def test_schedule_can_be_switched_on_in_the_settings(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, mode="schedule", schedule="30 4 * * 1")
    schedule = schedule_of(settings)
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert schedule.cron_schedule == "30 4 * * 1"


def test_schedule_asks_for_one_run_over_all_clusters(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    (request,) = scheduled_requests(make_settings(tmp_path), instance)
    assert request.tags[RANGE_START] == KEYS[0]
    assert request.tags[RANGE_END] == KEYS[-1]
    assert request.tags[AUTOMATIC] == "true"
    assert schedule_of(make_settings(tmp_path)).job_name == "small_scoring"


def test_schedule_waits_for_the_last_run(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = make_settings(tmp_path)
    job = build_definitions(settings).resolve_job_def("small_scoring")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert scheduled_requests(settings, instance) == []
    instance.report_run_canceled(run)
    assert len(scheduled_requests(settings, instance)) == 1


def test_jobs_are_named_after_the_dataset_and_hold_its_two_halves(tmp_path: Path) -> None:
    definitions = build_definitions(make_settings(tmp_path))

    def assets(job: str) -> set[str]:
        layer = definitions.resolve_job_def(job).asset_layer
        return {key.path[-1] for key in layer.selected_asset_keys}

    assert assets("small_scoring") == {
        *("embeddings", "centroids", "cluster_partitions", "pairwise_scores"),
        *("missed_by_clustering", "similarity_histogram"),
    }
    assert assets("small_curation") == {"duplicate_ids", "curated_shards"}


def test_schedule_and_sensor_make_the_finished_graph(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """One request of the schedule, then what the sensor asks for, each run for real."""
    settings = make_settings(tmp_path)
    (request,) = scheduled_requests(settings, instance)
    scoring = run_request(settings, instance, "small_scoring", request)
    assert scoring.success
    assert scoring.dagster_run.tags[AUTOMATIC] == "true"

    requests = after(settings, instance, scoring)
    assert {r.partition_key: r.asset_selection for r in requests} == {
        "0.05": [asset_key(settings, name) for name in ("duplicate_ids", "curated_shards")],
        "0.001": [asset_key(settings, "duplicate_ids")],
    }
    assert len({r.run_key for r in requests}) == 2
    assert all(scoring.run_id in r.run_key for r in requests)
    # Dagster refuses a run of a partition that does not exist.
    assert {"0.05", "0.001"} <= set(instance.get_dynamic_partitions("small/eps"))

    made = []
    for following in requests:
        result = run_request(settings, instance, "small_curation", following)
        assert result.success
        made += materialized(result)
        assert [type(r) for r in after(settings, instance, result)] == [dg.SkipReason]
    assert sorted(made) == [
        ("curated_shards", "0.05"),
        ("duplicate_ids", "0.001"),
        ("duplicate_ids", "0.05"),
    ]
    output = tmp_path / "output"
    assert (output / "shards/eps=0.05/index.parquet").exists()
    assert not (output / "shards/eps=0.001").exists()


def test_sensor_skips_runs_that_the_schedule_did_not_start(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """A user who materializes by hand looks at the histogram first."""
    settings = make_settings(tmp_path)
    request = dg.RunRequest(tags={RANGE_START: KEYS[0], RANGE_END: KEYS[-1]})
    (skip,) = after(settings, instance, run_request(settings, instance, "small_scoring", request))
    assert isinstance(skip, dg.SkipReason)
    assert "not started automatically" in (skip.skip_message or "")


def test_sensor_skips_when_no_eps_is_configured(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path, eps_thresholds=[], eps_to_extract=None)
    (request,) = scheduled_requests(settings, instance)
    (skip,) = after(settings, instance, run_request(settings, instance, "small_scoring", request))
    assert isinstance(skip, dg.SkipReason)
    assert "no eps is configured" in (skip.skip_message or "")


def upkeep(settings: Settings, instance: dg.DagsterInstance) -> str:
    """Evaluate the sensor and apply what it asks for, as the daemon does; what it says it did."""
    sensor = build_definitions(settings).resolve_sensor_def("small_upkeep")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    answer = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
    assert answer.run_requests == []
    for request in answer.dynamic_partitions_requests or ():
        name, keys = request.partitions_def_name, request.partition_keys
        if isinstance(request, dg.AddDynamicPartitionsRequest):
            instance.add_dynamic_partitions(name, keys)
        else:
            for key in keys:
                instance.delete_dynamic_partition(name, key)
    return answer.skip_message or ""


def test_configured_eps_can_be_chosen_before_anything_ran(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path)
    assert upkeep(settings, instance) == "eps 0.001 added; eps 0.05 added"
    assert set(instance.get_dynamic_partitions("small/eps")) == {"0.05", "0.001"}
    assert upkeep(settings, instance) == "nothing to do"


def test_eps_partitions_are_respelled_and_those_of_no_eps_left_to_the_asset(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path)
    upkeep(settings, instance)
    instance.add_dynamic_partitions("small/eps", ["0.020", "5e-2", "abc"])
    assert upkeep(settings, instance) == "eps 0.020 is now 0.02; eps 5e-2 is now 0.05"
    keys = set(instance.get_dynamic_partitions("small/eps"))
    assert keys == {"0.05", "0.001", "0.02", "abc"}
    assert upkeep(settings, instance) == "nothing to do"


def started_run(settings: Settings, instance: dg.DagsterInstance, process: int) -> dg.DagsterRun:
    """A run of the command as the database has it while its process is at work, or was killed."""
    job = build_definitions(settings).resolve_job_def("small_scoring")
    return instance.create_run_for_job(
        job,
        status=dg.DagsterRunStatus.STARTED,
        tags={PROCESS: f"{this_machine()}/{process}"},
    )


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_killed_run_of_the_command_holds_nothing_back(
    tmp_path: Path, instance: dg.DagsterInstance, gone: int
) -> None:
    """Neither the schedule, nor who waits for its slot of a pool."""
    settings = make_settings(tmp_path)
    run = started_run(settings, instance, gone)
    pools = instance.event_log_storage
    pools.set_concurrency_slots("gpu", 1)
    assert pools.claim_concurrency_slot("gpu", run.run_id, "step").is_claimed
    assert scheduled_requests(settings, instance) == []
    assert f"run {run.run_id} ended" in upkeep(settings, instance)
    assert len(scheduled_requests(settings, instance)) == 1
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status == dg.DagsterRunStatus.FAILURE
    assert pools.get_concurrency_info("gpu").active_slot_count == 0
    assert end_abandoned_runs(instance, settings) == []


def test_a_run_whose_process_is_alive_or_unknown_is_left_alone(
    tmp_path: Path, instance: dg.DagsterInstance, gone: int
) -> None:
    settings = make_settings(tmp_path)
    started_run(settings, instance, os.getpid())
    elsewhere = started_run(settings, instance, gone)
    instance.add_run_tags(elsewhere.run_id, {PROCESS: f"another/{gone}"})
    job = build_definitions(settings).resolve_job_def("small_scoring")
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert end_abandoned_runs(instance, settings) == []
    assert scheduled_requests(settings, instance) == []
