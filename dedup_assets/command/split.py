"""``dedup-assets split``: videos into clips and embeddings, for a run to deduplicate."""

import argparse
import shlex

from pydantic import ValidationError
from rich.console import Console

from dedup_assets.command.arguments import (
    OneLineParser,
    check_settings,
    describe,
    flag,
    given_values,
)
from dedup_assets.command.split_arguments import SETTINGS
from dedup_assets.command.terminal import make_table, show_progress
from dedup_assets.progress import listening
from dedup_assets.settings import Settings
from dedup_assets.settings.videos import Videos
from dedup_assets.stages.machine import engine_of
from dedup_assets.stages.overlaps import refuse_nested
from dedup_assets.stages.splitting import Done, Plan, Splitting, plan, split
from dedup_assets.store import processed
from dedup_assets.store.filesystem import Store
from dedup_assets.store.locks import COMMAND, WHOLE, writing
from dedup_assets.video.encoders import check_encoder

_SHOWN = 10


def run_split(parser: OneLineParser, arguments: argparse.Namespace, console: Console) -> int:
    """Split what is new, and say what came of it. Returns the exit code."""
    given = vars(arguments)
    try:
        videos = Videos.model_validate({n: given[n] for n in Videos.model_fields if n in given})
    except ValidationError as error:
        parser.error("; ".join(describe(e, flag) for e in error.errors()[:3]))
    if arguments.limit is not None and arguments.limit < 1:
        parser.error(f"--limit: must be at least 1, got {arguments.limit}")
    settings = _settings(parser, arguments, videos)
    refuse_nested(
        ("--output-clip-path", settings.storage.output_path, settings.storage.output_access),
        ("--video-dir", settings.source.input_embeddings_path, settings.storage.input_access),
    )
    common = Splitting(
        videos,
        settings.storage.input_access,
        settings.storage.output_access,
        settings.compute.device,
    )
    if not videos.copy_video:
        check_encoder(videos.transcode_encoder)
    planned = plan(common, arguments.limit)
    if arguments.dry_run:
        _show_plan(console, planned)
        return 0
    if planned.todo and settings.compute.engine == "local":
        # The model is loaded before anything is written.
        console.print(f"embedding with {common.embedder.name}", markup=False, highlight=False)
    common.store.sweep()
    with listening(show_progress(console)), writing(common.store, COMMAND, [WHOLE], reads={}):
        done = split(common, engine_of(settings), planned)
    _show(console, common, done)
    return 0


def _settings(parser: OneLineParser, arguments: argparse.Namespace, videos: Videos) -> Settings:
    """What a run has too: how either side is reached, and who does the tasks."""
    paths = {
        "input_embeddings_path": videos.video_dir,
        "output_path": videos.output_clip_path,
        "n_clusters": 1,
    }
    named = {"input_embeddings_path": "video_dir", "output_path": "output_clip_path"}
    values = {k: v for k, v in given_values(arguments).items() if k in SETTINGS}
    return check_settings(parser, values | paths, lambda name: flag(named.get(name, name)))


def _show_plan(console: Console, planned: Plan) -> None:
    console.print(
        f"{planned.videos:,} videos: {len(planned.todo):,} to split, "
        f"{len(planned.gone):,} changed or gone",
        highlight=False,
    )
    for video in planned.todo[:_SHOWN]:
        console.print(f"  {video.name}", markup=False, highlight=False)
    if len(planned.todo) > _SHOWN:
        console.print(f"  and {len(planned.todo) - _SHOWN:,} more", highlight=False)


def _show(console: Console, common: Splitting, done: Done) -> None:
    store: Store = common.store
    rows = [
        ["videos", done.videos],
        ["split now", done.split],
        ["clips of all of them", done.clips],
        ["failed", len(done.failed)],
    ]
    console.print(make_table(f"Below {store.url()}", ["what", "how many"], rows))
    for reason in sorted(done.failed.values())[:_SHOWN]:
        console.print(f"failed: {reason}", markup=False, highlight=False, soft_wrap=True)
    if done.failed:
        console.print(
            f"all of them: {store.url(processed.FAILED)}", highlight=False, soft_wrap=True
        )
    if done.clips:
        command = ["dedup-assets", "run", "--input-embeddings-path", store.url()]
        command += ["--output-path", "out", "--n-clusters", "auto"]
        console.print(
            f"\ngo on with:  {shlex.join(command)}", soft_wrap=True, markup=False, highlight=False
        )
