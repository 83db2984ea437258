"""Run a dataset's graph in this process, through the same definitions that the UI loads."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from dedup_assets.assets.common import INTERRUPTED, asset_key
from dedup_assets.command.instance import held_open
from dedup_assets.component import build_definitions
from dedup_assets.compute.arrays import resolve_device
from dedup_assets.errors import DedupError
from dedup_assets.graph import (
    CENTROIDS,
    CLIPS,
    CLUSTER_PARTITIONS,
    CURATED_SHARDS,
    CURATION,
    DUPLICATE_IDS,
    MISSED_BY_CLUSTERING,
    PAIRWISE_SCORES,
    READS,
    SCORING,
    SIMILARITY_HISTOGRAM,
    SPLITTING,
)
from dedup_assets.partitions import register_eps
from dedup_assets.progress import track
from dedup_assets.runs import (
    LOCATION,
    RANGE_END,
    RANGE_START,
    curation_job_name,
    end_abandoned_runs,
    process_tags,
    repository_tags,
    scoring_job_name,
    splitting_job_name,
)
from dedup_assets.settings import Settings
from dedup_assets.stages.plan import Work
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.store.processed import KEY_NAMES

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunFailedError(DedupError):
    """A run failed; the message says which asset and why."""


@dataclass(frozen=True)
class Part:
    """How much of an asset a run computed: ``new`` of ``of`` units, at these eps values if any."""

    asset: str
    new: int
    of: int
    unit: str
    eps: tuple[str, ...] = ()

    def __str__(self) -> str:
        at = f" at eps {', '.join(self.eps)}" if self.eps else ""
        return f"{self.asset} {self.new:,} of {self.of:,} {self.unit}{at}"


@dataclass
class Report:
    """What a run did, read from its Dagster events.

    Attributes:
        seconds: time of each step, by asset name (and eps).
        metadata: of each materialization, by asset name; partitioned ones a list.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def keys(self) -> set[tuple[str, str | None]]:
        """The assets and partition keys that were materialized."""
        return {(a, entry["partition"]) for a, found in self.metadata.items() for entry in found}

    def recomputed(self) -> list[Part]:
        """Of each asset that ran, how much was computed."""
        parts = []
        for asset, count in _PARTS.items():
            if entries := self.metadata.get(asset):
                eps = [e["partition"] for e in entries if asset in CURATION and count([e])[0]]
                parts.append(Part(asset, *count(entries), eps=tuple(eps)))
        return parts


_Entries = list[dict[str, Any]]


def _total(entries: _Entries, name: str) -> int:
    return sum(entry.get(name, 0) for entry in entries)


def _whole(unit: str) -> Callable[[_Entries], tuple[int, int, str]]:
    """Of an asset that is made whole, found to be current, or has nothing to make."""

    def count(entries: _Entries) -> tuple[int, int, str]:
        made = [entry["reused"] for entry in entries if entry.get("sampled") != 0]
        return made.count(False), len(made), unit

    return count


_PARTS: dict[str, Callable[[_Entries], tuple[int, int, str]]] = {
    CLIPS: lambda entries: (
        _total(entries, "videos_split"),
        _total(entries, "videos"),
        "videos",
    ),
    CENTROIDS: _whole("fit"),
    CLUSTER_PARTITIONS: lambda entries: (
        entries[0]["groups"] - entries[0]["reused_groups"],
        entries[0]["groups"],
        f"file groups ({entries[0]['rows_read_in_run']:,} rows)",
    ),
    PAIRWISE_SCORES: lambda entries: (
        _total(entries, "clusters") - _total(entries, "reused_clusters"),
        _total(entries, "clusters"),
        "clusters",
    ),
    MISSED_BY_CLUSTERING: _whole("sample"),
    SIMILARITY_HISTOGRAM: _whole("table"),
    DUPLICATE_IDS: lambda entries: (
        _total(entries, "lists") - _total(entries, "reused_clusters"),
        _total(entries, "lists"),
        "lists",
    ),
    CURATED_SHARDS: _whole("sets"),
}


