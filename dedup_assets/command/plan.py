"""What ``dedup-assets run`` starts: what has to be made, and what Dagster does not know of."""

import json

import dagster as dg
from rich.console import Console

from dedup_assets.assets.common import asset_key
from dedup_assets.automation import eps_assets
from dedup_assets.graph import CURATION, PARTITIONED, READS
from dedup_assets.settings import Settings
from dedup_assets.stages.plan import Work, plan_work
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.store.filesystem import Store

WORK_TO_DO = 3
"""Exit code of ``run --plan`` where something is to be made."""


def show_plan(console: Console, work: list[Work]) -> None:
    """Print a line for each asset to make."""
    for item in work:
        console.print(f"  {item}", soft_wrap=True, markup=False, highlight=False)
    if not work:
        console.print("everything is current; there is nothing to do")


def print_plan(console: Console, work: list[Work], *, as_json: bool) -> int:
    """Print a plan that is not carried out. Returns 0 if there is nothing to do, else 3."""
    if as_json:
        document = [
            {"asset": w.asset, "keys": list(w.keys), "of": w.of, "reason": w.reason} for w in work
        ]
        console.out(json.dumps(document, indent=1), highlight=False)
    else:
        show_plan(console, work)
    return WORK_TO_DO if work else 0


def plan_run(
    settings: Settings, store: Store, instance: dg.DagsterInstance, *, refit: bool = False
) -> list[Work]:
    """What a run has to start: what is missing or stale, and what this instance knows nothing of.

    The UI shows the events of the instance, so what is current and not among them is looked at
    once more, which costs little.

    Raises:
        InputError: the input cannot be listed.
    """
    work = plan_work(settings, store, refit=refit)
    planned = {(item.asset, item.keys if item.asset in CURATION else ()) for item in work}
    unknown = [item for item in _unrecorded(settings, instance) if _identity(item) not in planned]
    order = list(READS)
    return sorted([*work, *unknown], key=lambda item: order.index(item.asset))


def _identity(item: Work) -> tuple[str, tuple[str, ...]]:
    return item.asset, item.keys if item.asset in CURATION else ()


def _unrecorded(settings: Settings, instance: dg.DagsterInstance) -> list[Work]:
    """What the instance has no materialization of."""
    found = []
    reason = "current, and not recorded in this Dagster instance"
    for name in READS:
        key = asset_key(settings, name)
        match PARTITIONED.get(name):
            case "clusters":
                keys = tuple(cluster_ranges(settings))
                recorded = instance.get_materialized_partitions(key)
                lacking = tuple(k for k in keys if k not in recorded)
                if lacking:
                    found.append(Work(name, reason, lacking, len(keys)))
            case "eps":
                recorded = instance.get_materialized_partitions(key)
                found += [
                    Work(name, reason, (eps,), 1)
                    for eps in settings.eps_thresholds
                    if key in eps_assets(settings, eps) and eps not in recorded
                ]
            case None if instance.get_latest_materialization_event(key) is None:
                found.append(Work(name, reason))
    return found
