"""``dedup-assets demo``: make clips whose truth is known, deduplicate them, and compare."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape

from dedup_assets.command.run import RunOptions, run_and_report
from dedup_assets.command.terminal import make_table, show_progress
from dedup_assets.demo.clips import make_clips, truth_path
from dedup_assets.demo.evaluate import KindResult, recall_and_precision
from dedup_assets.progress import listening, track
from dedup_assets.settings import Settings
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.video.descriptor import embed_clips

EPS_VALUES = ("0.05", "0.15")
N_CLUSTERS = 4
OUTPUT = "output"


def run_demo(folder: Path, console: Console, *, verbose: bool) -> int:
    """Make the demo in ``folder`` and say how much of the truth was found. Returns 0."""
    started = time.monotonic()
    with listening(show_progress(console)):
        console.print("[bold]1[/] drawing and encoding clips into", escape(f"{folder}/clips"))
        with _counting("drawing clips") as on_clip:
            truth = make_clips(folder, on_clip=on_clip)
        console.print("[bold]2[/] describing their frames (no model weights)")
        _embed(folder)
    console.print("[bold]3[/] running the graph")
    settings = demo_settings(folder)
    run_and_report(settings, console, RunOptions(verbose=verbose))
    store = settings.storage.open_output()
    for eps in EPS_VALUES:
        _show(console, eps, recall_and_precision(truth, _removed(store, eps)))
    _explain(console, folder, time.monotonic() - started)
    return 0


def demo_settings(folder: Path) -> Settings:
    """The settings that the demo runs with, those of ``defs/demo`` below ``folder``."""
    return Settings.of(
        dataset="demo",
        input_embeddings_path=str(folder / "embeddings"),
        clips_path=str(folder / "clips"),
        output_path=str(folder / OUTPUT),
        n_clusters=N_CLUSTERS,
        eps_thresholds=EPS_VALUES,
        eps_to_extract=EPS_VALUES[0],
        metadata_fields=["duration_s", "width", "height"],
    )


def _embed(folder: Path) -> None:
    """Describe the clips, unless that was done since they were made."""
    out = folder / "embeddings"
    parts = list(out.glob("part-*.parquet"))
    made = truth_path(folder).stat().st_mtime
    if not parts or min(part.stat().st_mtime for part in parts) < made:
        with _counting("describing clips") as on_clip:
            embed_clips(folder / "clips", out, on_clip=on_clip)


@contextmanager
def _counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """A callback of (done, total) that shows as a pass; the total is known at its first call."""
    advance: Callable[[int], None] | None = None
    passes = []
    before = 0

    def on_clip(done: int, total: int) -> None:
        nonlocal advance, before
        if advance is None:
            passes.append(track(label, total, "clips"))
            advance = passes[0].__enter__()
        advance(done - before)
        before = done

    try:
        yield on_clip
    finally:
        for entered in passes:
            entered.__exit__(None, None, None)


def _removed(store: Store, eps: str) -> pa.Table:
    with store.open(layout.unique_ids_part(eps, 0)) as file:
        schema = pq.read_schema(file)
    parts = []
    for name in store.list(layout.unique_ids(eps), ".parquet"):
        with store.open(f"{layout.unique_ids(eps)}/{name}") as file:
            parts.append(pq.read_table(file))
    return pa.concat_tables(parts) if parts else schema.empty_table()


def _show(console: Console, eps: str, results: list[KindResult]) -> None:
    rows = [
        [
            result.kind,
            result.n,
            "" if result.recall is None else f"{result.found} ({result.recall:.0%})",
            result.removed,
            result.removed_wrongly,
            "" if result.precision is None else f"{result.precision:.0%}",
        ]
        for result in results
    ]
    columns = ["kind of clip", "clips", "found (recall)", "removed", "wrongly", "precision"]
    console.print()
    console.print(make_table(f"Truth at eps {eps}", columns, rows))


def _explain(console: Console, folder: Path, seconds: float) -> None:
    output = folder / OUTPUT
    eps = EPS_VALUES[0]
    console.print(
        "found: it and its original are not both kept. wrongly: removed for a clip of another "
        "scene or take. Originals are removed too: which clip of a group is kept is a matter of "
        "ranking (hard keeps the one farthest from its centroid).\n"
        "The built-in descriptor compares layout, edges, colour and motion. It is no "
        "Cosmos-Embed1: it knows nothing of what a clip shows and, having sides, misses mirrored "
        "clips. A wider eps finds more and begins to take look-alikes; that is the choice which "
        "the histogram is for.\n"
    )
    console.print(f"[bold]Open next[/] ({seconds:.0f} s in all)")
    for what, where in (
        ("the histogram", output / layout.HISTOGRAM_PLOT),
        ("the removed pairs", output / layout.unique_ids(eps)),
        ("the curated shards", output / layout.shards(eps)),
        ("the Dagster UI", f"dedup-assets ui {shlex.quote(str(output))}"),
    ):
        console.print(f"  {what:<19} {where}", soft_wrap=True, markup=False)
