"""The tables at the end of a run."""

import shlex
from typing import Any

from rich.console import Console

from dedup_assets.command.runner import Report
from dedup_assets.command.terminal import make_table
from dedup_assets.errors import StaleError, listed
from dedup_assets.graph import CURATION, PARTITIONED
from dedup_assets.runs import eps_assets
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import FEWEST_ROWS_PER_CENTROID
from dedup_assets.stages.duplicates import read_summary, stale_eps
from dedup_assets.stages.embeddings import clips_folder
from dedup_assets.stages.histogram import found_histogram, shown_eps
from dedup_assets.stages.missed import Missed, find_missed
from dedup_assets.stages.quality import verify_balance, verify_fit, verify_missed
from dedup_assets.stages.scores import warn_of_size
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.processed import KEYS
from dedup_assets.store.tables import count_rows


def show_report(console: Console, snapshot: Snapshot, report: Report, seconds: float) -> None:
    """Print what an output holds after a run: rows, eps values, where things are, and the time."""
    settings, manifest = snapshot.settings, snapshot.manifest
    clusters = settings.clustering.n_clusters
    _stages(console, settings, report, seconds)
    console.print(
        f"\n{manifest.rows:,} rows of {manifest.dim} dimensions in "
        f"{_count(len(manifest.files), 'file')}, {_count(clusters, 'cluster')}"
    )
    for warning in _warnings(snapshot):
        console.print(warning, style="yellow", markup=False)
    missed = find_missed(snapshot)
    if settings.thresholds.eps_thresholds:
        _thresholds(console, snapshot, missed)
    else:
        _choose_eps(console, snapshot, missed)
    _places(console, snapshot, missed)
    _what_next(console, snapshot)


def _stages(console: Console, settings: Settings, report: Report, seconds: float) -> None:
    rows = [[name, took] for name, took in report.seconds.items()]
    rows.append(["total, including Dagster", seconds])
    console.print(make_table("Time", ["step", "seconds"], rows))
    parts = report.recomputed()
    computed = [str(part) for part in parts if part.new]
    if not computed:
        console.print("everything was current; nothing was computed again")
    elif len(report.keys()) < _keys_of_graph(settings) or any(p.new < p.of for p in parts):
        console.print(f"computed {', '.join(computed)}; the rest was current", soft_wrap=True)


def _keys_of_graph(settings: Settings) -> int:
    """How many assets and partition keys a run makes where nothing is there yet."""
    at_eps = sum(len(eps_assets(settings, eps)) for eps in settings.thresholds.eps_thresholds)
    keys = {None: 1, "videos": KEYS, "clusters": len(cluster_ranges(settings))}
    names = [name for name in settings.assets_made if name not in CURATION]
    return at_eps + sum(keys[PARTITIONED.get(name)] for name in names)


def _warnings(snapshot: Snapshot) -> list[str]:
    """What to know of the results, besides the results themselves."""
    settings = snapshot.settings
    found = []
    per_centroid = snapshot.centroids.info["sample_rows"] / settings.clustering.n_clusters
    if per_centroid < FEWEST_ROWS_PER_CENTROID:
        found.append(
            f"k-means was fitted on {per_centroid:.0f} rows a centroid, fewer than "
            f"{FEWEST_ROWS_PER_CENTROID}: consider a lower --n-clusters"
        )
    largest = max(e.rows for ledger in snapshot.ledgers.values() for e in ledger.clusters.values())
    too_large = warn_of_size(settings, largest, snapshot.manifest.dim)
    verdicts = [verify(snapshot) for verify in (verify_fit, verify_balance, verify_missed)]
    return [
        *found,
        *([too_large] if too_large else []),
        *(verdict.description for verdict in verdicts if not verdict.passed),
    ]


def _thresholds(console: Console, snapshot: Snapshot, missed: Missed | None) -> None:
    rows = []
    for eps in snapshot.settings.thresholds.eps_thresholds:
        found = read_summary(snapshot.store, eps)
        if found is None:
            raise StaleError(f"{snapshot.store.url(layout.summary(eps))} is gone; run again")
        share = found["removed"] / max(1, found["total"])
        rows.append([eps, found["kept"], found["removed"], f"{share:.2%}", found["rejected"]])
    columns = ["eps", "kept", "removed", "share removed", "rejected"]
    _with_missed(console, "Duplicates", columns, rows, missed)


def _choose_eps(console: Console, snapshot: Snapshot, missed: Missed | None) -> None:
    histogram = found_histogram(snapshot)
    if histogram is None:
        raise StaleError(f"{snapshot.store.url(layout.HISTOGRAM)} is gone; run again")
    records = [histogram.at(eps) for eps in shown_eps(snapshot.settings)]
    rows = [[r["eps"], r["removed"], f"{r['share_removed']:.2%}"] for r in records]
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


def _places(console: Console, snapshot: Snapshot, missed: Missed | None) -> None:
    settings, store = snapshot.settings, snapshot.store
    rows = [["similarity histogram", layout.HISTOGRAM_PLOT], ["scores", layout.SCORES]]
    if missed is not None and not missed.one_cluster:
        rows.append(["what clustering missed", layout.MISSED])
    for eps in settings.thresholds.eps_thresholds:
        rows.append([f"ids to remove, eps {eps}", layout.unique_ids(eps)])
        rows.append([f"summary, eps {eps}", layout.summary(eps)])
    if settings.thresholds.eps_to_extract is not None:
        eps = settings.thresholds.eps_to_extract
        rows.append([f"curated clips, eps {eps}", layout.shards(eps)])
    rows = [[what, store.layout.on_disk(where)] for what, where in rows]
    console.print(make_table(f"Below {store.url()}", ["what", "where"], rows))


def _what_next(console: Console, snapshot: Snapshot) -> None:
    settings, store = snapshot.settings, snapshot.store
    stale = stale_eps(snapshot)
    if stale:
        console.print(
            f"[yellow]the lists at eps {listed(stale)} are of an earlier configuration or "
            "input: run them again, or delete them[/]"
        )
    eps = settings.thresholds.eps_to_extract
    if eps is not None and clips_folder(settings, snapshot.manifest) is None:
        console.print("no --clips-path: only the index of kept ids was written, no shards")
    elif eps is not None and store.exists(layout.missing_media(eps)):
        missing = count_rows(store, layout.missing_media(eps))
        console.print(
            f"[yellow]{missing:,} kept clips have no media; see {layout.missing_media(eps)}[/]"
        )
    command = f"dedup-assets ui {shlex.quote(settings.storage.output_path)}"
    # Not wrapped, so that it can be copied; not markup, since a path may hold brackets.
    console.print(f"\nin the Dagster UI:  {command}", soft_wrap=True, markup=False)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
