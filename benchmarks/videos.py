"""Splitting and embedding videos against the ffmpeg command, which only makes the same cuts.

    python -m benchmarks.videos --ffmpeg /usr/bin/ffmpeg

The videos are drawn: `--videos` of 30 seconds at 1280 x 720. Both sides cut each into 10-second
clips with libx264 at 4 Mbit/s, with the same options, one thread an encoder, as many videos at once
as there are processors. ffmpeg decodes a video once for all of its clips, with one output each,
which is the quickest way to ask it; ours embeds the clips too, writes metadata and Parquet, and
decodes in processes of its own. The two take turns; ratios are medians over the rounds.

Then the memory of 200 short clips against ten times as many, from as many more videos and from one
long one: the peak of the process that splits, and of the largest of those that decode.
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.child import ChildFailedError, in_child
from benchmarks.machine import describe
from benchmarks.options import add_rounds, positive
from benchmarks.output import Target, show_table, show_targets, write_json
from dedup_assets.compute.threads import thread_count
from dedup_assets.demo.scenes import FPS, SECONDS, draw, plan_scene
from dedup_assets.demo.writer import open_video
from dedup_assets.video.encoders import ENCODERS

SCENES, CLIP_S, SIZE = 5, 10, (1280, 720)
BIT_RATE = 4_000_000
OF_FFMPEG = 0.9
SHORT_CLIP_S, SHORT_SIZE = 0.5, (320, 180)
SHORT = {
    "200 clips of 2 videos": (2, 50),
    "2,000 clips of 20 videos": (20, 50),
    "2,000 clips of one video": (1, 1_000),
}
"""Of each measurement of memory: videos, and seconds of each."""
OF_FEW = 1.2


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--ffmpeg", default="ffmpeg", metavar="COMMAND", help="the peer")
    parser.add_argument("--videos", type=positive, default=4, help="videos of 30 seconds")
    parser.add_argument("--work", type=Path, default=Path("/tmp/dedup-benchmark-videos"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    parser.add_argument("--no-memory", action="store_true", help="leave out the short clips")
    add_rounds(parser)
    options = parser.parse_args()
    command = shutil.which(options.ffmpeg)
    if command is None:
        parser.error(
            f"--ffmpeg: {options.ffmpeg} is no command; pip install imageio-ffmpeg has one"
        )
    videos = options.work / "videos"
    make(videos, options.videos)
    try:
        rounds = [measure(options.work, videos, command) for _ in range(options.rounds + 1)][1:]
        short = {} if options.no_memory else measure_short(options.work)
    except (ChildFailedError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    medians = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    ratio = statistics.median(each["ffmpeg"] / each["split and embed"] for each in rounds)
    seconds = options.videos * SCENES * SECONDS
    console = Console()
    rows = [[name, taken, seconds / taken] for name, taken in medians.items()]
    show_table(console, "Videos", ["what", "s", "seconds of video a second"], rows)
    targets = [Target("rate, of that of ffmpeg", ratio, OF_FFMPEG, "", at_least=True)]
    if short:
        show_table(
            console,
            "Peak memory, MiB",
            ["what", "splitting", "largest decoder"],
            [[name, *peaks.values()] for name, peaks in short.items()],
            digits=0,
        )
        few, *many = short
        targets += [
            Target(f"{name}: {process}, of {few}", short[name][process] / peak, OF_FEW, "")
            for name in many
            for process, peak in short[few].items()
        ]
    show_targets(console, targets)
    if options.json is not None:
        document = {
            "benchmark": "videos",
            **describe("av"),
            "ffmpeg": version(command),
            "parameters": {"videos": options.videos, "rounds": options.rounds},
            "targets": [target.as_dict() for target in targets],
            "seconds": medians,
            "raw": rounds,
            "peak_mib": short,
        }
        write_json(options.json, document)
    return 0


def make(folder: Path, count: int) -> None:
    """Draw the videos, those that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{number}.mp4"
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        with open_video(path, fps=FPS, size=SIZE, bit_rate=2 * BIT_RATE) as write:
            for scene in range(SCENES):
                for frame in draw(plan_scene(number * SCENES + scene, 0)):
                    # Grain, as a camera has: what is drawn alone would be too easy to encode.
                    large = frame.repeat(4, axis=0).repeat(4, axis=1).astype(np.int16)
                    grain = rng.integers(-4, 5, size=large.shape, dtype=np.int16)
                    write(np.clip(large + grain, 0, 255).astype(np.uint8))


