"""Bins that end where the eps values do, so that a count at an eps is exact."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dedup_assets.compute.histogram import bin_edges, count_scores, eps_grid
from dedup_assets.compute.thresholds import score_threshold

GRID = eps_grid(["0.00001", "0.12345"])
EDGES = bin_edges(GRID)


def removed_by_eps(scores: np.ndarray) -> list[int]:
    from_above = count_scores(scores, EDGES)[::-1].cumsum()
    return from_above[: len(GRID)].tolist()


def test_grid_is_ascending_and_holds_the_extra_values_once():
    assert GRID[:3] == ["0", "0.00001", "0.0001"]
    assert GRID[-1] == "0.99999"
    assert {"0.12345", "0.01", "0.0099", "0.999"} <= set(GRID)
    assert len(GRID) == len(set(GRID)) == len(eps_grid(GRID))


def test_edges_rise_from_minus_one_to_one():
    assert EDGES.dtype == np.float32
    assert (EDGES[0], EDGES[-1]) == (-1, 1)
    assert (np.diff(EDGES) > 0).all()


@given(
    hnp.arrays(
        np.float32,
        st.integers(0, 50),
        elements=st.floats(-1, 1, width=32) | st.sampled_from(EDGES.tolist()),
    )
)
def test_count_at_every_eps_of_the_grid_is_the_number_removed(scores: np.ndarray):
    expected = [int((scores >= score_threshold(eps)).sum()) for eps in GRID]
    assert removed_by_eps(scores) == expected


def test_scores_around_every_threshold_fall_on_the_right_side():
    at = np.array([score_threshold(eps) for eps in GRID])
    below = np.nextafter(at, np.float32(-2))
    assert removed_by_eps(at) == list(range(1, len(GRID) + 1))
    assert removed_by_eps(below) == list(range(len(GRID)))


def test_each_score_is_counted_once_even_just_below_minus_one():
    under = np.nextafter(np.float32(-1), np.float32(-2))
    counts = count_scores(np.array([under, -1, 1, 0, -0.0], dtype=np.float32), EDGES)
    assert counts.dtype == np.int64
    assert counts.shape == EDGES.shape
    assert counts[0] == 2
    assert counts[-1] == 1
    assert counts.sum() == 5
    assert counts[np.flatnonzero(EDGES == 0)[0]] == 2
