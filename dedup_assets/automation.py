"""Jobs for the parts of the graph, and what starts the first: a schedule, or new files."""

import dagster as dg

from dedup_assets.assets.common import asset_key
from dedup_assets.graph import CURATION, SCORING, SPLITTING
from dedup_assets.runs import (
    NO_RETRY,
    curation_job_name,
    first_tags,
    is_under_way,
    scoring_job_name,
    splitting_job_name,
)
from dedup_assets.sensors import build_sensors
from dedup_assets.settings import Settings


def build_automation(settings: Settings) -> dg.Definitions:
    """The jobs, the schedule and the sensors; ``mode`` says whether one of them starts runs."""
    scoring = dg.define_asset_job(
        scoring_job_name(settings),
        selection=[asset_key(settings, name) for name in SCORING],
        description="From the embeddings to the similarity histogram, over all clusters.",
        tags=NO_RETRY,
    )
    jobs = [scoring]
    if settings.begins_with_videos:
        splitting = dg.define_asset_job(
            splitting_job_name(settings),
            selection=[asset_key(settings, name) for name in SPLITTING],
            description="From the videos to the embeddings of their clips.",
            tags=NO_RETRY,
        )
        jobs = [splitting, scoring]
    curation = dg.define_asset_job(
        curation_job_name(settings),
        selection=[asset_key(settings, name) for name in CURATION],
        description="Ids to remove and curated shards at one eps.",
        tags=NO_RETRY,
    )

    @dg.schedule(
        name=f"{settings.dataset}_schedule",
        job=jobs[0],
        cron_schedule=settings.automation.schedule,
        execution_timezone=settings.automation.execution_timezone,
        default_status=(
            dg.DefaultScheduleStatus.RUNNING
            if settings.automation.mode == "schedule"
            else dg.DefaultScheduleStatus.STOPPED
        ),
        description="The whole graph: all up to the histogram, then each configured eps.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if is_under_way(context.instance, settings):
            return dg.SkipReason("the last run is not finished")
        return dg.RunRequest(tags=first_tags(settings))

    return dg.Definitions(
        jobs=[*jobs, curation],
        schedules=[schedule],
        sensors=build_sensors(settings, jobs, curation),
    )
