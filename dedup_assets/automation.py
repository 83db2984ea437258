"""Jobs for the two halves of the graph, and the schedule that runs both."""

import os
from collections.abc import Iterator

import dagster as dg

from dedup_assets.assets.common import asset_key
from dedup_assets.graph import CURATION, DUPLICATE_IDS, SCORING
from dedup_assets.partitions import cluster_partitions_def, register_eps
from dedup_assets.settings import Settings
from dedup_assets.store.filesystem import is_alive
from dedup_assets.store.locks import this_machine

SCHEDULED = "dedup_assets/scheduled"
"""Tag of runs that the schedule started; only these are followed by the second half."""

LOCATION = "dedup_assets"
"""Name of the code location, as in pyproject.toml and workspace.yaml."""

REPOSITORY = {".dagster/repository": f"__repository__@{LOCATION}"}
"""Tag by which the UI lists a run under its job; Dagster sets it only on runs that it launches."""

PROCESS = "dedup_assets/process"
"""Tag of runs of the command: machine and number of the process that they end with."""

NO_RETRY = {"dagster/retry_on_asset_or_op_failure": "false"}
"""A step retries what may pass; a run that is started again would find the rest again."""

UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


def scoring_job_name(settings: Settings) -> str:
    return f"{settings.dataset}_scoring"


def curation_job_name(settings: Settings) -> str:
    return f"{settings.dataset}_curation"


def all_clusters_tags(settings: Settings) -> dict[str, str]:
    """Run tags that ask for every cluster partition in one run."""
    keys = cluster_partitions_def(settings).get_partition_keys()
    return {RANGE_START: keys[0], RANGE_END: keys[-1]}


def process_tags() -> dict[str, str]:
    """Run tags that say which process a run ends with."""
    return {PROCESS: f"{this_machine()}/{os.getpid()}"}


def end_abandoned_runs(instance: dg.DagsterInstance, settings: Settings) -> list[str]:
    """Mark runs of the command whose process was killed as failed; returns their ids.

    Nobody else would: they would be shown as started, keep their slots of pools, and hold back the
    schedule, for ever.
    """
    ended = []
    for name in (scoring_job_name(settings), curation_job_name(settings)):
        filters = dg.RunsFilter(job_name=name, statuses=list(UNFINISHED))
        for run in instance.get_runs(filters):
            machine, _, process = run.tags.get(PROCESS, "").partition("/")
            if machine != this_machine() or is_alive(int(process)):
                continue
            instance.report_run_failed(run, f"its process {process} was killed")
            if instance.event_log_storage.supports_global_concurrency_limits:
                instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            ended.append(run.run_id)
    return ended


def eps_assets(settings: Settings, eps: str) -> list[dg.AssetKey]:
    """What is made at a configured eps: the list of ids, and the shards where asked for."""
    names = CURATION if eps == settings.thresholds.eps_to_extract else (DUPLICATE_IDS,)
    return [asset_key(settings, name) for name in names]


def build_automation(settings: Settings) -> dg.Definitions:
    """Two jobs, the schedule (off unless ``mode`` says so), and the sensor that follows it."""
    scoring = dg.define_asset_job(
        scoring_job_name(settings),
        selection=[asset_key(settings, name) for name in SCORING],
        description="From the input to the similarity histogram, over all clusters.",
        tags=NO_RETRY,
    )
    curation = dg.define_asset_job(
        curation_job_name(settings),
        selection=[asset_key(settings, name) for name in CURATION],
        description="Ids to remove and curated shards at one eps.",
        tags=NO_RETRY,
    )

    @dg.schedule(
        name=f"{settings.dataset}_schedule",
        job=scoring,
        cron_schedule=settings.automation.schedule,
        execution_timezone=settings.automation.execution_timezone,
        default_status=(
            dg.DefaultScheduleStatus.RUNNING
            if settings.automation.mode == "schedule"
            else dg.DefaultScheduleStatus.STOPPED
        ),
        description="The whole graph: scoring, then each configured eps.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        end_abandoned_runs(context.instance, settings)
        unfinished = dg.RunsFilter(job_name=scoring_job_name(settings), statuses=list(UNFINISHED))
        if context.instance.get_runs_count(unfinished):
            return dg.SkipReason("the last run is not finished")
        return dg.RunRequest(tags={**all_clusters_tags(settings), SCHEDULED: "true"})

    @dg.run_status_sensor(
        name=f"{settings.dataset}_after_schedule",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[scoring],
        request_job=curation,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs each configured eps after a scheduled scoring run, and no other.",
    )
    def after_schedule(
        context: dg.RunStatusSensorContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if SCHEDULED not in context.dagster_run.tags:
            yield dg.SkipReason("this run was not started by the schedule")
            return
        if not settings.thresholds.eps_thresholds:
            yield dg.SkipReason("no eps is configured")
        for eps in settings.thresholds.eps_thresholds:
            yield dg.RunRequest(
                run_key=f"{context.dagster_run.run_id}-{eps}",
                partition_key=eps,
                asset_selection=eps_assets(settings, eps),
            )

    @dg.sensor(
        name=f"{settings.dataset}_register_eps",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds the configured eps values as partitions, so that they can be chosen.",
    )
    def register_configured_eps(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        register_eps(context.instance, settings)
        return dg.SkipReason(
            f"configured eps: {', '.join(settings.thresholds.eps_thresholds) or 'none'}"
        )

    return dg.Definitions(
        jobs=[scoring, curation],
        schedules=[schedule],
        sensors=[after_schedule, register_configured_eps],
    )
