"""``dedup-assets suggest-clusters`` and ``run --n-clusters auto``: how many clusters."""

import json
import shlex
from typing import Any

from rich.console import Console

from dedup_assets.command.durations import format_duration
from dedup_assets.command.settings_file import check_output, read_settings
from dedup_assets.command.terminal import make_table, show_progress
from dedup_assets.compute.cost import Choice, Prediction
from dedup_assets.errors import SettingsError
from dedup_assets.progress import listening
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import FEWEST_ROWS_PER_CENTROID
from dedup_assets.stages.suggestion import Measured, measure, suggest, survey
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.store.sizes import format_bytes

_ALL = 100  # more round numbers than there are
_EXPLAINED = (
    "Fewer clusters miss fewer duplicates. A prediction may be off by two times.\n"
    "Counted: a first run up to the histogram; rest is reading, writing and the search for what "
    "clustering misses. Not counted: the lists and shards of an eps, and some seconds of Dagster's "
    "own."
)
_GROWN = 2.0  # times as many rows: comparing takes four times as long


def suggest_clusters(
    settings: Settings, budget_s: float, flags: list[str], console: Console, *, as_json: bool
) -> int:
    """Say what some numbers of clusters would cost, and which one to go on with.

    Args:
        settings: where the input is and how it is read; ``n_clusters`` is not looked at.
        budget_s: seconds that scoring may take.
        flags: those of the command to go on with, but for ``--n-clusters``.
        console: where to print.
        as_json: print one JSON document instead.
    """
    measured = measure(settings, survey(settings)) if as_json else _measure(settings, console)
    choice = suggest(settings, measured, budget_s)
    command = shlex.join(["dedup-assets", "run", *flags, "--n-clusters", str(choice.clusters)])
    if as_json:
        document = _document(measured, choice, budget_s, command)
        console.out(json.dumps(document, indent=1), highlight=False)
        return 0
    _show(console, settings, measured, choice, budget_s, choice.neighbours(fewer=3, more=3))
    console.print(_EXPLAINED, highlight=False)
    console.print(f"\ngo on with:  {command}", soft_wrap=True, markup=False, highlight=False)
    return 0


def resolve_clusters(
    settings: Settings, budget_s: float, console: Console, *, anew: bool
) -> Settings:
    """The settings with a number of clusters: that of an earlier run, or else a suggested one.

    Another number would throw away everything in the output folder, so a run that only finds the
    machine busier, or some more files, must not come to one.

    Args:
        settings: ``n_clusters`` is not looked at.
        budget_s: seconds that scoring may take.
        console: where to print.
        anew: choose even if there was an earlier run.
    """
    check_output(settings)  # before the machine is measured for minutes
    store = settings.storage.open_output()
    found = None if anew else _recorded_clusters(store, settings.dataset, console)
    if found is not None:
        with listening(show_progress(console)):
            rows = survey(settings).manifest.rows
        if found <= rows:
            _show_reused(console, store, found, rows)
            return settings.replace(n_clusters=found)
        console.print(
            f"n_clusters {found} of {store.url(layout.SETTINGS)} is more than the {rows:,} rows "
            "there are; choosing anew",
            soft_wrap=True,
            markup=False,
        )
    measured = _measure(settings, console)
    choice = suggest(settings, measured, budget_s)
    _show(console, settings, measured, choice, budget_s, choice.neighbours(fewer=1, more=1))
    return settings.replace(n_clusters=choice.clusters)


def _measure(settings: Settings, console: Console) -> Measured:
    with listening(show_progress(console)):
        surveyed = survey(settings)
    with console.status("measuring this machine on some of the rows"):
        return measure(settings, surveyed)


def _recorded_clusters(store: Store, dataset: str, console: Console) -> int | None:
    """The ``n_clusters`` of the last run of a dataset into an output folder, if there was one."""
    try:
        last = read_settings(store)
    except SettingsError as error:
        console.print(f"{error}; choosing anew", style="yellow", markup=False, soft_wrap=True)
        return None
    return last.clustering.n_clusters if last is not None and last.dataset == dataset else None


