"""What ``dedup-assets run`` starts: what has to be made, and what Dagster does not know of."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from rich.console import Console

from dedup_assets.assets.common import asset_key
from dedup_assets.checks import BLOCKING
from dedup_assets.command.instance import has_instance, open_instance, use_instance
from dedup_assets.command.settings_file import check_output
from dedup_assets.graph import PARTITIONED, SCORING, SPLITTING
from dedup_assets.runs import eps_assets
from dedup_assets.settings import Settings
from dedup_assets.stages.plan import Work, plan_splitting, plan_work
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.store.filesystem import Store
from dedup_assets.store.processed import KEY_NAMES

WORK_TO_DO = 3
"""Exit code of ``run --plan`` where something is to be made."""

_NOT_PASSED = (
    AssetCheckExecutionRecordStatus.FAILED,
    AssetCheckExecutionRecordStatus.PLANNED,  # the run ended before
)


def show_plan(console: Console, work: list[Work]) -> None:
    """Print a line for each asset to make."""
    for item in work:
        console.print(f"  {item}", soft_wrap=True, markup=False, highlight=False)
    if not work:
        console.print("everything is current; there is nothing to do", soft_wrap=True)


def plan_only(
    settings: Settings,
    console: Console,
    *,
    refit: bool,
    as_json: bool,
    complete: Callable[[Settings], Settings] | None = None,
) -> int:
    """Print what a run would make, and make nothing. Returns what `print_plan` does.

    ``complete`` chooses what the settings leave open; that takes the embeddings.
    """
    check_output(settings)
    store = settings.storage.open_output()
    with ExitStack() as opened:
        instance = None
        if has_instance(settings.storage.output_path):
            use_instance(settings.storage.output_path)
            instance = opened.enter_context(open_instance())
        if complete is not None:
            if first := plan_videos(settings, store, instance):
                reason = "follows clip_embeddings, after which n_clusters is chosen"
                later = [Work(name, reason) for name in SCORING]
                return print_plan(console, [*first, *later], as_json=as_json)
            settings = complete(settings)
        work = plan_run(settings, store, instance, refit=refit)
    return print_plan(console, work, as_json=as_json)


def print_plan(console: Console, work: list[Work], *, as_json: bool) -> int:
    """Print a plan. Returns 0 if there is nothing to do, else 3."""
    if as_json:
        document = [
            {"asset": w.asset, "keys": list(w.keys), "of": w.of, "reason": w.reason} for w in work
        ]
        console.out(json.dumps(document, indent=1), highlight=False)
    else:
        show_plan(console, work)
    return WORK_TO_DO if work else 0


def plan_run(
    settings: Settings, store: Store, instance: dg.DagsterInstance | None, *, refit: bool = False
) -> list[Work]:
    """What a run has to start: what is missing or stale, what did not pass its checks, and what
    this instance knows nothing of.

    The UI shows the events of the instance, so what is current and not among them is looked at
    once more, which costs little. Without an instance nothing is recorded.

    Raises:
        InputError: the input cannot be listed.
    """
    work = plan_work(settings, store, refit=refit)
    known = [*_unpassed(settings, instance), *_unrecorded(settings, instance)]
    return _joined(settings, work, known)


def plan_videos(
    settings: Settings, store: Store, instance: dg.DagsterInstance | None
) -> list[Work]:
    """As `plan_run`, of the assets that make embeddings of videos alone; none without videos.

    Raises:
        InputError: there is no video.
    """
    if not settings.begins_with_videos:
        return []
    unrecorded = [item for item in _unrecorded(settings, instance) if item.asset in SPLITTING]
    return _joined(settings, plan_splitting(settings, store), unrecorded)


def _joined(settings: Settings, work: list[Work], more: list[Work]) -> list[Work]:
    """Work and what else is to be made, each key once, in the order of the graph."""
    planned = {(item.asset, key) for item in work for key in item.keys or ("",)}
    for item in more:
        keys = tuple(key for key in item.keys or ("",) if (item.asset, key) not in planned)
        if keys:
            work.append(replace(item, keys=keys if item.keys else ()))
            planned |= {(item.asset, key) for key in keys}
    return sorted(work, key=lambda item: settings.assets_made.index(item.asset))


def _unpassed(settings: Settings, instance: dg.DagsterInstance | None) -> list[Work]:
    """What is current, and has a blocking check that did not pass when it was last run."""
    if instance is None:
        return []
    found = []
    whole = [asset_key(settings, name) for name in BLOCKING if name not in PARTITIONED]
    assets_of: dict[str | None, list[dg.AssetKey]] = {None: whole}
    assets_of |= {eps: eps_assets(settings, eps) for eps in settings.thresholds.eps_thresholds}
    for eps, assets in assets_of.items():
        checks = [dg.AssetCheckKey(a, name) for a in assets for name in BLOCKING[a.path[-1]]]
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(
            checks, None if eps is None else PartitionKeyFilter(key=eps)
        )
        for check in checks:
            record = latest.get(check)
            if record is not None and record.status in _NOT_PASSED:
                keys = () if eps is None else (eps,)
                reason = f"its check {check.name} did not pass"
                found.append(Work(check.asset_key.path[-1], reason, keys, len(keys)))
    return found


def _unrecorded(settings: Settings, instance: dg.DagsterInstance | None) -> list[Work]:
    """What the instance has no materialization of."""
    found = []
    reason = "current, and not recorded in this Dagster instance"
    for name in settings.assets_made:
        key = asset_key(settings, name)
        match PARTITIONED.get(name):
            case "clusters" | "videos" as kind:
                keys = tuple(KEY_NAMES if kind == "videos" else cluster_ranges(settings))
                recorded = instance.get_materialized_partitions(key) if instance else ()
                if lacking := tuple(k for k in keys if k not in recorded):
                    found.append(Work(name, reason, lacking, len(keys)))
            case "eps":
                recorded = instance.get_materialized_partitions(key) if instance else ()
                found += [
                    Work(name, reason, (eps,), 1)
                    for eps in settings.thresholds.eps_thresholds
                    if key in eps_assets(settings, eps) and eps not in recorded
                ]
            case None if not (instance and instance.get_latest_materialization_event(key)):
                found.append(Work(name, reason))
    return found
