"""The tables at the end of a run."""

import shlex
from typing import Any

from rich.console import Console

from dedup_assets.assets.common import (
    CENTROIDS,
    CURATED_SHARDS,
    DUPLICATE_IDS,
    EMBEDDINGS,
    PAIRWISE_SCORES,
    SIMILARITY_HISTOGRAM,
)
from dedup_assets.assets.curated_shards import NO_MEDIA
from dedup_assets.command.runner import Report
from dedup_assets.command.terminal import make_table
from dedup_assets.errors import listed
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import FEWEST_ROWS_PER_CENTROID
from dedup_assets.stages.duplicates import stale_eps
from dedup_assets.stages.missed import Missed, find_missed
from dedup_assets.stages.scores import warn_of_size
from dedup_assets.store import layout


def show_report(console: Console, settings: Settings, report: Report, seconds: float) -> None:
    """Print what a run came to: rows, eps values, where things are, time, what was reused."""
    _stages(console, report, seconds)
    embeddings = report.first(EMBEDDINGS)
    console.print(
        f"\n{embeddings['dagster/row_count']:,} rows of {embeddings['dimension']} dimensions in "
        f"{_count(embeddings['files'], 'file')}, {_count(settings.n_clusters, 'cluster')}"
    )
    per_centroid = report.first(CENTROIDS)["sample_rows"] / settings.n_clusters
    if per_centroid < FEWEST_ROWS_PER_CENTROID:
        console.print(
            f"[yellow]k-means was fitted on {per_centroid:.0f} rows a centroid, fewer than "
            f"{FEWEST_ROWS_PER_CENTROID}: consider a lower --n-clusters[/]"
        )
    largest = max(entry["largest_cluster"] for entry in report.metadata[PAIRWISE_SCORES])
    too_large = warn_of_size(settings, largest, embeddings["dimension"])
    for warning in [*([too_large] if too_large else []), *report.warnings]:
        console.print(warning, style="yellow", markup=False)
    missed = find_missed(settings, settings.open_output())
    if DUPLICATE_IDS in report.metadata:
        _thresholds(console, report, missed)
    else:
        _choose_eps(console, report, missed)
    _places(console, settings, missed)
    _what_next(console, settings, report)


def _stages(console: Console, report: Report, seconds: float) -> None:
    rows = []
    for name, took in report.seconds.items():
        rows.append([name, took])
        if name == SIMILARITY_HISTOGRAM and report.missed_seconds:
            rows.append(["  of it, comparing the sample", report.missed_seconds])
    rows.append(["all, with Dagster's own", seconds])
    console.print(make_table("Time", ["step", "seconds"], rows))
    current = report.recomputed()
    computed = [f"{name} {new:,} of {of:,} {unit}" for name, new, of, unit in current if new]
    if not computed:
        console.print("everything was current; nothing was computed again")
    elif any(new < of for _, new, of, _ in current):
        console.print(f"computed {', '.join(computed)}; the rest was current")


def _thresholds(console: Console, report: Report, missed: Missed | None) -> None:
    rows = [
        [
            entry["partition"],
            entry["kept"],
            entry["removed"],
            f"{entry['share_removed']:.2%}",
            entry["rejected"],
        ]
        for entry in report.metadata[DUPLICATE_IDS]
    ]
    columns = ["eps", "kept", "removed", "share removed", "rejected"]
    _with_missed(console, "Duplicates", columns, rows, missed)


def _choose_eps(console: Console, report: Report, missed: Missed | None) -> None:
    records = report.first(SIMILARITY_HISTOGRAM)["share_removed_by_eps"].records
    rows = [[r.data["eps"], r.data["removed"], f"{r.data['share_removed']:.2%}"] for r in records]
    columns = ["eps", "removed", "share"]
    _with_missed(console, "What each eps would remove", columns, rows, missed)
    console.print(
        "No eps was given, so this stops here. Look at the histogram, then run again with "
        "--eps-thresholds (ids to remove) or --eps-to-extract (and the shards); nothing above "
        "is computed again."
    )


def _with_missed(
    console: Console,
    title: str,
    columns: list[str],
    rows: list[list[Any]],
    missed: Missed | None,
) -> None:
    """A table of eps values, with what clustering misses at each one where that is known."""
    if missed is not None:
        columns = [*columns, "missed"]
        rows = [[*row, missed.describe(row[0])] for row in rows]
    console.print(make_table(title, columns, rows))
    if missed is None:
        return
    if missed.one_cluster:
        console.print("missed: nothing, since one cluster compares every clip with every other.")
        return
    sampled = missed.table.num_rows
    if sampled == missed.rows:
        how = "counted by comparing all with all"
    else:
        how = f"estimated by comparing {sampled:,} with all (in brackets the 95% interval)"
    console.print(
        "missed: of the clips with a duplicate at that eps, those with none in their own cluster, "
        f"{how}; fewer clusters miss less."
    )


def _places(console: Console, settings: Settings, missed: Missed | None) -> None:
    store = settings.open_output()
    rows = [["similarity histogram", layout.HISTOGRAM_PLOT], ["scores", layout.SCORES]]
    if missed is not None and not missed.one_cluster:
        rows.append(["what clustering missed", layout.MISSED])
    for eps in settings.eps_thresholds:
        rows.append([f"ids to remove, eps {eps}", layout.unique_ids(eps)])
        rows.append([f"summary, eps {eps}", layout.summary(eps)])
    if settings.eps_to_extract is not None:
        rows.append(
            [
                f"curated clips, eps {settings.eps_to_extract}",
                layout.shards(settings.eps_to_extract),
            ]
        )
    rows = [[what, store.layout.on_disk(where)] for what, where in rows]
    console.print(make_table(f"Below {store.url()}", ["what", "where"], rows))


def _what_next(console: Console, settings: Settings, report: Report) -> None:
    stale = stale_eps(settings, settings.open_output())
    if stale:
        console.print(
            f"[yellow]the lists at eps {listed(stale)} are of an earlier configuration or "
            "input: run them again, or delete them[/]"
        )
    for entry in report.metadata.get(CURATED_SHARDS, []):
        if entry["media"] == NO_MEDIA:
            console.print("no --clips-path: only the index of kept ids was written, no shards")
        elif entry["missing_media"]:
            console.print(
                f"[yellow]{entry['missing_media']:,} kept clips have no media; see "
                f"{layout.missing_media(entry['partition'])}[/]"
            )
    command = f"dedup-assets ui {shlex.quote(settings.output_path)}"
    # Not wrapped, so that it can be copied; not markup, since a path may hold brackets.
    console.print(f"\nin the Dagster UI:  {command}", soft_wrap=True, markup=False)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