def measure(work: Path, videos: Path, command: str) -> dict[str, float]:
    """Seconds of each contestant, one after the other."""
    taken = {}
    for name, function, arguments in (
        ("ffmpeg", "cut_by_ffmpeg", {"command": command}),
        ("split and embed", "split_and_embed", {}),
    ):
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        taken[name] = in_child(
            "benchmarks.videos", function, videos=str(videos), out=str(out), **arguments
        )["seconds"]
        clips = sum(1 for _ in out.rglob("*.mp4"))
        expected = sum(1 for _ in videos.glob("*.mp4")) * SCENES * SECONDS // CLIP_S
        if clips != expected:
            raise ChildFailedError(f"{name} made {clips} clips, not {expected}")
    return taken


def measure_short(work: Path) -> dict[str, dict[str, float]]:
    """Peak memory in MiB of each kind of process, for few short clips and for many."""
    peaks = {}
    for name, (count, seconds) in SHORT.items():
        videos, out = work / f"short-{seconds}", work / "out"
        shutil.rmtree(out, ignore_errors=True)
        make_short(videos, count, seconds)
        done = in_child(
            "benchmarks.videos",
            "split_and_embed",
            videos=str(videos),
            out=str(out),
            clip_s=SHORT_CLIP_S,
        )
        clips = sum(1 for _ in out.rglob("*.mp4"))
        if clips != count * seconds / SHORT_CLIP_S:
            raise ChildFailedError(f"{name}: {clips} were made")
        peaks[name] = {"splitting": done["peak_mib"], "decoding": done["decoder_peak_mib"]}
    return peaks


def make_short(folder: Path, count: int, seconds: int) -> None:
    """As many equal videos, whose names alone make them differ."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    first = folder / "0.mp4"
    with open_video(first, fps=FPS, size=SHORT_SIZE, bit_rate=BIT_RATE // 10) as write:
        scenes = chain.from_iterable(draw(plan_scene(k, 0)) for k in range(SCENES))
        drawn = list(scenes)
        for number in range(seconds * FPS):
            write(drawn[number % len(drawn)])
    for number in range(1, count):
        shutil.copy(first, folder / f"{number}.mp4")


def cut_by_ffmpeg(videos: str, out: str, command: str) -> dict[str, Any]:
    """One command a video, one output a clip, each with one thread."""
    Path(out).mkdir()
    starts = range(0, SCENES * SECONDS, CLIP_S)

    def cut(video: Path) -> None:
        arguments = [command, "-loglevel", "error", "-threads", "1", "-i", str(video)]
        for start in starts:
            arguments += f"-ss {start} -t {CLIP_S} -c:v libx264 -b:v {BIT_RATE}".split()
            arguments += [
                part for k, v in ENCODERS["libx264"].options.items() for part in (f"-{k}", v)
            ]
            arguments += ["-threads", "1", "-an", str(Path(out) / f"{video.stem}-{start}.mp4")]
        subprocess.run(arguments, check=True)

    began = time.perf_counter()
    with ThreadPoolExecutor(thread_count()) as pool:
        list(pool.map(cut, sorted(Path(videos).glob("*.mp4"))))
    return {"seconds": time.perf_counter() - began}


def split_and_embed(videos: str, out: str, clip_s: float = CLIP_S) -> dict[str, Any]:
    """As ``dedup-assets split`` does, with the embedding that needs no weights."""
    from dedup_assets.engine import Engine
    from dedup_assets.settings import Settings
    from dedup_assets.stages.clip_embeddings import collect
    from dedup_assets.stages.splitting import plan, split
    from dedup_assets.stages.videos import Splitting, list_videos

    common = Splitting(
        Settings.of(
            video_dir=videos,
            output_clip_path=out,
            output_path=out,
            n_clusters=1,
            fixed_stride_split_duration=float(clip_s),
            fixed_stride_min_clip_length_s=min(clip_s, 2.0),
            transcode_bitrate=BIT_RATE,
        )
    )
    began = time.perf_counter()
    listed = list_videos(common)
    failed = [o.reason for o in split(common, Engine(), plan(common, listed).todo) if o.reason]
    collect(common, listed)
    if failed:
        raise RuntimeError("; ".join(islice(failed, 3)))
    return {
        "seconds": time.perf_counter() - began,
        "decoder_peak_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def version(command: str) -> str:
    said = subprocess.run([command, "-version"], capture_output=True, text=True, check=True)
    return said.stdout.splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
