"""The nearest centroid by cosine in float64, lowest index on a tie, and both distances."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from dedup_assets.compute.assign import Assignment, nearest_centroids
from dedup_assets_tests.compute.oracle import exact_cosine, exact_dot
from dedup_assets_tests.conftest import unit

pytestmark = pytest.mark.usefixtures("each_screen")
BUDGETS = (1, 5_000, 1 << 30)


def assert_same(found: Assignment, expected: Assignment, rows: slice = slice(None)) -> None:
    np.testing.assert_array_equal(found.label, expected.label[rows])
    np.testing.assert_array_equal(found.cosine_distance, expected.cosine_distance[rows])
    np.testing.assert_array_equal(found.l2_distance, expected.l2_distance[rows])


def test_three_rows_worked_out_by_hand():
    x = np.array([[1, 0], [0, -1], [0.6, 0.8]], dtype=np.float32)
    found = nearest_centroids(x, np.array([[0, 1], [1, 0]], dtype=np.float32))
    assert found.label.tolist() == [1, 1, 0]
    np.testing.assert_allclose(found.cosine_distance, [0, 1, 0.2], atol=1e-7)
    np.testing.assert_allclose(found.l2_distance, np.sqrt([0, 2, 0.4]), atol=1e-7)
    types = (found.label.dtype, found.cosine_distance.dtype, found.l2_distance.dtype)
    assert types == (np.int32, np.float32, np.float32)


@pytest.mark.parametrize("centroids", [[[1, 0], [1, 0]], [[1, 0], [2, 0], [0.5, 0]]])
def test_tie_goes_to_the_lowest_index(centroids: list[list[float]]):
    """The length of a centroid is no part of a cosine."""
    x = unit([(1, 0), (3, 1), (-1, 2)])
    found = nearest_centroids(x, np.array(centroids, dtype=np.float32))
    assert found.label.tolist() == [0, 0, 0]


def test_row_between_two_centroids_goes_to_the_lower():
    x = unit([(1, 1), (-1, -1), (1, -1)])
    found = nearest_centroids(x, np.array([[0, 1], [1, 0]], dtype=np.float32))
    assert found.label.tolist() == [0, 0, 1]


def test_difference_that_float32_cannot_see_is_decided_in_float64():
    x = np.array([[1, 0]], dtype=np.float32)
    near, far = [1, 2.0**-14], [1, 2.0**-13]
    centroids = np.array([far, near], dtype=np.float32)
    product = x @ unit(centroids).T
    assert abs(float(product[0, 0] - product[0, 1])) <= 2.0**-23
    assert nearest_centroids(x, centroids).label.tolist() == [1]
    assert nearest_centroids(x, centroids[::-1]).label.tolist() == [0]


@st.composite
def rows_and_centroids(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    dim, n, k = draw(st.integers(1, 5)), draw(st.integers(1, 20)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([1.0, 1e-4, 1e-7]))
    grid = draw(st.booleans())
    x = rng.integers(-2, 3, (n, dim)) + 0.25 if grid else 1 + spread * rng.normal(size=(n, dim))
    c = rng.integers(-1, 2, (k, dim)) + 0.25 if grid else 1 + spread * rng.normal(size=(k, dim))
    return unit(x), unit(c)


@given(rows_and_centroids(), st.sampled_from(BUDGETS))
def test_equals_the_definition(drawn: tuple[np.ndarray, np.ndarray], budget: int):
    x, centroids = drawn
    found = nearest_centroids(x, centroids, memory_budget=budget)
    for i, row in enumerate(x):
        cosines = np.array([exact_cosine(row, c) for c in centroids])
        chosen = found.label[i]
        # Sums of one order and another differ by some 1e-16; beyond that, the choice is fixed.
        assert cosines[chosen] >= cosines.max() - 4e-16
        difference = row.astype(np.float64) - centroids[chosen]
        np.testing.assert_allclose(
            found.cosine_distance[i], 1 - cosines[chosen], rtol=6e-8, atol=4e-16
        )
        np.testing.assert_allclose(
            found.l2_distance[i], np.sqrt(exact_dot(difference, difference)), rtol=6e-8
        )


def test_a_row_does_not_depend_on_its_batch_nor_on_threads(rng: np.random.Generator):
    x = unit(rng.normal(size=(5000, 40)))
    centroids = unit(rng.normal(size=(37, 40)))
    centroids[20] = centroids[3]
    expected = nearest_centroids(x, centroids)
    assert 20 not in expected.label
    for budget in BUDGETS[1:]:
        for threads in (1, 2):
            with threadpool_limits(threads):
                assert_same(nearest_centroids(x, centroids, memory_budget=budget), expected)
    for rows in (slice(0, 1), slice(17, 18), slice(100, 357), slice(4095, 4097)):
        assert_same(nearest_centroids(x[rows], centroids), expected, rows)


def test_no_rows():
    found = nearest_centroids(np.empty((0, 2), np.float32), unit([(1, 0)]))
    assert found.label.shape == found.cosine_distance.shape == found.l2_distance.shape == (0,)


def test_rows_near_many_centroids_stay_within_the_memory_budget(rng: np.random.Generator):
    """Near copies of one direction: the float64 product decides, tile by tile."""
    dim, budget = 64, 1 << 20
    direction = rng.normal(size=dim)
    centroids = unit(direction + 1e-7 * rng.normal(size=(16_000, dim)))
    x = unit(direction + 1e-3 * rng.normal(size=(256, dim)))
    nearest_centroids(x[:1], centroids[:10], memory_budget=budget)  # imports and caches
    tracemalloc.start()
    found = nearest_centroids(x, centroids, memory_budget=budget)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # On top come the centroids at unit length and in the format of the screen.
    assert most < budget + 3 * centroids.nbytes
    assert_same(found, nearest_centroids(x, centroids, memory_budget=1 << 30))
