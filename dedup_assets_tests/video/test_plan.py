"""Which frames are sampled, and which go into which clip, from time stamps alone."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from dedup_assets.video.plan import ClipPlan, Timeline, plan_clips, sample_times
from dedup_assets.video.sampling import Sampling
from dedup_assets.video.spans import FixedStride

TICK = Fraction(1, 30)


def _timeline(frames: int, keys: list[int], stated: float | None = None) -> Timeline:
    pts = np.arange(frames)
    return Timeline(pts, np.array(keys), TICK, frames, stated, 30.0)


def _plans(timeline: Timeline, splitting: FixedStride, *, on_keys: bool = False) -> list[ClipPlan]:
    return plan_clips(timeline, splitting.spans(timeline.duration_s), None, on_keys=on_keys)


def _sampled(frames: int, sampling: Sampling) -> list[int]:
    return sample_times(np.arange(frames), frames, TICK, sampling).tolist()


def test_middles_of_equal_spans():
    assert _sampled(10, Sampling(5)) == [1, 3, 5, 7, 9]
    assert _sampled(2, Sampling(4)) == [0, 0, 1, 1]


def test_two_a_second_takes_every_second_of_21():
    """10 s at 2 a second and both ends are 21 frames; 21 // 8 = 2, so 7 s of 10 are seen."""
    assert _sampled(300, Sampling(8, 2)) == [0, 30, 60, 90, 120, 150, 180, 210]


def test_rate_is_doubled_until_there_are_enough():
    """2 s: 5 frames at 2, 9 at 4 a second."""
    assert _sampled(60, Sampling(8, 2)) == [0, 7, 15, 22, 30, 37, 45, 52]


def test_short_clip_repeats_frames():
    """0.1 s: even at 16 a second two frames; 32 is past the bound of 20."""
    assert _sampled(3, Sampling(4, 2)) == [0, 0, 2, 2]
    assert _sampled(1, Sampling(3, 2)) == [0, 0, 0]


def test_every_frame_belongs_to_one_clip():
    plans = _plans(_timeline(100, [0]), FixedStride(1, None, 0))
    assert [(plan.begin, plan.end) for plan in plans] == [(0, 30), (30, 60), (60, 90), (90, 101)]


def test_rounding_of_summed_strides_moves_no_frame():
    """0.2 is a little more than 1/5 as a double, so frame 6 begins a little before it."""
    splitting = FixedStride(0.2, None, 0)
    plans = _plans(_timeline(6 * 500, [0]), splitting)
    assert [plan.begin for plan in plans] == list(range(0, 3000, 6))
    assert all(plan.end == after.begin for plan, after in pairwise(plans))


def test_copies_begin_at_the_next_key_frame():
    plans = _plans(_timeline(90, [0, 20, 45, 70]), FixedStride(1), on_keys=True)
    assert plans == []  # spans of 1 s are below the minimum of 2 s
    splitting = FixedStride(1, None, 0)
    plans = _plans(_timeline(90, [0, 20, 45, 70]), splitting, on_keys=True)
    assert [(plan.begin, plan.end) for plan in plans] == [(0, 45), (45, 70), (70, 91)]


def test_duration_is_the_stated_one_only_if_frames_bear_it_out():
    assert _timeline(90, [0], 3.02).duration_s == 3.0
    assert _timeline(90, [0], 1.0).duration_s == 3.0
    assert _timeline(90, [0], None).duration_s == 3.0


@pytest.mark.parametrize("wrong", [{"fps": 0, "count": 1}, {"fps": 30, "count": 1}, {"count": 0}])
def test_wrong_sampling_is_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="should be"):
        Sampling(**wrong)  # type: ignore[arg-type]
