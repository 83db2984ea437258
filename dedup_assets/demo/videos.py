"""The demo's videos: scenes joined, near-duplicates of the whole, look-alikes, and the truth.

folder/videos/{name}.mp4
folder/truth.parquet      written last; its presence says that the set is whole
"""

import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dedup_assets.demo.parallel import in_processes
from dedup_assets.demo.scenes import FPS, SECONDS, Scene, draw, lookalike, plan_scene
from dedup_assets.demo.transforms import TRANSFORMS, Encoding
from dedup_assets.demo.truth import DUPLICATE_KINDS, LOOKALIKE, ORIGINAL, SCENE_SCHEMA

COPIES = 4
FEWEST_SCENES, MOST_SCENES = 5, 10
#: Raised by hand when the same parameters give other videos, so that an older set is made again.
VERSION = 1
PARAMETERS_KEY = b"dedup_assets.demo_videos"
VIDEO_NAME = re.compile(rf"film-\d{{2,}}(-({'|'.join((*DUPLICATE_KINDS, LOOKALIKE))}))?\.mp4")


@dataclass(frozen=True)
class VideoPlan:
    """One video to make; `seed` is the entropy of what its transformation draws."""

    name: str
    kind: str
    seed: tuple[int, ...] = ()


@dataclass(frozen=True)
class FilmPlan:
    """Scenes and the videos made of them; a look-alike, if there is one, has its own scenes."""

    scenes: tuple[Scene, ...]
    lookalikes: tuple[Scene, ...]
    videos: tuple[VideoPlan, ...]

    @property
    def original(self) -> str:
        return self.videos[0].name


def plan_films(n_films: int = 6, seed: int = 0) -> list[FilmPlan]:
    """What `make_videos` makes, without drawing.

    Per film the original of 5 to 10 scenes, `COPIES` near-duplicates of it with the kinds taken in
    turn, and for every other film a look-alike.
    """
    if n_films < 1:
        raise ValueError(f"n_films={n_films} should be >= 1.")
    if seed < 0:
        raise ValueError(f"seed={seed} should be >= 0.")
    films, before = [], 0
    for index in range(n_films):
        count = FEWEST_SCENES + index % (MOST_SCENES - FEWEST_SCENES + 1)
        scenes = tuple(plan_scene(before + k, seed) for k in range(count))
        films.append(_plan_film(index, scenes, before, seed))
        before += count
    return films


def _plan_film(index: int, scenes: tuple[Scene, ...], before: int, seed: int) -> FilmPlan:
    name = f"film-{index:02d}"
    videos = [VideoPlan(f"{name}.mp4", ORIGINAL)]
    for turn in range(COPIES):
        kind = DUPLICATE_KINDS[(index * COPIES + turn) % len(DUPLICATE_KINDS)]
        videos.append(VideoPlan(f"{name}-{kind}.mp4", kind, (seed, index, 4, turn)))
    others: tuple[Scene, ...] = ()
    if index % 2 == 0:
        others = tuple(lookalike(scene, before + k) for k, scene in enumerate(scenes))
        videos.append(VideoPlan(f"{name}-{LOOKALIKE}.mp4", LOOKALIKE))
    return FilmPlan(scenes, others, tuple(videos))


def video_path(folder: Path, name: str) -> Path:
    """Where the video of this name lies."""
    return folder / "videos" / name


def truth_path(folder: Path) -> Path:
    """Where the truth table lies."""
    return folder / "truth.parquet"


