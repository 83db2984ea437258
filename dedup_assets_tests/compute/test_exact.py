"""Sums in a fixed order: the last bit of a result must not depend on what else is computed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dedup_assets.compute.exact import (
    chunk_rows,
    fold,
    pair_dots,
    pair_squared_distances,
    squared_norms,
)
from dedup_assets_tests.compute.oracle import exact_dot
from dedup_assets_tests.conftest import unit

TERMS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
    elements=st.floats(-1, 1),
)


@given(TERMS)
def test_fold_is_the_sum_of_each_row(terms: np.ndarray):
    expected = [math.fsum(row) for row in terms]
    np.testing.assert_allclose(fold(terms.copy()), expected, rtol=0, atol=1e-12)


@given(TERMS, st.data())
def test_fold_of_a_row_does_not_depend_on_its_batch(terms: np.ndarray, data: st.DataObject):
    whole = fold(terms.copy())
    cut = data.draw(st.integers(0, len(terms)))
    parts = np.concatenate([fold(terms[:cut].copy()), fold(terms[cut:].copy())])
    assert parts.tobytes() == whole.tobytes()
    assert fold(np.asfortranarray(terms)).tobytes() == whole.tobytes()


def test_results_are_the_same_across_chunks_and_alone(rng: np.random.Generator):
    dim = 96
    n = 2 * chunk_rows(np, dim) + 3
    x = unit(rng.normal(size=(n, dim)))
    c = unit(rng.normal(size=(5, dim)))
    label = rng.integers(0, 5, n)
    rows = np.arange(n)
    norms, dots = squared_norms(x), pair_dots(x, rows, c, label)
    distances = pair_squared_distances(x, c, label)
    for i in (0, 1, chunk_rows(np, dim) - 1, chunk_rows(np, dim), n - 1):
        alone = slice(i, i + 1)
        assert squared_norms(x[alone])[0] == norms[i]
        assert pair_dots(x, rows[alone], c, label[alone])[0] == dots[i]
        assert pair_squared_distances(x[alone], c, label[alone])[0] == distances[i]
        assert norms[i] == pytest.approx(exact_dot(x[i], x[i]), abs=1e-15)
        assert dots[i] == pytest.approx(exact_dot(x[i], c[label[i]]), abs=1e-15)


def test_a_dot_product_does_not_depend_on_the_order_of_the_pair(rng: np.random.Generator):
    x = unit(rng.normal(size=(200, 33)))
    a, b = rng.integers(0, 200, (2, 500))
    np.testing.assert_array_equal(pair_dots(x, a, x, b), pair_dots(x, b, x, a))


@given(st.integers(0, 2**32 - 1), st.integers(1, 70))
def test_identical_rows_score_exactly_one(seed: int, dim: int):
    x = unit(np.random.default_rng(seed).normal(size=(3, dim)))
    rows = np.arange(3)
    norms = squared_norms(x)
    cosine = pair_dots(x, rows, x, rows) / np.sqrt(norms * norms)
    assert (cosine == 1.0).all()


def test_no_rows():
    assert squared_norms(np.empty((0, 4), np.float32)).shape == (0,)
