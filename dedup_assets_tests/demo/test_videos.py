"""The demo's videos: what is planned, what is written, and what a re-run does."""

from collections import Counter
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup_assets.command.demo import demo_settings
from dedup_assets.demo.scenes import FPS, SECONDS, draw, plan_scene
from dedup_assets.demo.truth import (
    DUPLICATE_KINDS,
    LOOKALIKE,
    ORIGINAL,
    SCENE_SCHEMA,
    truth_of_clips,
)
from dedup_assets.demo.videos import (
    VIDEO_NAME,
    make_film,
    make_videos,
    plan_films,
    truth_path,
    video_path,
)
from dedup_assets.engine import Engine
from dedup_assets.stages.clip_embeddings import collect
from dedup_assets.stages.splitting import plan, split
from dedup_assets.stages.videos import Splitting, list_videos
from dedup_assets_tests.demo.small_set import SmallSet

pytestmark = pytest.mark.slow


def test_default_plan_has_enough_of_everything() -> None:
    films = plan_films()
    kinds = Counter(video.kind for film in films for video in film.videos for _ in film.scenes)
    duplicates = [kinds[kind] for kind in DUPLICATE_KINDS]
    assert kinds[ORIGINAL] >= 40
    assert sum(duplicates) >= 160
    assert kinds[LOOKALIKE] >= 20
    assert max(duplicates) < 1.3 * min(duplicates), "the kinds are about evenly spread"


def test_videos_last_30_to_60_seconds_and_have_names_of_their_own() -> None:
    films = plan_films()
    assert {30 <= len(film.scenes) * SECONDS <= 60 for film in films} == {True}
    names = [video.name for film in films for video in film.videos]
    assert len(set(names)) == len(names)
    assert all(map(VIDEO_NAME.fullmatch, names))


def test_no_scene_occurs_twice() -> None:
    scenes = [scene for film in plan_films() for scene in film.scenes]
    assert len({(scene.background, scene.foreground) for scene in scenes}) == len(scenes)


def test_every_pair_of_place_and_actor_occurs_once_in_the_first_144_scenes() -> None:
    pairs = {(s.background, s.foreground) for s in (plan_scene(i, 0) for i in range(144))}
    assert len(pairs) == 144


def test_lookalike_shares_the_place_only() -> None:
    films = plan_films()
    assert [bool(film.lookalikes) for film in films] == [True, False] * 3
    for film in films:
        for scene, other in zip(film.scenes, film.lookalikes, strict=False):
            assert other.background == scene.background
            assert other.world_seed == scene.world_seed
            assert other.actor_seed != scene.actor_seed
            assert (other.foreground, other.motion_seed) != (scene.foreground, scene.motion_seed)


@pytest.mark.parametrize("index", range(12))
def test_every_place_and_actor_moves(index: int) -> None:
    """A still picture would make all its cuts identical and the demo's task trivial."""
    frames = [frame.astype(int) for _, frame in zip(range(21), draw(plan_scene(index, 0)))]  # noqa: B905
    assert all(frame.shape == (180, 320, 3) for frame in frames)
    assert np.abs(frames[20] - frames[0]).mean() > 0.5


@pytest.mark.parametrize(("argument", "value"), [("n_films", 0), ("seed", -1)])
def test_wrong_argument_is_named(argument: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"{argument}={value} should be >= "):
        plan_films(**{argument: value})


def test_truth_names_every_video_and_is_what_lies_on_disk(small_set: SmallSet) -> None:
    on_disk = pq.read_table(truth_path(small_set.folder))
    assert on_disk.equals(small_set.truth)
    assert on_disk.schema.equals(SCENE_SCHEMA)
    files = {path.name for path in (small_set.folder / "videos").iterdir()}
    assert files == set(on_disk["video"].to_pylist())
    for row in on_disk.to_pylist():
        assert (row["video"] == row["source_video"]) == (row["kind"] == ORIGINAL)
        assert row["start_s"] == SECONDS * row["scene"]


def test_progress_counts_every_video_once(small_set: SmallSet) -> None:
    total = len(set(small_set.truth["video"].to_pylist()))
    assert small_set.progress == [(done, total) for done in range(1, total + 1)]


