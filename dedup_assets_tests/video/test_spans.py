"""Spans by hand, then their properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.video.spans import FixedStride, Span


@pytest.mark.parametrize(
    ("duration", "minimum", "expected"),
    [
        (30, 2, [(0, 10), (10, 20), (20, 30)]),
        (12, 2, [(0, 10), (10, 12)]),
        (12, 8, [(0, 10)]),
        (11.9, 2, [(0, 10)]),
        (1, 2, []),
        (0, 0, []),
    ],
)
def test_last_piece_is_kept_from_the_minimum_on(
    duration: float, minimum: float, expected: list[tuple[float, float]]
):
    spans = FixedStride(10, None, minimum).spans(duration)
    assert spans == [Span(*pair) for pair in expected]


def test_smaller_stride_overlaps_and_larger_leaves_gaps():
    assert FixedStride(4, 2, 3).spans(8) == [Span(0, 4), Span(2, 6), Span(4, 8)]
    assert FixedStride(2, 5, 1).spans(8) == [Span(0, 2), Span(5, 7)]


def test_starts_are_summed_up_as_the_peers_do():
    """Clip ids hold them digit by digit: 0.1 + 0.1 + 0.1 is 0.30000000000000004."""
    assert FixedStride(0.1, None, 0).spans(0.4)[3].start_s == 0.30000000000000004


LENGTHS = st.floats(0.1, 60)


@given(duration=st.floats(0, 600), length=LENGTHS, minimum=st.floats(0, 20))
def test_neighbours_meet_and_cover_all_but_a_short_tail(
    duration: float, length: float, minimum: float
):
    spans = FixedStride(length, None, minimum).spans(duration)
    edge = 0.0
    for span in spans:
        assert span.start_s == edge
        assert minimum - 1e-9 <= span.end_s - span.start_s <= length + 1e-9
        edge = span.end_s
    if minimum <= length:
        assert duration - edge <= minimum
    else:
        assert not spans


@given(duration=st.floats(0, 600), length=LENGTHS, stride=st.floats(0.5, 60))
def test_spans_lie_in_the_video_in_order(duration: float, length: float, stride: float):
    spans = FixedStride(length, stride, 0).spans(duration)
    starts = [span.start_s for span in spans]
    assert starts == sorted(set(starts))
    assert all(span.end_s <= duration for span in spans)


@pytest.mark.parametrize(
    "wrong",
    [{"length_s": 0}, {"stride_s": -1}, {"minimum_s": -1}, {"length_s": float("nan")}],
)
def test_wrong_numbers_are_refused_in_one_line(wrong: dict[str, float]):
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))}=.* should be") as caught:
        FixedStride(**wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("duration", [-1, float("inf"), float("nan")])
def test_wrong_duration_is_refused(duration: float):
    with pytest.raises(ValueError, match="duration_s="):
        FixedStride().spans(duration)
