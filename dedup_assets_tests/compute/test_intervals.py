"""A counted share and the interval that its sample leaves it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.compute.intervals import share, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (0, 10, 0.0, 3.841459 / 13.841459),  # z^2 / (n + z^2)
        (10, 10, 10 / 13.841459, 1.0),
        (5, 10, 0.5 - 0.263407, 0.5 + 0.263407),  # 1.959964 sqrt(.025 + .0096036) / 1.3841459
        (1, 1, 1 / 4.841459, 1.0),
        # (.015 + .00192073 -+ 1.959964 sqrt(.015 .985 / 1000 + 9.6036e-7)) / 1.00384146
        (15, 1000, 0.00911098, 0.02460098),
    ],
)
def test_interval_worked_out_by_hand(successes: int, trials: int, low: float, high: float):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(1, 5000), st.floats(0, 1))
def test_interval_holds_the_share_within_0_and_1_and_is_symmetric(trials: int, fraction: float):
    successes = round(fraction * trials)
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    assert wilson_interval(trials - successes, trials) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("truth", [0.01, 0.05, 0.3])
def test_interval_holds_the_truth_in_about_95_of_100_samples(truth: float):
    """Summed over every count that a sample of 200 can have, so nothing is left to chance."""
    covered = 0.0
    for count in range(201):
        low, high = wilson_interval(count, 200)
        if low <= truth <= high:
            covered += math.comb(200, count) * truth**count * (1 - truth) ** (200 - count)
    assert 0.93 <= covered <= 0.99


def test_share_says_its_interval_unless_all_were_counted():
    assert str(share(13, 1000)) == "1.3% (0.8 to 2.2%)"
    assert str(share(13, 1000, all_counted=True)) == "1.3%"
    assert str(share(0, 300)) == "0.0% (0.0 to 1.3%)"


def test_share_of_nothing_is_unknown_and_no_nan():
    nothing = share(0, 0)
    assert nothing.value is None
    assert (nothing.low, nothing.high) == (0.0, 1.0)
    assert str(nothing) == "unknown"
