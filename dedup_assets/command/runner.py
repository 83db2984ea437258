"""Run a dataset's graph in this process, through the same definitions that the UI loads."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from dedup_assets.assets.common import (
    CENTROIDS,
    CLUSTER_PARTITIONS,
    CURATED_SHARDS,
    DUPLICATE_IDS,
    INTERRUPTED,
    PAIRWISE_SCORES,
    SIMILARITY_HISTOGRAM,
    asset_key,
)
from dedup_assets.automation import (
    REPOSITORY,
    all_clusters_tags,
    curation_job_name,
    end_abandoned_runs,
    eps_assets,
    process_tags,
    scoring_job_name,
)
from dedup_assets.component import build_definitions
from dedup_assets.compute.arrays import resolve_device
from dedup_assets.errors import DedupError
from dedup_assets.partitions import register_eps
from dedup_assets.progress import track
from dedup_assets.settings import Settings

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunFailedError(DedupError):
    """A run failed; the message says which asset and why."""


@dataclass
class Report:
    """What a run did, read from its Dagster events.

    Attributes:
        seconds: time of each step, by asset name (and eps).
        metadata: of each materialization, by asset name; partitioned ones a list.
        warnings: what checks that do not block have found.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def total(self, asset: str, name: str) -> int:
        return sum(entry[name] for entry in self.metadata[asset])

    def first(self, asset: str) -> dict[str, Any]:
        return self.metadata[asset][0]

    @property
    def missed_seconds(self) -> float:
        """What comparing a sample with all rows took; 0 if it was current, or is switched off."""
        return self.first(SIMILARITY_HISTOGRAM).get("missed_seconds", 0.0)

    def recomputed(self) -> list[tuple[str, int, int, str]]:
        """For each asset: how many of its parts were computed, of how many, and their unit."""
        keys = len(self.metadata[CLUSTER_PARTITIONS])
        groups = self.first(CLUSTER_PARTITIONS)["groups"]
        new_groups = groups - self.total(CLUSTER_PARTITIONS, "reused_groups") // keys
        clusters = self.total(PAIRWISE_SCORES, "clusters")
        new_clusters = clusters - self.total(PAIRWISE_SCORES, "reused_clusters")
        rows = [
            (CENTROIDS, 0 if self.first(CENTROIDS)["reused"] else 1, 1, "fit"),
            (CLUSTER_PARTITIONS, new_groups, groups, "file groups"),
            (PAIRWISE_SCORES, new_clusters, clusters, "clusters"),
            (SIMILARITY_HISTOGRAM, int(not self.first(SIMILARITY_HISTOGRAM)["reused"]), 1, "table"),
        ]
        if "missed_reused" in self.first(SIMILARITY_HISTOGRAM):
            new_pass = not self.first(SIMILARITY_HISTOGRAM)["missed_reused"]
            rows.append(("missed_by_clustering", int(new_pass), 1, "sample"))
        if DUPLICATE_IDS in self.metadata:
            lists = clusters * len(self.metadata[DUPLICATE_IDS])
            new_lists = lists - self.total(DUPLICATE_IDS, "reused_clusters")
            rows.append((DUPLICATE_IDS, new_lists, lists, "lists"))
        if CURATED_SHARDS in self.metadata:
            entries = self.metadata[CURATED_SHARDS]
            rows.append(
                (CURATED_SHARDS, sum(not e["reused"] for e in entries), len(entries), "sets")
            )
        return rows


def run_graph(
    settings: Settings,
    instance: dg.DagsterInstance,
    *,
    verbose: bool = False,
    refit: bool = False,
    on_half: Callable[[str], None] | None = None,
) -> Report:
    """Materialize the graph: all clusters up to the histogram, then each configured eps.

    Raises:
        RunFailedError: an asset or a blocking check failed.
    """
    if settings.device == "auto" and resolve_device("auto") == "cpu":
        # A step that does not use a GPU must not wait for the pool: Dagster leaves the slot of a
        # killed run taken, and the next run would wait for ever.
        settings = settings.model_copy(update={"device": "cpu"})
    report = Report()
    with track("preparing the run"):
        definitions = build_definitions(settings)
        register_eps(instance, settings)
        end_abandoned_runs(instance, settings)
    scoring = definitions.resolve_job_def(scoring_job_name(settings))
    curation = definitions.resolve_job_def(curation_job_name(settings))
    config: dict[str, Any] = {} if verbose else dict(_QUIET)
    fit = {"ops": {"__".join(asset_key(settings, CENTROIDS).path): {"config": {"refit": refit}}}}
    if on_half is not None:
        on_half("up to the similarity histogram")
    _execute(scoring, instance, config | fit, report, tags=all_clusters_tags(settings))
    for number, eps in enumerate(settings.eps_thresholds, start=1):
        if on_half is not None:
            on_half(f"eps {eps} ({number:,} of {len(settings.eps_thresholds):,})")
        keys = eps_assets(settings, eps)
        _execute(curation, instance, config, report, partition_key=eps, asset_selection=keys)
    return report


def _execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    config: dict[str, Any],
    report: Report,
    tags: dict[str, str] | None = None,
    **options: Any,
) -> None:
    result = job.execute_in_process(
        run_config=config,
        instance=instance,
        raise_on_error=False,
        tags={**REPOSITORY, **process_tags(), **(tags or {})},
        **options,
    )
    eps = options.get("partition_key")
    for event in result.all_events:
        name = _step_name(event.step_key)
        if event.event_type == dg.DagsterEventType.STEP_SUCCESS:
            label = f"{name} (eps {eps})" if eps else name
            report.seconds[label] = event.step_success_data.duration_ms / 1000
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity == dg.AssetCheckSeverity.WARN:
                report.warnings.append(check.description or check.check_name)
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
    for asset in (SIMILARITY_HISTOGRAM, DUPLICATE_IDS, CURATED_SHARDS):
        if name.startswith(f"{asset}_"):
            return f"check {name.removeprefix(f'{asset}_')}"
    return name


def _reason(result: dg.ExecuteInProcessResult) -> str:
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
    for check in result.get_asset_check_evaluations():
        if not check.passed:
            return f"check {check.check_name} failed: {check.description}"
    return "the run failed; --verbose shows its log"
