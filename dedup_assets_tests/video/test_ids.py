"""Clip ids against names written out by hand."""

import uuid

import pytest

from dedup_assets.video.ids import clip_id, frame_numbers, nominal_duration_s
from dedup_assets.video.spans import FixedStride, Span


def _uuid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def test_frames_recipe_cuts_fractions_off():
    """NTSC: 10 s are 239.76 frames, counted as 239; 20 s are 479.52."""
    span, fps = Span(10.0, 20.0), 24000 / 1001
    assert clip_id("frames", "/videos/a.mp4", span, fps) == _uuid("/videos/a.mp4_239_479")
    assert frame_numbers(span, fps) == (239, 479)


def test_seconds_recipe_prints_doubles():
    url = "s3://bucket/a b.mp4"
    assert clip_id("seconds", url, Span(0, 10), 30) == _uuid("s3://bucket/a b.mp4_0.0_10.0")
    span = FixedStride(0.1, None, 0).spans(0.4)[3]
    assert clip_id("seconds", "x", span, 30) == _uuid("x_0.30000000000000004_0.4")


def test_ids_are_these():
    """Written out, so that a change of recipe shows even if the test's helper changes with it."""
    assert clip_id("frames", "/v/a.mp4", Span(0, 10), 30) == "53a0122d-17a6-5f3e-aaf1-420ba043b513"
    assert clip_id("seconds", "/v/a.mp4", Span(0, 10), 30) == "bbd0f090-bc2b-5388-8742-63af0d1f5193"


def test_duration_is_whole_frames_of_six_decimals():
    assert nominal_duration_s(12.0, 30) == 12.0
    assert nominal_duration_s(12.016, 30) == 12.0
    assert nominal_duration_s(1.00000049, 1_000_000) == 1.0


def test_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="recipe='x' should be one of frames, seconds"):
        clip_id("x", "a", Span(0, 1), 30)  # type: ignore[arg-type]
