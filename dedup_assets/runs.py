"""Runs of a dataset: names of its jobs, tags, and those whose process was killed."""

import os

import dagster as dg

from dedup_assets.assets.common import asset_key
from dedup_assets.graph import CURATION, DUPLICATE_IDS
from dedup_assets.partitions import cluster_partitions_def
from dedup_assets.settings import Settings
from dedup_assets.store.filesystem import is_alive
from dedup_assets.store.locks import this_machine
from dedup_assets.store.processed import KEY_NAMES

AUTOMATIC = "dedup_assets/automatic"
"""Tag of runs that the schedule or `new_files` started; only these are followed by each eps."""

LOCATION = "dedup_assets"
"""Name of the code location, as in pyproject.toml, workspace.yaml and ``dedup-assets ui``."""

PROCESS = "dedup_assets/process"
"""Tag of runs of the command: machine and number of the process that they end with."""

NO_RETRY = {"dagster/retry_on_asset_or_op_failure": "false"}
"""Steps retry transient faults themselves; the whole run again would meet the lasting ones."""

UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


def splitting_job_name(settings: Settings) -> str:
    return f"{settings.dataset}_splitting"


def scoring_job_name(settings: Settings) -> str:
    return f"{settings.dataset}_scoring"


def curation_job_name(settings: Settings) -> str:
    return f"{settings.dataset}_curation"


def all_clusters_tags(settings: Settings) -> dict[str, str]:
    """Run tags that ask for every cluster partition in one run."""
    keys = cluster_partitions_def(settings).get_partition_keys()
    return {RANGE_START: keys[0], RANGE_END: keys[-1]}


def all_videos_tags() -> dict[str, str]:
    """Run tags that ask for every partition of the videos in one run."""
    keys = list(KEY_NAMES)
    return {RANGE_START: keys[0], RANGE_END: keys[-1]}


def repository_tags(location: str) -> dict[str, str]:
    """Run tag by which the UI lists a run under its job in a code location.

    Dagster sets it only on runs that it launches.
    """
    return {".dagster/repository": f"__repository__@{location}"}


def process_tags() -> dict[str, str]:
    """Run tags that say which process a run ends with."""
    return {PROCESS: f"{this_machine()}/{os.getpid()}"}


def end_abandoned_runs(instance: dg.DagsterInstance, settings: Settings) -> list[str]:
    """Mark runs of the command whose process was killed as failed; returns their ids.

    Nobody else would: they would be shown as started, keep their slots of pools, and hold back the
    schedule, for ever.
    """
    ended = []
    jobs = (splitting_job_name, scoring_job_name, curation_job_name)
    for name in (job_name(settings) for job_name in jobs):
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


def is_under_way(instance: dg.DagsterInstance, settings: Settings) -> bool:
    """Whether a run of what comes before each eps is under way."""
    return any(
        instance.get_runs_count(dg.RunsFilter(job_name=name, statuses=list(UNFINISHED)))
        for name in (splitting_job_name(settings), scoring_job_name(settings))
    )


def first_tags(settings: Settings) -> dict[str, str]:
    """Tags of a run of all videos that scoring follows or, without videos, those of scoring."""
    if settings.begins_with_videos:
        return {**all_videos_tags(), AUTOMATIC: "true"}
    return scoring_tags(settings)


def scoring_tags(settings: Settings) -> dict[str, str]:
    """Tags of a run of all clusters that each configured eps follows."""
    return {**all_clusters_tags(settings), AUTOMATIC: "true"}


def eps_assets(settings: Settings, eps: str) -> list[dg.AssetKey]:
    """What is made at a configured eps: the list of ids, and the shards where asked for."""
    names = CURATION if eps == settings.thresholds.eps_to_extract else (DUPLICATE_IDS,)
    return [asset_key(settings, name) for name in names]
