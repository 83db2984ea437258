"""``dedup-assets split``: videos into clips and embeddings, for a run to deduplicate."""

import argparse
import shlex
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from dedup_assets.command.arguments import (
    OneLineParser,
    check_settings,
    flag,
    given_values,
)
from dedup_assets.command.terminal import make_table, show_progress
from dedup_assets.component import rooted
from dedup_assets.graph import SPLITTING
from dedup_assets.progress import listening
from dedup_assets.stages.clip_embeddings import Part, collect, failures, sort_records
from dedup_assets.stages.machine import engine_of
from dedup_assets.stages.overlaps import refuse_overlaps
from dedup_assets.stages.splitting import Plan, check_cutting, plan, split
from dedup_assets.stages.videos import (
    Listed,
    Splitting,
    list_videos,
    refuse_other_clips,
    write_list,
)
from dedup_assets.store import processed
from dedup_assets.store.locks import WHOLE, writing

REQUIRED = ("video_dir", "output_clip_path")
_SHOWN = 10


def run_split(parser: OneLineParser, arguments: argparse.Namespace, console: Console) -> int:
    """Split what is new, and say what came of it. Returns the exit code."""
    if arguments.limit is not None and arguments.limit < 1:
        parser.error(f"--limit: must be at least 1, got {arguments.limit}")
    values = given_values(arguments)
    missing = [flag(name) for name in REQUIRED if name not in values]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    # There is no other output.
    values |= {"output_path": values["output_clip_path"], "n_clusters": 1}
    settings = rooted(check_settings(parser, values, _spell), Path.cwd())
    refuse_overlaps(settings, spell=_spell)
    common = Splitting(settings)
    refuse_other_clips(common)
    listed = list_videos(common)
    planned = plan(common, listed, limit=arguments.limit)
    if arguments.dry_run:
        _show_plan(console, listed, planned)
        return 0
    check_cutting(common, planned.todo)
    if planned.todo:
        what = common.videos.embedding_algorithm
        console.print(f"embedding with {what}", markup=False, highlight=False)
    common.store.sweep()
    with ExitStack() as held:
        held.enter_context(listening(show_progress(console)))
        for asset in SPLITTING:
            held.enter_context(writing(common.store, asset, [WHOLE], reads={}))
        write_list(common, listed)
        outcomes = split(common, engine_of(settings), planned.todo)
        parts = collect(common, listed)
        common.store.sweep()
    now = sum(outcome.reason is None for outcome in outcomes)
    _show(console, common, len(listed.videos), now, list(parts.values()))
    return 0


def _spell(name: str) -> str:
    """The flag of a setting; there is no other output than that of the clips."""
    return flag("output_clip_path" if name == "output_path" else name)


def show_failures(console: Console, common: Splitting) -> None:
    """Print the videos that could not be split, and where they are listed."""
    kept, _ = sort_records(list_videos(common), processed.records(common.store))
    reasons = failures(common.store, kept)
    for reason in sorted(reasons.values())[:_SHOWN]:
        console.print(f"failed: {reason}", markup=False, highlight=False, soft_wrap=True)
    if reasons:
        console.print(
            f"all of them: {common.store.url(processed.FAILED)}", highlight=False, soft_wrap=True
        )


def _show_plan(console: Console, listed: Listed, planned: Plan) -> None:
    console.print(
        f"{len(listed.videos):,} videos: {len(planned.todo):,} to split, "
        f"{planned.gone:,} changed or gone",
        highlight=False,
    )
    for video in planned.todo[:_SHOWN]:
        console.print(f"  {video.name}", markup=False, highlight=False)
    if len(planned.todo) > _SHOWN:
        console.print(f"  and {len(planned.todo) - _SHOWN:,} more", highlight=False)


def _show(
    console: Console, common: Splitting, videos: int, split_now: int, parts: list[Part]
) -> None:
    url, clips = common.store.url(), sum(part.clips for part in parts)
    rows = [
        ["videos", videos],
        ["split now", split_now],
        ["clips of all of them", clips],
        ["failed", sum(part.failed for part in parts)],
    ]
    console.print(make_table(f"Below {url}", ["what", "how many"], rows))
    show_failures(console, common)
    if clips:
        command = ["dedup-assets", "run", "--input-embeddings-path", url]
        command += ["--output-path", "out", "--n-clusters", "auto"]
        console.print(
            f"\ngo on with:  {shlex.join(command)}", soft_wrap=True, markup=False, highlight=False
        )
