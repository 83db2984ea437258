"""Unit rows, and rows that have no direction."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dedup_assets.compute.exact import chunk_rows
from dedup_assets.compute.normalize import NOT_FINITE, REASONS, VALID, ZERO_VECTOR, unit_rows

DTYPES = [np.float16, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_have_length_one(dtype: Any, rng: np.random.Generator):
    x = (rng.normal(size=(50, 48)) * np.logspace(-3, 2, 50)[:, None]).astype(dtype)
    unit = unit_rows(x)
    assert unit.rows.dtype == np.float32
    assert (unit.status == VALID).all()
    wide = x.astype(np.float64)
    expected = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    np.testing.assert_allclose(unit.rows, expected, rtol=1.2e-7)
    np.testing.assert_allclose(np.linalg.norm(unit.rows.astype(float), axis=1), 1, atol=1e-7)


def test_three_four_five():
    assert unit_rows(np.array([[3.0, -4.0]])).rows.tolist() == [[np.float32(0.6), -np.float32(0.8)]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("row", "status"),
    [
        ([1, 0, 2], VALID),
        ([0, 0, 0], ZERO_VECTOR),
        ([-0.0, 0, 0], ZERO_VECTOR),
        ([1, np.nan, 2], NOT_FINITE),
        ([np.inf, 0, 0], NOT_FINITE),
        ([1, -np.inf, 0], NOT_FINITE),
        ([np.inf, -np.inf, np.nan], NOT_FINITE),
    ],
)
def test_status(row: list[float], status: int, dtype: Any):
    unit = unit_rows(np.array([[1, 1, 1], row, [0, 1, 0]], dtype=dtype))
    assert unit.status.tolist() == [VALID, status, VALID]
    if status != VALID:
        assert unit.rows[1].tolist() == [0, 0, 0]
        assert REASONS[status]


@pytest.mark.parametrize(
    "scale", [1e300, 1.7e308, 1e-160, 1e-300, 5e-324, 2e-310], ids=lambda s: f"{s:g}"
)
def test_float64_rows_too_long_or_short_to_be_squared_keep_their_direction(scale: float):
    x = np.array([[scale, 0.0], [scale, -scale], [0.0, -scale]])
    unit = unit_rows(x)
    half = np.float32(np.sqrt(0.5))
    assert (unit.status == VALID).all()
    np.testing.assert_array_equal(unit.rows, [[1, 0], [half, -half], [0, -1]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_subnormal_and_largest_rows_of_narrow_types_are_valid(dtype: Any):
    tiny, largest = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    unit = unit_rows(np.array([[tiny, 0], [largest, largest]], dtype=dtype))
    assert unit.status.tolist() == [VALID, VALID]
    assert unit.rows[0].tolist() == [1, 0]
    np.testing.assert_allclose(unit.rows[1], np.sqrt(0.5), rtol=1e-7)


def test_a_power_of_two_changes_nothing(rng: np.random.Generator):
    x = rng.normal(size=(20, 9))
    expected = unit_rows(x).rows
    for power in (-400, -3, 5, 900):
        np.testing.assert_array_equal(unit_rows(np.ldexp(x, power)).rows, expected)


@given(
    hnp.arrays(
        st.sampled_from(DTYPES).map(np.dtype),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.floats(width=16),
    ),
    st.data(),
)
def test_a_row_does_not_depend_on_its_batch(x: np.ndarray, data: st.DataObject):
    whole = unit_rows(x)
    i = data.draw(st.integers(0, len(x) - 1))
    alone = unit_rows(x[i : i + 1])
    assert alone.rows[0].tobytes() == whole.rows[i].tobytes()
    assert alone.status[0] == whole.status[i]


def test_rows_across_chunks_are_the_same_as_alone(rng: np.random.Generator):
    dim = 768
    x = rng.normal(size=(2 * chunk_rows(np, dim) + 1, dim)).astype(np.float32)
    whole = unit_rows(x).rows
    for i in (0, chunk_rows(np, dim) - 1, chunk_rows(np, dim), len(x) - 1):
        np.testing.assert_array_equal(unit_rows(x[i : i + 1]).rows[0], whole[i])


@pytest.mark.parametrize("dtype", DTYPES)
def test_input_is_not_changed(dtype: Any):
    x = np.array([[3, 4], [np.nan, 1]], dtype=dtype)
    before = x.copy()
    unit_rows(x)
    np.testing.assert_array_equal(x, before)


def test_no_rows():
    unit = unit_rows(np.empty((0, 3), np.float32))
    assert unit.rows.shape == (0, 3)
    assert unit.status.shape == (0,)
