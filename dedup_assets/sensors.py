"""Sensors: new files start the graph, each eps follows, and eps values become partitions."""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg

from dedup_assets.assets.common import open_store, store_keys, user_errors
from dedup_assets.partitions import register_eps
from dedup_assets.runs import AUTOMATIC, automatic_tags, eps_assets, is_scoring
from dedup_assets.settings import Settings
from dedup_assets.stages.embeddings import input_digest
from dedup_assets.stages.plan import input_changes

INTERVAL_S = 60


def build_sensors(settings: Settings, scoring: Any, curation: Any) -> list[dg.SensorDefinition]:
    """The sensors of a dataset; ``scoring`` and ``curation`` are its jobs."""

    @dg.sensor(
        name=f"{settings.dataset}_new_files",
        job=scoring,
        minimum_interval_seconds=INTERVAL_S,
        default_status=(
            dg.DefaultSensorStatus.RUNNING
            if settings.automation.mode == "sensor"
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
            found = input_digest(ours)
            if found == seen.get("done"):
                return dg.SkipReason("no new files since the last run was started")
            if found != seen.get("last"):
                context.update_cursor(json.dumps({**seen, "last": found}))
                return dg.SkipReason("the input has changed; waiting until it stays as it is")
            if is_scoring(context.instance, settings):
                return dg.SkipReason("the last run is not finished")
            why = input_changes(ours, store)
        context.update_cursor(json.dumps({"last": found, "done": found}))
        if not why:
            return dg.SkipReason("a run has read these files already")
        context.log.info(why)
        # Without a run key, by which Dagster would skip files that come back after they went.
        return dg.RunRequest(tags=automatic_tags(settings))

    @dg.run_status_sensor(
        name=f"{settings.dataset}_each_eps",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[scoring],
        request_job=curation,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Runs each configured eps after a run that the schedule or a sensor started.",
    )
    def each_eps(
        context: dg.RunStatusSensorContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        if AUTOMATIC not in context.dagster_run.tags:
            yield dg.SkipReason("this run was not started automatically")
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
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Adds the configured eps values as partitions, so that they can be chosen.",
    )
    def register_configured_eps(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        register_eps(context.instance, settings)
        return dg.SkipReason(
            f"configured eps: {', '.join(settings.thresholds.eps_thresholds) or 'none'}"
        )

    return [new_files, each_eps, register_configured_eps]
