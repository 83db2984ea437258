"""Where k-means starts from: rows of the data, spread out."""

import numpy as np
import pytest

from dedup_assets.compute import seeding
from dedup_assets.compute.products import fit_format
from dedup_assets.compute.seeding import seed_centroids
from dedup_assets_tests.conftest import unit


def seeded(x: np.ndarray, n_clusters: int, seed: int = 0) -> np.ndarray:
    return seed_centroids(x, n_clusters, fit_format(np), np.random.default_rng(seed), 1 << 28)


def rows_of(x: np.ndarray, chosen: np.ndarray) -> list[int]:
    places = {row.tobytes(): i for i, row in reversed(list(enumerate(x)))}
    return [places[row.tobytes()] for row in chosen]


@pytest.fixture
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small limits, so that candidates are drawn from a few hundred rows."""
    monkeypatch.setattr(seeding, "_FEWEST_CANDIDATES", 40)
    monkeypatch.setattr(seeding, "_MOST_CANDIDATES", 60)


@pytest.mark.parametrize("n_clusters", [1, 2, 17, 300])
def test_centroids_are_different_rows(rng: np.random.Generator, n_clusters: int):
    x = unit(rng.normal(size=(300, 12)))
    chosen = seeded(x, n_clusters)
    assert chosen.dtype == np.float32
    assert len(set(rows_of(x, chosen))) == n_clusters


@pytest.mark.usefixtures("few_candidates")
@pytest.mark.parametrize("seed", range(5))
def test_each_distant_group_gets_one(rng: np.random.Generator, seed: int):
    """Ten groups of very different sizes; random rows would miss the small ones.

    So tight that a draw hardly ever lands twice in one, whatever unit computes the products.
    """
    centres = unit(rng.normal(size=(10, 32)))
    group = np.repeat(np.arange(10), [400, 200, 100, 50, 20, 10, 10, 10, 5, 5])
    x = unit(centres[group] + 0.001 * rng.normal(size=(len(group), 32)))
    assert sorted(group[rows_of(x, seeded(x, 10, seed))]) == list(range(10))


@pytest.mark.usefixtures("few_candidates")
@pytest.mark.parametrize("distinct", [1, 3])
def test_fewer_distinct_rows_than_clusters(rng: np.random.Generator, distinct: int):
    x = np.repeat(unit(rng.normal(size=(distinct, 6))), 300 // distinct, axis=0)
    assert seeded(x, 20).shape == (20, 6)
    assert len(np.unique(seeded(x, 20), axis=0)) == distinct


@pytest.mark.usefixtures("few_candidates")
def test_one_seed_gives_one_start_and_another_another(rng: np.random.Generator):
    x = unit(rng.normal(size=(500, 8)))
    np.testing.assert_array_equal(seeded(x, 12, 1), seeded(x, 12, 1))
    assert not np.array_equal(seeded(x, 12, 1), seeded(x, 12, 2))


def test_very_many_clusters_start_from_random_rows(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(seeding, "_MOST_CLUSTERS", 50)
    x = unit(rng.normal(size=(200, 5)))
    assert len(set(rows_of(x, seeded(x, 60)))) == 60


def test_squared_distances_of_candidates(rng: np.random.Generator):
    x = unit(rng.normal(size=(30, 7)))
    x[3] = x[8]
    expected = ((x[:, None].astype(np.float64) - x) ** 2).sum(axis=2)
    found = seeding._squared_distances(x)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[3, 8] == found[5, 5] == 0.0
