"""The rules of scenes: by hand and against the peers' numbers, then their properties."""

from fractions import Fraction
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.video.plan import Timeline, plan_clips
from dedup_assets.video.scenes import SceneRules, scenes_at_cuts, scenes_between, spans_of

WHOLE = SceneRules(minimum_s=0, minimum_frames=0, maximum_s=1e6, crop_s=0)


def timeline(pts: list[int], tick: Fraction, end: int, fps: float) -> Timeline:
    return Timeline(np.array(pts), np.array(pts[:1]), tick, end, None, fps)


def constant(frames: int, fps: int = 30) -> Timeline:
    return timeline(list(range(frames)), Fraction(1, fps), frames, float(fps))


def _between(text: str) -> list[tuple[int, int]]:
    return scenes_between(np.array([sign == "x" for sign in text], bool))


@pytest.mark.parametrize(
    ("transition", "expected"),
    [
        ("...x....", [(0, 3), (4, 7)]),
        ("..xx..x.x", [(0, 2), (4, 6), (7, 8)]),
        ("...x", [(0, 3)]),
        ("x..x..", [(1, 3), (4, 5)]),
        ("..x.", [(0, 2)]),
        ("....", [(0, 4)]),
        ("xx..", [(0, 4)]),
        ("xxxx", [(0, 4)]),
        (".", [(0, 1)]),
        ("", []),
    ],
)
def test_frames_of_transitions_belong_to_no_scene(transition: str, expected: list):
    """As the peers number them: several scenes end before the last frame, a single one does not."""
    assert _between(transition) == expected


def test_cuts_divide_all_frames():
    assert scenes_at_cuts([5, 3, 5, 0, 8, 9], 8) == [(0, 3), (3, 5), (5, 8)]
    assert scenes_at_cuts([], 1) == [(0, 1)]
    assert scenes_at_cuts([], 0) == []


def test_long_scenes_are_cut_first_cropped_then_and_measured_last():
    """At 30 fps: 60 s are 1,800 frames, 0.5 s are 15, and 2 s are 60."""
    rules = SceneRules()
    assert list(rules.pieces(0, 1890, 30)) == [(15, 1785), (1815, 1875)]
    assert list(rules.pieces(0, 1889, 30)) == [(15, 1785)]
    assert list(rules.pieces(100, 190, 30)) == [(115, 175)]
    assert list(rules.pieces(100, 189, 30)) == []
    assert list(SceneRules(mode="truncate").pieces(0, 9000, 30)) == [(15, 1785)]


def test_fractions_of_frames_lengthen_limits_and_shorten_the_crop():
    """NTSC: 2 s are 47.95 frames, taken as 48; 0.5 s are 11.99, taken as 11."""
    fps = 24000 / 1001
    rules = SceneRules(minimum_frames=0)
    assert list(rules.pieces(0, 70, fps)) == [(11, 59)]
    assert list(rules.pieces(0, 69, fps)) == []


def test_a_minimum_of_frames_counts_at_low_rates():
    assert list(SceneRules().pieces(0, 57, 10)) == []
    assert list(SceneRules().pieces(0, 58, 10)) == [(5, 53)]
    assert list(SceneRules(minimum_frames=0).pieces(0, 30, 10)) == [(5, 25)]


def test_spans_hold_frames_and_their_times():
    (first, second) = spans_of([(0, 90), (91, 179)], constant(180), SceneRules(minimum_s=1))
    assert (first.start_s, first.end_s, first.frames) == (0.5, 2.5, (15, 75))
    assert second.frames == (106, 164)
    assert second.start_s == pytest.approx(106 / 30)


def test_lengths_follow_times_where_the_rate_varies():
    """10 frames in the first second, 100 in the next: 0.5 s are 5 of the former, 50 of these."""
    pts = [100 * k for k in range(10)] + [1000 + 10 * k for k in range(100)]
    video = timeline(pts, Fraction(1, 1000), 2000, 55.0)
    rules = SceneRules(minimum_s=0.5, minimum_frames=0, crop_s=0.2)
    first, second = spans_of([(0, 10), (10, 110)], video, rules)
    assert first.frames == (2, 8)
    assert second.frames == (30, 90)
    assert (second.start_s, second.end_s) == (1.2, 1.8)


def test_one_frame_gives_no_clip_unless_asked_for():
    assert spans_of([(0, 1)], constant(1), SceneRules()) == []
    (span,) = spans_of([(0, 1)], constant(1), WHOLE)
    assert span.frames == (0, 1)


GAPS = st.lists(st.integers(1, 400), min_size=1, max_size=120)
CUTS = st.sets(st.integers(1, 119))


@given(gaps=GAPS, cuts=CUTS)
def test_without_crop_and_limits_every_frame_is_in_one_clip(gaps: list[int], cuts: set[int]):
    pts = np.cumsum([7, *gaps]).tolist()
    video = timeline(pts[:-1], Fraction(1, 600), pts[-1], 600 * len(gaps) / sum(gaps))
    spans = spans_of(scenes_at_cuts(cuts, len(gaps)), video, WHOLE)
    plans = plan_clips(video, spans, None, on_keys=False)
    held = [[pts[k] for k in range(len(gaps)) if p.begin <= pts[k] < p.end] for p in plans]
    assert list(chain.from_iterable(held)) == pts[:-1]
    for span, ticks in zip(spans, held, strict=True):
        assert span.frames == (pts.index(ticks[0]), pts.index(ticks[-1]) + 1)


@given(
    gaps=GAPS,
    cuts=CUTS,
    minimum=st.floats(0, 3),
    maximum=st.floats(0.1, 20),
    crop=st.floats(0, 1),
    mode=st.sampled_from(["stride", "truncate"]),
)
def test_clips_stay_in_their_scenes_in_order(
    gaps: list[int], cuts: set[int], minimum: float, maximum: float, crop: float, mode: str
):
    pts = np.cumsum([0, *gaps]).tolist()
    fps = 600 * len(gaps) / sum(gaps)
    video = timeline(pts[:-1], Fraction(1, 600), pts[-1], fps)
    scenes = scenes_at_cuts(cuts, len(gaps))
    rules = SceneRules(minimum, 0, maximum, mode, crop)  # type: ignore[arg-type]
    spans = spans_of(scenes, video, rules)
    frames = [span.frames for span in spans]
    assert all(one[1] <= other[0] for one, other in pairwise(frames))
    for first, last in frames:
        assert sum(begin <= first and last <= end for begin, end in scenes) == 1
        # Each border may be off by half a frame of the mean rate; limits are whole frames.
        longest = max(gaps[first:last]) / 600
        assert (pts[last] - pts[first]) / 600 <= maximum + 2 / fps + longest
    if mode == "truncate":
        assert len(spans) <= len(scenes)


@given(
    marks=st.lists(st.booleans(), min_size=1, max_size=60),
)
def test_scenes_hold_no_frame_of_a_transition(marks: list[bool]):
    scenes = scenes_between(np.array(marks))
    if len(scenes) > 1:
        assert not any(any(marks[first:last]) for first, last in scenes)
        assert all(one[1] < other[0] for one, other in pairwise(scenes))


@pytest.mark.parametrize(
    "wrong", [{"minimum_s": -1}, {"minimum_frames": -1}, {"maximum_s": 0}, {"crop_s": float("nan")}]
)
def test_wrong_numbers_are_refused_in_one_line(wrong: dict[str, float]):
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))}=.* should be") as caught:
        SceneRules(**wrong)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
