"""Jobs for the two halves of the graph, and what starts both: a schedule, or new files."""

import dagster as dg

from dedup_assets.assets.common import asset_key
from dedup_assets.graph import CURATION, SCORING
from dedup_assets.runs import (
    NO_RETRY,
    automatic_tags,
    curation_job_name,
    is_scoring,
    scoring_job_name,
)
from dedup_assets.sensors import build_sensors
from dedup_assets.settings import Settings


def build_automation(settings: Settings) -> dg.Definitions:
    """Two jobs, the schedule and the sensors; ``mode`` says whether one of them starts runs."""
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
        if is_scoring(context.instance, settings):
            return dg.SkipReason("the last run is not finished")
        return dg.RunRequest(tags=automatic_tags(settings))

    return dg.Definitions(
        jobs=[scoring, curation],
        schedules=[schedule],
        sensors=build_sensors(settings, scoring, curation),
    )
