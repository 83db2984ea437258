"""The demo's clips: scenes, near-duplicates of them, look-alikes, and the truth about all.

folder/clips/{id}.mp4
folder/truth.parquet     written last; its presence says that the set is whole
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dedup_assets.demo.scenes import FPS, Scene, draw, lookalike, plan_scene
from dedup_assets.demo.transforms import TRANSFORMS, Encoding
from dedup_assets.demo.truth import DUPLICATE_KINDS, LOOKALIKE, ORIGINAL, TRUTH_SCHEMA
from dedup_assets.video.parallel import in_processes

DUPLICATES_PER_SCENE = 4
#: Raised by hand when the same parameters give other clips, so that an older set is made again.
CLIPS_VERSION = 1
PARAMETERS_KEY = b"dedup_assets.demo_clips"
CLIP_NAME = re.compile(rf"scene-\d{{3,}}(-({'|'.join(DUPLICATE_KINDS)})-\d+|-{LOOKALIKE})?\.mp4")


@dataclass(frozen=True)
class ClipPlan:
    """One clip to make; `seed` is the entropy of what its transformation draws."""

    id: str
    kind: str
    source_id: str
    seed: tuple[int, ...]

    @property
    def is_duplicate(self) -> bool:
        return self.kind in DUPLICATE_KINDS


@dataclass(frozen=True)
class ScenePlan:
    """A scene and the clips made from it; the look-alike, if any, has a scene of its own."""

    scene: Scene
    lookalike: Scene | None
    clips: tuple[ClipPlan, ...]


def plan_clips(n_scenes: int = 48, seed: int = 0) -> list[ScenePlan]:
    """What `make_clips` makes, without drawing: per scene the original, `DUPLICATES_PER_SCENE`
    near-duplicates with the kinds taken in turn, and for every other scene a look-alike.
    """
    if n_scenes < 1:
        raise ValueError(f"n_scenes={n_scenes} should be >= 1.")
    if seed < 0:
        raise ValueError(f"seed={seed} should be >= 0.")
    return [_plan_one(index, seed) for index in range(n_scenes)]


def _plan_one(index: int, seed: int) -> ScenePlan:
    scene = plan_scene(index, seed)
    source = f"scene-{index:03d}"
    clips = [ClipPlan(source, ORIGINAL, source, ())]
    for turn in range(DUPLICATES_PER_SCENE):
        at = index * DUPLICATES_PER_SCENE + turn
        kind = DUPLICATE_KINDS[at % len(DUPLICATE_KINDS)]
        copy = 1 + sum(clip.kind == kind for clip in clips)
        clips.append(ClipPlan(f"{source}-{kind}-{copy}", kind, source, (seed, index, 4, turn)))
    other = None
    if index % 2 == 0:
        other = lookalike(scene, index // 2)
        clips.append(ClipPlan(f"{source}-{LOOKALIKE}", LOOKALIKE, source, ()))
    return ScenePlan(scene, other, tuple(clips))


def clip_path(folder: Path, clip_id: str) -> Path:
    """Where the clip with this id lies."""
    return folder / "clips" / f"{clip_id}.mp4"


def truth_path(folder: Path) -> Path:
    """Where the truth table lies."""
    return folder / "truth.parquet"


def make_clips(
    folder: Path,
    *,
    n_scenes: int = 48,
    seed: int = 0,
    workers: int | None = None,
    on_clip: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Make the demo's clips in `folder` and return the truth about them, in `TRUTH_SCHEMA`.

    The same `n_scenes` and `seed` give the same clips for one build of FFmpeg, whatever `workers`
    (processes; None: one per processor). `on_clip(done, total)` is called as clips are finished.
    A set that is whole and has these parameters is kept; anything else is made again, and clips of
    an earlier set of this function that are not part of this one are deleted.
    """
    scenes = plan_clips(n_scenes, seed)
    clips = [clip for scene in scenes for clip in scene.clips]
    parameters = json.dumps(
        {"n_scenes": n_scenes, "seed": seed, "version": CLIPS_VERSION}, sort_keys=True
    )
    whole = _whole_set(folder, parameters)
    if whole is not None:
        return whole
    truth_path(folder).unlink(missing_ok=True)
    clip_path(folder, "any").parent.mkdir(parents=True, exist_ok=True)
    _delete_others(folder, {clip.id for clip in clips})
    done = 0
    for scene, _ in zip(
        scenes, in_processes(partial(make_scene, folder), scenes, workers), strict=True
    ):
        for _ in scene.clips:
            done += 1
            if on_clip is not None:
                on_clip(done, len(clips))
    columns = {name: [getattr(clip, name) for clip in clips] for name in TRUTH_SCHEMA.names}
    schema = TRUTH_SCHEMA.with_metadata({PARAMETERS_KEY: parameters.encode()})
    truth = pa.table(columns, schema=schema)
    partial_path = folder / ".truth.parquet.partial"
    pq.write_table(truth, partial_path)
    partial_path.replace(truth_path(folder))
    return truth


def make_scene(folder: Path, plan: ScenePlan) -> None:
    """Draw one scene and write all clips made from it; the unit of work of a process."""
    frames = np.stack(list(draw(plan.scene)))
    for clip in plan.clips:
        if clip.kind == LOOKALIKE:
            assert plan.lookalike is not None  # planned together with the clip
            encoding = Encoding(np.stack(list(draw(plan.lookalike))))
        elif clip.kind == ORIGINAL:
            encoding = Encoding(frames)
        else:
            encoding = TRANSFORMS[clip.kind](frames, np.random.default_rng(clip.seed))
        _write(clip_path(folder, clip.id), encoding)


def _write(path: Path, encoding: Encoding) -> None:
    from dedup_assets.video.codec import write_clip

    write_clip(path, encoding.frames, fps=FPS, size=encoding.size, bit_rate=encoding.bit_rate)


def _whole_set(folder: Path, parameters: str) -> pa.Table | None:
    """The truth of the set in `folder` if it has these parameters and no clip is missing."""
    path = truth_path(folder)
    if not path.exists():
        return None
    truth = pq.read_table(path)
    if (truth.schema.metadata or {}).get(PARAMETERS_KEY) != parameters.encode():
        return None
    missing = (i for i in truth["id"].to_pylist() if not clip_path(folder, i).exists())
    return truth if next(missing, None) is None else None


def _delete_others(folder: Path, planned: set[str]) -> None:
    """Delete clips with names that only `make_clips` gives and that are not planned."""
    for path in clip_path(folder, "any").parent.iterdir():
        if CLIP_NAME.fullmatch(path.name) and path.stem not in planned:
            path.unlink()