def run_graph(
    settings: Settings,
    instance: dg.DagsterInstance,
    work: list[Work],
    *,
    verbose: bool = False,
    refit: bool = False,
    replace_shards: bool = False,
    location: str = LOCATION,
    report: Report | None = None,
    on_part: Callable[[str], None] = lambda what: None,
) -> Report:
    """Materialize what a plan names: videos, all clusters up to the histogram, each eps.

    Args:
        settings: of the dataset.
        instance: that records the runs.
        work: the plan.
        verbose: show Dagster's log.
        refit: fit the centroids again.
        replace_shards: replace curated clips also where media would be lost.
        location: code location under which the UI lists the runs.
        report: of an earlier part of the same command, to go on with.
        on_part: called with what begins now.

    Raises:
        RunFailedError: an asset or a blocking check failed.
    """
    compute = settings.compute
    if compute.engine == "local" and compute.device == "auto" and resolve_device("auto") == "cpu":
        # A step that does not use a GPU must not wait for the pool: Dagster leaves the slot of a
        # killed run taken, and the next run would wait for ever.
        settings = settings.replace(device="cpu")
    report = Report() if report is None else report
    with track("preparing the run"):
        register_eps(instance, settings)
        end_abandoned_runs(instance, settings)
        if not work:
            return report
        definitions = build_definitions(settings)
    tags = repository_tags(location)
    config: dict[str, Any] = {} if verbose else dict(_QUIET)
    splitting = [item for item in work if item.asset in SPLITTING]
    if splitting:
        on_part("from videos to embeddings")
        job = definitions.resolve_job_def(splitting_job_name(settings))
        options, keys = _options(settings, splitting, list(KEY_NAMES))
        _execute(job, instance, config, report, tags | keys, **options)
    scoring = [item for item in work if item.asset in SCORING]
    if scoring:
        on_part("up to the similarity histogram")
        job = definitions.resolve_job_def(scoring_job_name(settings))
        options, keys = _options(settings, scoring, list(cluster_ranges(settings)))
        launch = _launched(settings, options, CENTROIDS, refit=refit)
        _execute(job, instance, config | launch, report, tags | keys, **options)
    job = definitions.resolve_job_def(curation_job_name(settings))
    for number, eps in enumerate(settings.thresholds.eps_thresholds, start=1):
        assets = [item.asset for item in work if item.asset in CURATION and item.keys == (eps,)]
        if assets:
            on_part(f"eps {eps} ({number:,} of {len(settings.thresholds.eps_thresholds):,})")
            options = {"asset_selection": [asset_key(settings, name) for name in assets]}
            launch = _launched(settings, options, CURATED_SHARDS, replace_shards=replace_shards)
            _execute(job, instance, config | launch, report, tags, partition_key=eps, **options)
    return report


def _options(
    settings: Settings, work: list[Work], order: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Selection and tags of a run of a job whose partition keys are in this order."""
    names = {item.asset for item in work}
    wanted = sorted({key for item in work for key in item.keys}, key=order.index)
    tags = {RANGE_START: wanted[0], RANGE_END: wanted[-1]} if wanted else {}
    selection = [asset_key(settings, name) for name in settings.assets_made if name in names]
    return {"asset_selection": selection}, tags


def _launched(
    settings: Settings, options: dict[str, Any], name: str, **values: bool
) -> dict[str, Any]:
    """Launch configuration of one asset, if it is among those that are selected."""
    key = asset_key(settings, name)
    if key not in options["asset_selection"]:
        return {}
    return {"ops": {"__".join(key.path): {"config": values}}}


def _execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    config: dict[str, Any],
    report: Report,
    tags: dict[str, str],
    **options: Any,
) -> None:
    run_id = str(uuid.uuid4())
    with held_open(instance, run_id):
        result = job.execute_in_process(
            run_config=config,
            instance=instance,
            raise_on_error=False,
            run_id=run_id,
            tags=process_tags() | tags,
            **options,
        )
    eps = options.get("partition_key")
    for event in result.all_events:
        name = _step_name(event.step_key)
        if event.event_type == dg.DagsterEventType.STEP_SUCCESS:
            label = f"{name} (eps {eps})" if eps else name
            report.seconds[label] = event.step_success_data.duration_ms / 1000
        elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            materialization = event.step_materialization_data.materialization
            entry = {k: v.value for k, v in materialization.metadata.items()}
            entry["partition"] = materialization.partition
            report.metadata.setdefault(materialization.asset_key.path[-1], []).append(entry)
    if not result.success:
        if any(map(_was_interrupted, result.all_events)):
            raise KeyboardInterrupt
        raise RunFailedError(_reason(result))


def _was_interrupted(event: dg.DagsterEvent) -> bool:
    if event.event_type not in (
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.STEP_UP_FOR_RETRY,
        dg.DagsterEventType.PIPELINE_FAILURE,
        dg.DagsterEventType.PIPELINE_CANCELED,
    ):
        return False
    if event.event_type == dg.DagsterEventType.PIPELINE_CANCELED:
        return True
    data: Any = event.event_specific_data
    failed = getattr(data, "user_failure_data", None)
    if failed is not None and failed.description == INTERRUPTED:
        return True
    error = getattr(data, "error", None)
    while error is not None:
        if error.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt"):
            return True
        error = error.cause
    return False


def _step_name(key: str | None) -> str:
    """An asset's name, or ``check`` and the name of the check."""
    name = (key or "").rpartition("__")[2]
    asset = max((a for a in READS if name.startswith(f"{a}_")), key=len, default=None)
    if name in READS or asset is None:
        return name
    return f"check {name.removeprefix(f'{asset}_')}"


def _reason(result: dg.ExecuteInProcessResult) -> str:
    for check in result.get_asset_check_evaluations():
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
            return f"check {check.check_name} failed: {check.description}"
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            failed = _step_name(event.step_key)
            if data.user_failure_data is not None:
                return f"{failed}: {data.user_failure_data.description}"
            error = data.error
            while error is not None and error.cause is not None:
                error = error.cause
            return f"{failed}: {error.message.strip() if error is not None else 'failed'}"
    return "the run failed; --verbose shows its log"
