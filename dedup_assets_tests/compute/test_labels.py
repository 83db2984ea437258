"""Labels of rows while centroids move: those of all products, up to their rounding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_assets.compute import labels
from dedup_assets.compute.bounds import screen_bound
from dedup_assets.compute.kmeans import fit
from dedup_assets.compute.labels import Labels
from dedup_assets.compute.products import Float32
from dedup_assets_tests.rows import unit

BUDGET = 1 << 20
DIM = 12
SLACK = 4 * screen_bound(DIM, 1e-6)


def assert_nearest(x: np.ndarray, centroids: np.ndarray, label: np.ndarray) -> None:
    cosines = x.astype(np.float64) @ centroids.astype(np.float64).T
    chosen = cosines[np.arange(len(x)), label]
    assert (chosen >= cosines.max(axis=1) - SLACK).all()


@given(
    seed=st.integers(0, 2**32 - 1),
    clusters=st.sampled_from([1, 2, 63, 64, 200]),
    steps=st.lists(st.sampled_from([0.0, 1e-7, 1e-4, 0.01, 0.3, 3.0]), min_size=1, max_size=8),
    moving=st.sampled_from([0.01, 0.1, 1.0]),
)
@settings(max_examples=150, deadline=None)
def test_labels_are_those_of_the_largest_products(
    seed: int, clusters: int, steps: list[float], moving: float
):
    rng = np.random.default_rng(seed)
    centroids = unit(rng.normal(size=(clusters, DIM)))
    noise = rng.choice([0.0, 0.05, 1.0]) * rng.normal(size=(500, DIM))
    x = unit(centroids[rng.integers(0, clusters, 500)] + noise)
    found = Labels(x, centroids, Float32(), BUDGET)
    assert_nearest(x, centroids, found.label)
    for step in steps:
        change = step * rng.normal(size=centroids.shape) * (rng.random((clusters, 1)) < moving)
        centroids = unit(centroids + change)
        found.move(centroids)
        assert_nearest(x, centroids, found.label)


def test_few_products_follow_a_few_centroids(rng: np.random.Generator):
    centroids = unit(rng.normal(size=(200, DIM)))
    x = unit(np.repeat(centroids, 20, axis=0) + 0.02 * rng.normal(size=(4000, DIM)))
    found = Labels(x, centroids, Float32(), BUDGET)
    assert found.products == 4000 * 200
    moved = centroids.copy()
    moved[:2] = unit(moved[:2] + 0.1 * rng.normal(size=(2, DIM)))
    found.move(moved)
    assert found.products < 1.1 * 4000 * 200
    found.move(moved)
    assert found.products < 1.1 * 4000 * 200


def test_a_fit_ends_where_all_products_end(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    centres = unit(rng.normal(size=(80, DIM)))
    x = unit(np.repeat(centres, 40, axis=0) + 0.3 * rng.normal(size=(3200, DIM)))
    quick = fit(x, 80, seed=3, max_iter=40, tol=0.0)
    monkeypatch.setattr(labels, "_FEWEST", 1000)
    slow = fit(x, 80, seed=3, max_iter=40, tol=0.0)
    assert quick.n_iter == slow.n_iter > 5
    np.testing.assert_array_equal(quick.centroids, slow.centroids)


def test_rows_of_another_length_are_refused(rng: np.random.Generator):
    with pytest.raises(ValueError, match="rows must have length 1"):
        Labels(rng.normal(size=(9, 4)).astype(np.float32), np.eye(4, dtype=np.float32),
               Float32(), BUDGET)  # fmt: skip
