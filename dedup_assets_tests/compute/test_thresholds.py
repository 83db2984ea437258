"""eps: one spelling, one threshold, one rule of removal."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.compute.thresholds import canonical_eps, score_threshold


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ("0.010", "0.01"),
        ("1e-05", "0.00001"),
        (1e-05, "0.00001"),
        ("1E-2", "0.01"),
        (0.1, "0.1"),
        (np.float64(0.05), "0.05"),
        (np.float32(0.1), "0.1"),
        (Decimal("0.0100000"), "0.01"),
        (0, "0"),
        (0.0, "0"),
        ("0.00000", "0"),
        ("-0.0", "0"),
        ("000.5", "0.5"),
        (".5", "0.5"),
        (" 0.5 ", "0.5"),
        ("+0.5", "0.5"),
        ("0.99999", "0.99999"),
        (0.10000, "0.1"),
    ],
)
def test_spellings_of_one_number_are_one_eps(value: object, canonical: str):
    assert canonical_eps(value) == canonical


@pytest.mark.parametrize("value", [1.5, 1, "1.0", "-0.1", -1e-5, "0.999991", "1e5"])
def test_out_of_range_is_refused_with_the_rule_and_the_value(value: object):
    with pytest.raises(ValueError, match=f"from 0 to 0.99999 with at most 5 decimals, got {value}"):
        canonical_eps(value)


@pytest.mark.parametrize("value", ["0.000001", 1e-06, "0.123456", 0.1 + 0.2, "1e-400"])
def test_more_than_five_decimals_are_refused(value: object):
    with pytest.raises(ValueError, match="at most 5 decimals, got"):
        canonical_eps(value)


@pytest.mark.parametrize(
    "value",
    [
        *("", "abc", "0,1", "nan", "inf", "-inf", float("nan"), None, True, False, [0.1], "1%"),
        *("\u0660.\u0660\u0661", "0.\uff101", "0.0_1", "0.1\u00b2", "1e", ".", "+", "0.1 2", "0x1"),
    ],
)
def test_what_is_no_number_is_refused(value: object):
    with pytest.raises(ValueError, match=r"eps must be a number from 0 to 0\.99999"):
        canonical_eps(value)


@given(st.integers(0, 99_999))
def test_every_step_is_its_own_spelling(step: int):
    eps = canonical_eps(step * Decimal("0.00001"))
    assert canonical_eps(eps) == eps
    assert canonical_eps(float(eps)) == eps
    assert Decimal(eps) * 100_000 == step
    assert "e" not in eps.lower()
    assert not eps.endswith(".")


def test_threshold_is_float32_of_one_minus_eps_at_every_step():
    values = [canonical_eps(Decimal(i) / 100_000) for i in range(100_000)]
    thresholds = np.array([score_threshold(eps) for eps in values])
    assert thresholds.dtype == np.float32
    exact = np.arange(100_000, 0, -1) / 100_000
    np.testing.assert_array_equal(thresholds, exact.astype(np.float32))
    assert (np.diff(thresholds) < 0).all()
