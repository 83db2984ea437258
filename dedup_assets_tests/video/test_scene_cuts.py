"""Scene cuts of real files: where clips begin and end, and what they are called."""

import sys
import uuid
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dedup_assets.video.apart import Splitter
from dedup_assets.video.content import ContentCuts
from dedup_assets.video.cut import Cutting, SplitVideo, split_video
from dedup_assets.video.detectors import Detector, SceneCuts
from dedup_assets.video.errors import ClipError, SceneError
from dedup_assets.video.ids import clip_id
from dedup_assets.video.sampling import Sampling
from dedup_assets.video.scenes import SceneRules
from dedup_assets.video.transnet import TransNetV2
from dedup_assets_tests.video.movies import COLOURS, coloured, regular, write_video
from dedup_assets_tests.video.networks import content_cuts, transnet

WHOLE = SceneRules(minimum_s=0, minimum_frames=0, crop_s=0)
CUTS = (40, 95, 130)


@pytest.fixture(params=["content", "transnetv2"])
def detector(request: pytest.FixtureRequest, tmp_path: Path) -> Detector:
    return content_cuts() if request.param == "content" else transnet(tmp_path)


def movie(path: Path, frames: int, cuts: Sequence[int] = CUTS, **options: Any) -> Path:
    return regular(path, frames, paint=coloured(cuts), **options)


def frames_of(split: SplitVideo) -> list[tuple[int, int]]:
    return [(clip.start_frame, clip.end_frame) for clip in split.clips]


def colours(path: Path) -> list[int]:
    """Of each frame, the number of the scene's colour that is nearest to its middle."""
    with av.open(path) as source:
        pixels = [f.to_ndarray(format="rgb24")[20:30].mean((0, 1)) for f in source.decode(video=0)]
    return [int(np.abs(np.array(COLOURS) - p).sum(1).argmin()) for p in pixels]


def _split(path: Path, cutting: Cutting) -> SplitVideo:
    return split_video(path, path.parent / "clips", cutting)


@pytest.mark.parametrize("turns", [0, 1])
def test_content_cuts_hold_every_frame_once(tmp_path: Path, turns: int):
    path = movie(tmp_path / "a.mp4", 180, turns=turns)
    split = _split(path, Cutting(SceneCuts(content_cuts(), WHOLE)))
    assert frames_of(split) == [(0, 40), (40, 95), (95, 130), (130, 180)]
    assert [set(colours(clip.file)) for clip in split.clips] == [{0}, {1}, {2}, {3}]
    assert [clip.frames for clip in split.clips] == [40, 55, 35, 50]


def test_transitions_of_transnetv2_are_in_no_clip(tmp_path: Path):
    path = movie(tmp_path / "a.mp4", 180)
    split = _split(path, Cutting(SceneCuts(transnet(tmp_path), WHOLE)))
    assert frames_of(split) == [(0, 40), (41, 95), (96, 130), (131, 179)]
    assert [set(colours(clip.file)) for clip in split.clips] == [{0}, {1}, {2}, {3}]


def test_ids_are_of_the_frames_after_cropping(tmp_path: Path, detector: Detector):
    """30 fps: 0.5 s are 15 frames."""
    path = movie(tmp_path / "a.mp4", 300, [150])
    split = _split(path, Cutting(SceneCuts(detector)))
    expected = {
        ContentCuts: [(15, 135), (165, 285)],
        TransNetV2: [(15, 135), (166, 284)],
    }[type(detector)]
    assert frames_of(split) == expected
    for clip, (first, last) in zip(split.clips, expected, strict=True):
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"/v/a.mp4_{first}_{last}"))
        assert clip_id("seconds", "/v/a.mp4", clip.span, split.source.fps) == name
        assert clip_id("frames", "/v/a.mp4", clip.span, split.source.fps) == name
        assert clip.span.frames == (first, last)


def test_a_video_without_cut_is_one_scene(tmp_path: Path, detector: Detector):
    path = movie(tmp_path / "a.mp4", 90, [])
    assert frames_of(_split(path, Cutting(SceneCuts(detector, WHOLE)))) == [(0, 90)]


def test_a_video_too_short_gives_no_clip_and_does_not_fail(tmp_path: Path, detector: Detector):
    for frames in (1, 2, 60):
        path = movie(tmp_path / f"{frames}.mp4", frames, [])
        split = _split(path, Cutting(SceneCuts(detector)))
        assert split.clips == ()
        assert split.source.frames == frames
    path = tmp_path / "1.mp4"
    assert frames_of(_split(path, Cutting(SceneCuts(detector, WHOLE)))) == [(0, 1)]


@pytest.mark.parametrize("bf", ["0", "3"])
def test_a_variable_rate_is_cut_at_times_of_frames(tmp_path: Path, detector: Detector, bf: str):
    ticks = np.cumsum(np.random.default_rng(5).integers(1, 90, 180)).tolist()
    path = write_video(
        tmp_path / "a.mp4", ticks, Fraction(1, 600), options={"bf": bf}, paint=coloured(CUTS)
    )
    split = _split(path, Cutting(SceneCuts(detector, WHOLE)))
    expected = {
        ContentCuts: [(0, 40), (40, 95), (95, 130), (130, 180)],
        TransNetV2: [(0, 40), (41, 95), (96, 130), (131, 179)],
    }[type(detector)]
    assert frames_of(split) == expected
    assert [set(colours(clip.file)) for clip in split.clips] == [{0}, {1}, {2}, {3}]
    starts = [clip.span.start_s for clip in split.clips]
    np.testing.assert_allclose(starts, [(ticks[k] - ticks[0]) / 600 for k, _ in expected])


def test_long_scenes_give_clips_of_the_maximum(tmp_path: Path):
    path = movie(tmp_path / "a.mp4", 100, [70])
    rules = SceneRules(minimum_s=0.3, minimum_frames=0, maximum_s=1, crop_s=0.1)
    split = _split(path, Cutting(SceneCuts(content_cuts(), rules)))
    assert frames_of(split) == [(3, 27), (33, 57), (73, 97)]


def test_copies_are_cut_at_key_frames_between_scenes(tmp_path: Path):
    path = movie(tmp_path / "a.mp4", 180, options={"g": "10", "bf": "0", "sc_threshold": "0"})
    split = _split(path, Cutting(SceneCuts(content_cuts(), WHOLE), copy=True))
    assert frames_of(split) == [(0, 40), (40, 100), (100, 130), (130, 180)]


def test_a_worker_finds_what_this_process_finds(tmp_path: Path, detector: Detector):
    path = movie(tmp_path / "a.mp4", 180)
    cutting = Cutting(SceneCuts(detector, WHOLE), sampling=Sampling(2))
    here = _split(path, cutting)
    with Splitter(1) as splitter:
        there = splitter.split(path, tmp_path / "clips", cutting)
    assert frames_of(there) == frames_of(here)
    assert [clip.span for clip in there.clips] == [clip.span for clip in here.clips]


def test_damage_fails_the_video(tmp_path: Path, detector: Detector):
    whole = movie(tmp_path / "a.mp4", 180, container={"movflags": "faststart"}).read_bytes()
    path = tmp_path / "b.mp4"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ClipError, match=r"b\.mp4"):
        _split(path, Cutting(SceneCuts(detector, WHOLE)))


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(SceneError, match=r"pip install 'dedup-assets\[scenes\]'"):
        ContentCuts().check()