def _show_reused(console: Console, store: Store, clusters: int, rows: int) -> None:
    console.print(
        f"n_clusters {clusters}, as in {store.url(layout.SETTINGS)}, so that what is there stays "
        "valid; --refit chooses anew within --time-budget",
        soft_wrap=True,
        markup=False,
    )
    then = _rows_when_fitted(store)
    if then and rows >= _GROWN * then:
        console.print(
            f"the input has grown from {then:,} to {rows:,} rows since k-means was fitted, so "
            f"comparing all of them takes about {(rows / then) ** 2:,.0f} times as long; --refit "
            "chooses anew and computes everything again",
            style="yellow",
        )


def _rows_when_fitted(store: Store) -> int | None:
    try:
        return json.loads(store.read_bytes(layout.CENTROIDS_INFO)).get("input_rows")
    except (FileNotFoundError, ValueError):
        return None


def _show(
    console: Console,
    settings: Settings,
    measured: Measured,
    choice: Choice,
    budget_s: float,
    predictions: list[Prediction],
) -> None:
    """The table, and what was chosen and why."""
    times = ["fit", "assign", "compare", "rest", "all"]
    rows = [
        [
            p.clusters,
            round(p.rows),
            *map(format_duration, (p.fit, p.assign, p.compare, p.rest, p.total)),
            _note(p, choice),
        ]
        for p in predictions
    ]
    title = (
        f"Predicted times: {measured.manifest.rows:,} rows of {measured.manifest.dim} dimensions "
        f"on {measured.device}"
    )
    columns = ["clusters", "rows in each", *times, ""]
    console.print(make_table(title, columns, rows, right=times))
    console.print(_reason(choice, budget_s), highlight=False)
    chosen = choice.chosen
    if chosen.largest_bytes > settings.compute.memory_budget:
        console.print(
            f"its largest cluster takes about {format_bytes(chosen.largest_bytes)} of memory, "
            "which comes on top of --memory-budget "
            f"({format_bytes(settings.compute.memory_budget)})",
            style="yellow",
            highlight=False,
        )


def _note(prediction: Prediction, choice: Choice) -> str:
    if not prediction.in_memory:
        return f"too large for the memory ({format_bytes(prediction.largest_bytes)})"
    notes = ["<- chosen"] if prediction.clusters == choice.clusters else []
    if prediction.fit_rows < FEWEST_ROWS_PER_CENTROID * prediction.clusters:
        per = prediction.fit_rows // prediction.clusters
        notes.append(f"few rows to fit on ({per} a centroid, at least {FEWEST_ROWS_PER_CENTROID})")
    return ", ".join(notes)


def _reason(choice: Choice, budget_s: float) -> str:
    took, budget = format_duration(choice.chosen.total), format_duration(budget_s)
    if not choice.within_budget:
        return (
            f"No number of clusters is predicted to stay within {budget}. The fastest is "
            f"{choice.clusters:,}, with {took}."
        )
    if choice.clusters == 1:
        return f"1 cluster compares all rows and misses nothing: {took}, within {budget}."
    why = "the fewest predicted to stay within"
    if any(p.total <= budget_s and not p.in_memory for p in choice.predictions.values()):
        why = "the fewest that fit into the memory, within"
    return f"{choice.clusters:,} clusters: {why} {budget}, with {took}."


def _document(measured: Measured, choice: Choice, budget_s: float, command: str) -> dict[str, Any]:
    return {
        "rows": measured.manifest.rows,
        "dim": measured.manifest.dim,
        "device": measured.device,
        "time_budget_s": budget_s,
        "n_clusters": choice.clusters,
        "within_budget": choice.within_budget,
        "command": command,
        "measured_in_s": round(measured.seconds, 2),
        "measured_on_rows": measured.sample_rows,
        "largest_cluster_bytes_possible": measured.free_bytes,
        "predictions": [
            {
                "n_clusters": p.clusters,
                "rows_per_cluster": round(p.rows, 1),
                "fit_s": round(p.fit, 3),
                "assign_s": round(p.assign, 3),
                "compare_s": round(p.compare, 3),
                "rest_s": round(p.rest, 3),
                "all_s": round(p.total, 3),
                "largest_cluster_bytes": p.largest_bytes,
                "in_memory": p.in_memory,
                "chosen": p.clusters == choice.clusters,
            }
            for p in choice.neighbours(fewer=_ALL, more=_ALL)
        ],
    }