def make_videos(
    folder: Path,
    *,
    n_films: int = 6,
    seed: int = 0,
    workers: int | None = None,
    on_video: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Make the demo's videos in `folder` and return the truth about them, in `SCENE_SCHEMA`.

    The same `n_films` and `seed` give the same videos for one build of FFmpeg, whatever `workers`
    (processes; None: one per processor). `on_video(done, total)` is called as they are finished.
    A set that is whole and has these parameters is kept; anything else is made again, and videos of
    an earlier set of this function that are not part of this one are deleted.
    """
    films = plan_films(n_films, seed)
    videos = [video for film in films for video in film.videos]
    parameters = json.dumps({"n_films": n_films, "seed": seed, "version": VERSION}, sort_keys=True)
    whole = _whole_set(folder, parameters)
    if whole is not None:
        return whole
    truth_path(folder).unlink(missing_ok=True)
    video_path(folder, "any").parent.mkdir(parents=True, exist_ok=True)
    _delete_others(folder, {video.name for video in videos})
    done = 0
    # Those that take longest first, so that no process is left alone with one at the end.
    by_length = sorted(films, key=lambda film: -len(film.scenes))
    for film, _ in zip(
        by_length, in_processes(partial(make_film, folder), by_length, workers), strict=True
    ):
        for _ in film.videos:
            done += 1
            if on_video is not None:
                on_video(done, len(videos))
    rows = [row for film in films for row in _truth(film)]
    schema = SCENE_SCHEMA.with_metadata({PARAMETERS_KEY: parameters.encode()})
    truth = pa.Table.from_pylist(rows, schema=schema)
    partial_path = folder / ".truth.parquet.partial"
    pq.write_table(truth, partial_path)
    partial_path.replace(truth_path(folder))
    return truth


def make_film(folder: Path, plan: FilmPlan) -> None:
    """Draw the scenes of a film and write all videos made of them; the work of a process."""
    with ExitStack() as opened:
        outputs = [
            _Output(opened, video_path(folder, video.name), _encoding(video))
            for video in plan.videos
            if video.kind != LOOKALIKE
        ]
        for scene in plan.scenes:
            frames = np.stack(list(draw(scene)))
            for output in outputs:
                output.add(frames)
    if plan.lookalikes:
        with ExitStack() as opened:
            other = _Output(opened, video_path(folder, plan.videos[-1].name), Encoding())
            for scene in plan.lookalikes:
                other.add(np.stack(list(draw(scene))))


def _encoding(video: VideoPlan) -> Encoding:
    if video.kind == ORIGINAL:
        return Encoding()
    return TRANSFORMS[video.kind](np.random.default_rng(video.seed))


class _Output:
    """A video that scene after scene is added to."""

    def __init__(self, opened: ExitStack, path: Path, encoding: Encoding) -> None:
        from dedup_assets.demo.writer import open_video

        self._encoding, self._left_out = encoding, encoding.head
        video = open_video(path, fps=FPS, size=encoding.size, bit_rate=encoding.bit_rate)
        self._write = opened.enter_context(video)

    def add(self, frames: np.ndarray) -> None:
        kept, self._left_out = frames[self._left_out :], 0
        for frame in self._encoding.change(kept):
            self._write(frame)


def _truth(film: FilmPlan) -> list[dict[str, object]]:
    return [
        {
            "video": video.name,
            "scene": number,
            "start_s": float(number * SECONDS),
            "kind": video.kind,
            "source_video": film.original,
        }
        for video in film.videos
        for number in range(len(film.scenes))
    ]


def _whole_set(folder: Path, parameters: str) -> pa.Table | None:
    """The truth of the set in `folder` if it has these parameters and no video is missing."""
    path = truth_path(folder)
    if not path.exists():
        return None
    truth = pq.read_table(path)
    if (truth.schema.metadata or {}).get(PARAMETERS_KEY) != parameters.encode():
        return None
    names = set(truth["video"].to_pylist())
    return truth if all(video_path(folder, name).exists() for name in names) else None


def _delete_others(folder: Path, planned: set[str]) -> None:
    """Delete videos with names that only `make_videos` gives and that are not planned."""
    for path in video_path(folder, "any").parent.iterdir():
        if VIDEO_NAME.fullmatch(path.name) and path.name not in planned:
            path.unlink()
