"""``dedup-assets demo``: make videos whose truth is known, deduplicate them, and compare."""

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
from dedup_assets.demo.evaluate import KindResult, recall_and_precision
from dedup_assets.demo.scenes import SECONDS
from dedup_assets.demo.transforms import BIT_RATE
from dedup_assets.demo.truth import truth_of_clips
from dedup_assets.demo.videos import make_videos
from dedup_assets.progress import listening, track
from dedup_assets.settings import Settings
from dedup_assets.stages.videos import Splitting
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store

EPS_VALUES = ("0.05", "0.15")
N_CLUSTERS = 4
OUTPUT = "output"


def run_demo(folder: Path, console: Console, *, verbose: bool) -> int:
    """Make the demo in ``folder`` and say how much of the truth was found. Returns 0."""
    started = time.monotonic()
    with listening(show_progress(console)):
        console.print("[bold]1[/] drawing and encoding videos into", escape(f"{folder}/videos"))
        with _counting("drawing videos") as on_video:
            scenes = make_videos(folder, on_video=on_video)
    console.print("[bold]2[/] running the graph: split, embed, deduplicate, shard")
    settings = demo_settings(folder)
    run_and_report(settings, console, RunOptions(verbose=verbose))
    store = settings.storage.open_output()
    truth = truth_of_clips(scenes, _clips(settings))
    for eps in EPS_VALUES:
        _show(console, eps, recall_and_precision(truth, _removed(store, eps)))
    _explain(console, folder, time.monotonic() - started)
    return 0


def demo_settings(folder: Path) -> Settings:
    """The settings that the demo runs with, those of ``defs/demo`` below ``folder``."""
    return Settings.of(
        dataset="demo",
        video_dir=str(folder / "videos"),
        fixed_stride_split_duration=float(SECONDS),
        transcode_bitrate=BIT_RATE,
        output_path=str(folder / OUTPUT),
        n_clusters=N_CLUSTERS,
        eps_thresholds=EPS_VALUES,
        eps_to_extract=EPS_VALUES[0],
        metadata_fields=["source_video", "span_start", "span_end"],
    )


def _clips(settings: Settings) -> pa.Table:
    """The clips that the videos were cut into."""
    folder = f"{settings.split_path}/{Splitting(settings).folder}"
    return pq.read_table(folder, columns=["id", "source_video", "span_start"])


@contextmanager
def _counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """A callback of (done, total) that shows as a pass; the total is known at its first call."""
    advance: Callable[[int], None] | None = None
    passes = []
    before = 0

    def on_video(done: int, total: int) -> None:
        nonlocal advance, before
        if advance is None:
            passes.append(track(label, total, "videos"))
            advance = passes[0].__enter__()
        advance(done - before)
        before = done

    try:
        yield on_video
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
