"""Sensors: what starts the graph, each eps after it, and upkeep of partitions and runs."""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg

from dedup_assets.assets.common import asset_key, open_store, store_keys, user_errors
from dedup_assets.graph import CURATION, SIMILARITY_HISTOGRAM
from dedup_assets.partitions import eps_partitions_def, eps_partitions_name, misspelt_eps
from dedup_assets.runs import (
    AUTOMATIC,
    end_abandoned_runs,
    eps_assets,
    first_tags,
    is_under_way,
    scoring_job_name,
    scoring_tags,
)
from dedup_assets.settings import Settings
from dedup_assets.stages.embeddings import input_digest
from dedup_assets.stages.plan import input_changes, plan_splitting
from dedup_assets.stages.videos import Splitting, list_videos

INTERVAL_S = 60


def _watches_files(settings: Settings) -> bool:
    mode = settings.automation.mode
    return mode == "sensor" or (mode == "eager" and not settings.assets.deps)


def _digest(settings: Settings) -> str:
    """A text that changes when a file of the input comes, goes or is written."""
    if settings.begins_with_videos:
        return list_videos(Splitting(settings)).fingerprint
    return input_digest(settings)


def build_sensors(settings: Settings, jobs: list[Any], curation: Any) -> list[dg.SensorDefinition]:
    """The sensors of a dataset.

    Args:
        settings: of the dataset.
        jobs: those up to the histogram; the last is scoring.
        curation: the job that is run at each eps.
    """
    scoring = jobs[-1]

    @dg.sensor(
        name=f"{settings.dataset}_new_files",
        jobs=jobs,
        minimum_interval_seconds=INTERVAL_S,
        default_status=(
            dg.DefaultSensorStatus.RUNNING
            if _watches_files(settings)
            else dg.DefaultSensorStatus.STOPPED
        ),
        required_resource_keys=store_keys(settings),
        description="Runs the graph when files of the input came, went or were written, and a "
        f"delivery has not grown for {INTERVAL_S} seconds; then each configured eps. A run that "
        "fails is not started again for the same files.",
    )
    def new_files(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        seen = json.loads(context.cursor or "{}")
        with user_errors():
            ours, store = open_store(context.resources, settings)
            found = _digest(ours)
            if found == seen.get("done"):
                return dg.SkipReason("no new files since the last run was started")
            if found != seen.get("last"):
                context.update_cursor(json.dumps({**seen, "last": found}))
                return dg.SkipReason("the input has changed; waiting until it stays as it is")
            if is_under_way(context.instance, settings):
                return dg.SkipReason("the last run is not finished")
            splitting = plan_splitting(ours, store) if ours.begins_with_videos else []
            why = "; ".join(map(str, splitting)) or input_changes(ours, store)
        context.update_cursor(json.dumps({"last": found, "done": found}))
        if not why:
            return dg.SkipReason("a run has read these files already")
        context.log.info(why)
        tags = first_tags(settings) if splitting else scoring_tags(settings)
        # Without a run key, by which Dagster would skip files that come back after they went.
        return dg.RunRequest(job_name=(jobs[0] if splitting else scoring).name, tags=tags)

    @dg.run_status_sensor(
        name=f"{settings.dataset}_after_splitting",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[jobs[0]],
        request_job=scoring,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Scores the clips after a run that the schedule or a sensor started.",
    )
    def after_splitting(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
        run = context.dagster_run
        if AUTOMATIC not in run.tags:
            return dg.SkipReason("this run was not started automatically")
        return dg.RunRequest(run_key=run.run_id, tags=scoring_tags(settings))

    @dg.run_status_sensor(
        name=f"{settings.dataset}_each_eps",
        run_status=dg.DagsterRunStatus.SUCCESS,
        # Conditions start runs of no job of ours.
        monitored_jobs=None if settings.automation.mode == "eager" else [scoring],
        request_job=curation,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs each configured eps after a run that the schedule or a sensor started.",
    )
    def each_eps(
        context: dg.RunStatusSensorContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        run = context.dagster_run
        made = run.asset_selection
        if AUTOMATIC not in run.tags:
            yield dg.SkipReason("this run was not started automatically")
            return
        whole = not made and run.job_name == scoring_job_name(settings)
        if not whole and asset_key(settings, SIMILARITY_HISTOGRAM) not in (made or ()):
            yield dg.SkipReason("this run did not make the histogram of this dataset")
            return
        if not settings.thresholds.eps_thresholds:
            yield dg.SkipReason("no eps is configured")
        for eps in settings.thresholds.eps_thresholds:
            yield dg.RunRequest(
                run_key=f"{run.run_id}-{eps}",
                partition_key=eps,
                asset_selection=eps_assets(settings, eps),
            )

    @dg.sensor(
        name=f"{settings.dataset}_upkeep",
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds the configured eps values as partitions, spells those that were added "
        "otherwise as the assets need them, and ends runs of the command that were killed.",
    )
    def upkeep(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance = context.instance
        there = set(instance.get_dynamic_partitions(eps_partitions_name(settings)))
        wrong = misspelt_eps(instance, settings)
        added = {*settings.thresholds.eps_thresholds, *wrong.values()} - there
        ended = end_abandoned_runs(instance, settings)
        done = [
            *(f"eps {key} is now {eps}" for key, eps in wrong.items()),
            *(f"eps {eps} added" for eps in sorted(added - set(wrong.values()))),
            *(f"run {run} ended, whose process was killed" for run in ended),
        ]
        eps = eps_partitions_def(settings)
        return dg.SensorResult(
            skip_reason="; ".join(done) or "nothing to do",
            dynamic_partitions_requests=[
                *([eps.build_add_request(sorted(added))] if added else []),
                *([eps.build_delete_request(sorted(wrong))] if wrong else []),
            ],
        )

    sensors: list[dg.SensorDefinition] = [new_files, each_eps, upkeep]
    if settings.begins_with_videos and settings.automation.mode != "eager":
        sensors.append(after_splitting)  # there a condition does
    if settings.automation.mode == "eager":
        sensors.append(
            dg.AutomationConditionSensorDefinition(
                name=f"{settings.dataset}_conditions",
                target=[
                    asset_key(settings, name)
                    for name in settings.assets_made
                    if name not in CURATION
                ],
                default_status=dg.DefaultSensorStatus.RUNNING,
                run_tags={AUTOMATIC: "true"},
                description="Makes each asset up to the histogram when one that it reads was made.",
            )
        )
    return sensors