def test_videos_have_the_planned_frames_and_sizes(small_set: SmallSet) -> None:
    whole = 5 * SECONDS * FPS
    kinds = dict(zip(*(small_set.truth[n].to_pylist() for n in ("video", "kind")), strict=True))
    for name, kind in kinds.items():
        with av.open(video_path(small_set.folder, name)) as container:
            stream = container.streams.video[0]
            assert whole - 20 < stream.frames <= whole
            assert (stream.frames < whole) == (kind == "trim")
            assert ((stream.width, stream.height) == (320, 180)) == (kind != "resolution")


def test_low_bitrate_copy_is_smaller(small_set: SmallSet) -> None:
    sizes = {p.stem: p.stat().st_size for p in (small_set.folder / "videos").iterdir()}
    assert sizes["film-00-bitrate"] < sizes["film-00"] / 2


def test_clips_of_copies_are_near_and_other_scenes_far(small_set: SmallSet, tmp_path: Path) -> None:
    settings = demo_settings(small_set.folder).replace(output_path=str(tmp_path))
    common = Splitting(settings)
    listed = list_videos(common)
    assert all(o.reason is None for o in split(common, Engine(), plan(common, listed).todo))
    collect(common, listed)
    clips = pq.read_table(f"{common.store.url()}/{common.folder}")
    truth = truth_of_clips(small_set.truth, clips).to_pylist()
    assert len(truth) == clips.num_rows
    vectors = {row["id"]: np.array(row["embedding"]) for row in clips.to_pylist()}
    for row in truth:
        if row["kind"] in ("bitrate", "resolution", "brightness_contrast"):
            assert vectors[row["id"]] @ vectors[row["source_id"]] > 0.9, row
    originals = [vectors[row["id"]] for row in truth if row["kind"] == ORIGINAL]
    assert max(a @ b for i, a in enumerate(originals) for b in originals[:i]) < 0.8


def test_truth_of_a_scene_without_a_clip_is_refused(small_set: SmallSet) -> None:
    none = pa.table({"id": ["a"], "source_video": ["/v/film-00.mp4"], "span_start": [0.0]})
    with pytest.raises(ValueError, match=r"29 scenes have no clip; the first begins at 6 s of"):
        truth_of_clips(small_set.truth, none)


def test_same_parameters_give_the_same_bytes_wherever_a_film_is_made(
    small_set: SmallSet, tmp_path: Path
) -> None:
    (film,) = plan_films(1)
    (tmp_path / "videos").mkdir()
    make_film(tmp_path, film)
    for video in film.videos:
        one, two = (video_path(f, video.name).read_bytes() for f in (small_set.folder, tmp_path))
        assert one == two, video.name


def test_whole_set_is_kept_and_anything_else_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def touch(folder: Path, film: object) -> None:
        made.append("film")
        for video in film.videos:  # type: ignore[attr-defined]
            video_path(folder, video.name).touch()

    monkeypatch.setattr("dedup_assets.demo.videos.make_film", touch)
    truth = make_videos(tmp_path, n_films=1, workers=1)
    assert make_videos(tmp_path, n_films=1, workers=1).equals(truth)
    assert len(made) == 1, "a whole set is not touched"
    truth_path(tmp_path).unlink()  # as after a kill: videos, but no truth
    assert make_videos(tmp_path, n_films=1, workers=1).equals(truth)
    assert len(made) == 2
    video_path(tmp_path, truth["video"][0].as_py()).unlink()
    make_videos(tmp_path, n_films=1, workers=1)
    assert len(made) == 3, "a missing video means that the set is not whole"
    (tmp_path / "videos/film-07-crop.mp4").touch()
    (tmp_path / "videos/mine.mp4").touch()
    make_videos(tmp_path, n_films=2, workers=1)
    names = {path.name for path in (tmp_path / "videos").iterdir()}
    assert "mine.mp4" in names and "film-07-crop.mp4" not in names


def test_interrupted_run_leaves_no_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dedup_assets.demo.videos.make_film", lambda folder, film: None)
    make_videos(tmp_path, n_films=1, seed=1, workers=1)
    with pytest.raises(KeyboardInterrupt):
        make_videos(tmp_path, n_films=1, seed=2, workers=1, on_video=stop)
    assert not truth_path(tmp_path).exists()
