"""Spherical k-means."""

import itertools
from typing import Any

import numpy as np
import pytest

from dedup_assets.compute.assign import nearest_centroids
from dedup_assets.compute.kmeans import KMeansFit, fit
from dedup_assets_tests.conftest import unit


def fitted(x: np.ndarray, n_clusters: int, **options: Any) -> KMeansFit:
    return fit(x, n_clusters, **{"seed": 0, "max_iter": 100, "tol": 1e-4, **options})


@pytest.fixture
def blobs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ten tight groups of 60 rows around random directions, shuffled; and their numbers."""
    label = rng.permutation(np.repeat(np.arange(10), 60))
    return unit(unit(rng.normal(size=(10, 32)))[label] + 0.02 * rng.normal(size=(600, 32))), label


def inertia_of(x: np.ndarray, centroids: np.ndarray) -> float:
    distances = ((x[:, None, :].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    return float(distances.min(axis=1).sum())


@pytest.mark.parametrize("seed", range(5))
def test_separable_groups_are_recovered(blobs: tuple[np.ndarray, np.ndarray], seed: int):
    x, label = blobs
    result = fitted(x, 10, seed=seed)
    found = nearest_centroids(x, result.centroids).label
    assert len(set(zip(label.tolist(), found.tolist(), strict=True))) == 10
    assert result.inertia == pytest.approx(inertia_of(x, result.centroids), rel=1e-3)


def test_inertia_never_rises_with_more_iterations(rng: np.random.Generator):
    x = unit(rng.normal(size=(500, 8)))
    inertia = [fitted(x, 12, max_iter=i, tol=0).inertia for i in range(1, 15)]
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(inertia))
    assert inertia[-1] < inertia[0]


def test_each_centroid_predicts_itself(blobs: tuple[np.ndarray, np.ndarray]):
    centroids = fitted(blobs[0], 10).centroids
    assert nearest_centroids(centroids, centroids).label.tolist() == list(range(10))


@pytest.mark.parametrize("n_clusters", [1, 2, 7, 600])
def test_centroids_are_unit_rows_of_float32(blobs: tuple[np.ndarray, np.ndarray], n_clusters: int):
    centroids = fitted(blobs[0], n_clusters).centroids
    assert centroids.shape == (n_clusters, 32)
    assert centroids.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(centroids.astype(float), axis=1), 1, atol=1e-6)


def test_one_cluster_points_along_the_mean(rng: np.random.Generator):
    x = unit(rng.normal(size=(50, 5)) + 1)
    np.testing.assert_allclose(
        fitted(x, 1).centroids[0], unit(x.mean(axis=0, keepdims=True))[0], atol=1e-6
    )


def test_as_many_clusters_as_distinct_rows_leave_no_distance(rng: np.random.Generator):
    x = unit(rng.normal(size=(40, 6)))
    result = fitted(x, 40)
    assert result.inertia < 1e-4
    assert sorted(nearest_centroids(x, result.centroids).label.tolist()) == list(range(40))


def test_fewer_distinct_rows_than_clusters_is_no_error(rng: np.random.Generator):
    x = unit(rng.normal(size=(3, 6)))[rng.integers(0, 3, 50)]
    result = fitted(x, 8)
    assert np.isfinite(result.centroids).all()
    np.testing.assert_allclose(np.linalg.norm(result.centroids.astype(float), axis=1), 1, atol=1e-6)
    assert result.inertia < 1e-4


def test_opposite_rows_whose_mean_is_zero_keep_a_unit_centroid():
    x = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    centroids = fitted(x, 1).centroids
    np.testing.assert_allclose(np.linalg.norm(centroids), 1)


def test_above_1024_clusters_rows_are_drawn_as_seeds(rng: np.random.Generator):
    x = unit(rng.normal(size=(1500, 4)))
    result = fitted(x, 1100, max_iter=3)
    np.testing.assert_allclose(np.linalg.norm(result.centroids.astype(float), axis=1), 1, atol=1e-6)
    assert result.inertia < inertia_of(x, x[:100])


def test_one_seed_gives_the_same_bytes_and_another_does_not(rng: np.random.Generator):
    x = unit(rng.normal(size=(300, 8)))
    first, again, other = (fitted(x, 9, seed=s, max_iter=4).centroids for s in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_iterations_are_counted_and_reported(rng: np.random.Generator):
    heard: list[int] = []
    x = unit(rng.normal(size=(300, 8)))
    result = fitted(x, 9, max_iter=5, tol=0, on_iteration=heard.append)
    assert heard == list(range(1, result.n_iter + 1))
    assert result.n_iter <= 5


def test_a_large_tolerance_stops_early(rng: np.random.Generator):
    assert fitted(unit(rng.normal(size=(300, 8))), 9, tol=1e6).n_iter == 1


def test_input_is_not_changed(rng: np.random.Generator):
    x = unit(rng.normal(size=(100, 8)))
    before = x.copy()
    fitted(x, 100)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("n_clusters", [0, -1, 4])
def test_number_of_clusters_must_be_within_the_rows(n_clusters: int):
    with pytest.raises(ValueError, match=rf"n_clusters={n_clusters} should .*n_samples=3\."):
        fitted(np.eye(3, dtype=np.float32), n_clusters)
