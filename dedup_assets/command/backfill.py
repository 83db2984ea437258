"""``dedup-assets backfill``: an output at more eps, from the scores that it has."""

import time

from rich.console import Console

from dedup_assets.command.instance import open_instance
from dedup_assets.command.plan import show_plan
from dedup_assets.command.report import show_report
from dedup_assets.command.run import alone
from dedup_assets.command.runner import run_graph
from dedup_assets.command.terminal import show_progress
from dedup_assets.progress import listening, track
from dedup_assets.runs import LOCATION
from dedup_assets.settings import Settings
from dedup_assets.stages.plan import plan_backfill
from dedup_assets.state.snapshot import Snapshot


def backfill(
    settings: Settings,
    eps: list[str],
    console: Console,
    *,
    shards: bool = False,
    replace_shards: bool = False,
    verbose: bool = False,
    location: str = LOCATION,
) -> int:
    """Make the lists of some eps, a Dagster run each; nothing is listed, clustered or compared.

    Args:
        settings: of an output; its own eps values stay as they are.
        eps: canonical.
        console: where to print.
        shards: whether to write curated shards at each eps too.
        replace_shards: replace curated clips also where media would be lost.
        verbose: show Dagster's log.
        location: code location under which the UI lists the Dagster runs.

    Raises:
        StaleError: the scores of a cluster are missing or stale.
        LockedError: another command works on the output.
    """
    asked = settings.replace(eps_thresholds=list(dict.fromkeys(eps)), eps_to_extract=None)
    store = asked.storage.open_output()
    started = time.monotonic()
    with (
        alone(asked),
        open_instance() as instance,
        listening(show_progress(console)),
    ):
        with track("planning"):
            work = plan_backfill(asked, store, shards=shards)
        show_plan(console, work)
        report = run_graph(
            asked,
            instance,
            work,
            verbose=verbose,
            replace_shards=replace_shards,
            location=location,
            on_part=lambda what: console.print(f"[bold]{asked.dataset}[/] {what}"),
        )
        show_report(console, Snapshot(asked, store), report, time.monotonic() - started)
    return 0
