"""The demo's clips: what is planned, what is written, and what a re-run does."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dedup_assets.demo.clips import (
    CLIP_NAME,
    clip_path,
    make_clips,
    plan_clips,
    truth_path,
)
from dedup_assets.demo.scenes import FPS, draw, plan_scene
from dedup_assets.demo.truth import DUPLICATE_KINDS, LOOKALIKE, ORIGINAL, TRUTH_SCHEMA
from dedup_assets.video.codec import sample_frames
from dedup_assets_tests.demo.small_set import SmallSet

pytestmark = pytest.mark.slow


def test_default_plan_has_enough_of_everything():
    kinds = Counter(clip.kind for scene in plan_clips() for clip in scene.clips)
    duplicates = [kinds[kind] for kind in DUPLICATE_KINDS]
    assert kinds[ORIGINAL] >= 40
    assert sum(duplicates) >= 160
    assert kinds[LOOKALIKE] >= 20
    assert max(duplicates) - min(duplicates) <= 1, "the kinds are evenly spread"
    assert sum(kinds.values()) == sum(duplicates) + kinds[ORIGINAL] + kinds[LOOKALIKE]


def test_ids_are_unique_and_usable_as_file_names_and_sample_keys():
    ids = [clip.id for scene in plan_clips() for clip in scene.clips]
    assert len(set(ids)) == len(ids)
    assert all(CLIP_NAME.fullmatch(f"{i}.mp4") and not set("./") & set(i) for i in ids)


def test_scenes_last_five_to_ten_seconds_and_differ():
    scenes = [plan.scene for plan in plan_clips()]
    frames = [scene.n_frames for scene in scenes]
    assert min(frames) >= 5 * FPS and max(frames) <= 10 * FPS
    assert len(set(frames)) > len(frames) / 3
    assert len({(scene.background, scene.foreground) for scene in scenes}) == len(scenes)


def test_every_pair_of_place_and_actor_occurs_once_in_the_first_144_scenes():
    pairs = {(s.background, s.foreground) for s in (plan_scene(i, 0) for i in range(144))}
    assert len(pairs) == 144


def test_lookalike_shares_the_place_only():
    for plan in plan_clips(12):
        if plan.lookalike is not None:
            assert plan.lookalike.background == plan.scene.background
            assert plan.lookalike.world_seed == plan.scene.world_seed
            assert plan.lookalike.actor_seed != plan.scene.actor_seed
            assert (plan.lookalike.foreground, plan.lookalike.motion_seed) != (
                plan.scene.foreground,
                plan.scene.motion_seed,
            )


@pytest.mark.parametrize("index", range(12))
def test_every_place_and_actor_moves(index: int):
    """A still picture would make all its cuts identical and the demo's task trivial."""
    frames = [frame.astype(int) for _, frame in zip(range(21), draw(plan_scene(index, 0)))]  # noqa: B905
    assert all(frame.shape == (180, 320, 3) for frame in frames)
    assert np.abs(frames[20] - frames[0]).mean() > 0.5


@pytest.mark.parametrize(("argument", "value"), [("n_scenes", 0), ("seed", -1)])
def test_wrong_argument_is_named(argument: str, value: int):
    with pytest.raises(ValueError, match=rf"{argument}={value} should be >= "):
        plan_clips(**{argument: value})


def test_truth_names_every_clip_and_is_what_lies_on_disk(small_set: SmallSet):
    on_disk = pq.read_table(truth_path(small_set.folder))
    assert on_disk.equals(small_set.truth)
    assert on_disk.schema.equals(TRUTH_SCHEMA)
    files = sorted(path.stem for path in (small_set.folder / "clips").iterdir())
    assert files == sorted(on_disk["id"].to_pylist())
    for row in on_disk.to_pylist():
        assert row["is_duplicate"] == (row["kind"] in DUPLICATE_KINDS)
        assert row["id"].startswith(row["source_id"])
        assert (row["id"] == row["source_id"]) == (row["kind"] == ORIGINAL)


def test_progress_counts_every_clip_once(small_set: SmallSet):
    total = small_set.truth.num_rows
    assert small_set.progress == [(done, total) for done in range(1, total + 1)]


def test_clips_decode_to_the_planned_durations(small_set: SmallSet):
    for row in small_set.truth.to_pylist():
        clip = sample_frames(clip_path(small_set.folder, row["id"]), 4)
        shortest = 5 * 0.8 if row["kind"] == "trim" else 5
        assert shortest <= clip.duration_s <= 10
        assert clip.frames.shape == (4, clip.height, clip.width, 3)
        assert ((clip.width, clip.height) == (320, 180)) == (row["kind"] != "resolution")


def test_low_bitrate_copy_is_smaller(small_set: SmallSet):
    for row in small_set.truth.to_pylist():
        if row["kind"] == "bitrate":
            copy, original = (
                clip_path(small_set.folder, row[name]).stat().st_size
                for name in ("id", "source_id")
            )
            assert copy < original / 2


def test_same_parameters_give_the_same_bytes_in_one_process_or_two(tmp_path: Path):
    truths = [make_clips(tmp_path / str(n), n_scenes=2, seed=3, workers=n) for n in (1, 2)]
    assert truths[0].equals(truths[1])
    for clip_id in truths[0]["id"].to_pylist():
        one, two = (clip_path(tmp_path / str(n), clip_id).read_bytes() for n in (1, 2))
        assert one == two, clip_id


def test_whole_set_is_kept_and_anything_else_made_again(tmp_path: Path):
    truth = make_clips(tmp_path, n_scenes=1, workers=1)
    clip = clip_path(tmp_path, truth["id"][1].as_py())
    first = clip.stat().st_mtime_ns

    assert make_clips(tmp_path, n_scenes=1, workers=1).equals(truth)
    assert clip.stat().st_mtime_ns == first, "a whole set is not touched"

    truth_path(tmp_path).unlink()  # as after a kill: clips, but no truth
    assert make_clips(tmp_path, n_scenes=1, workers=1).equals(truth)
    second = clip.stat().st_mtime_ns
    assert second > first

    clip.unlink()
    make_clips(tmp_path, n_scenes=1, workers=1)
    assert clip.exists(), "a missing clip means that the set is not whole"


def test_interrupted_run_leaves_no_truth(tmp_path: Path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    make_clips(tmp_path, n_scenes=1, seed=1, workers=1)
    with pytest.raises(KeyboardInterrupt):
        make_clips(tmp_path, n_scenes=1, seed=2, workers=1, on_clip=stop)
    assert not truth_path(tmp_path).exists()


def test_other_parameters_delete_own_clips_but_nothing_else(tmp_path: Path):
    make_clips(tmp_path, n_scenes=1, workers=1)
    surplus, foreign = (clip_path(tmp_path, i) for i in ("scene-777-crop-1", "my-scene"))
    surplus.touch()
    foreign.touch()
    make_clips(tmp_path, n_scenes=1, seed=1, workers=1)
    assert not surplus.exists()
    assert foreign.exists()
