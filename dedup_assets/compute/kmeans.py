"""Spherical k-means: Lloyd's iterations on unit rows, centroids scaled back to length one.

Dhillon and Modha, Concept decompositions for large sparse text data using clustering, 2001;
seeding by k-means++ (Arthur and Vassilvitskii, 2007).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import array_module, to_host

_SEEDING_CLUSTERS = 1024  # above this, k-means++ costs more than the iterations it saves
_SEEDING_ROWS_PER_CLUSTER = 16
_SEEDING_MIN_ROWS = 4096
_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class KMeansFit:
    """Result of `fit`.

    Attributes:
        centroids: of shape (n_clusters, d), float32, unit rows, on the device of the input.
        inertia: sum over rows of the squared Euclidean distance to the nearest centroid.
        n_iter: iterations done.
    """

    centroids: Any
    inertia: float
    n_iter: int


def fit(
    x: Any,
    n_clusters: int,
    *,
    seed: int,
    max_iter: int,
    tol: float,
    on_iteration: Callable[[int], None] | None = None,
) -> KMeansFit:
    """Cluster unit rows.

    Args:
        x: of shape (n, d), float32, unit rows, on host or device.
        n_clusters: number of centroids, 1 to n.
        seed: of the random choices; one seed gives the same centroids on one device.
        max_iter: most iterations.
        tol: stop when the summed squared movement of the centroids is at most ``tol`` times the
            mean variance of a coordinate, as in scikit-learn.
        on_iteration: called with the number of iterations done.

    Raises:
        ValueError: more clusters than rows, or fewer than one.
    """
    n, dim = x.shape
    if not 1 <= n_clusters <= n:
        raise ValueError(f"n_clusters={n_clusters} should be between 1 and n_samples={n}.")
    xp = array_module(x)
    mean = x.mean(axis=0, dtype=xp.float64)
    tolerance = tol * max(0.0, 1.0 - float(mean @ mean)) / dim
    centroids = _seed_centroids(x, n_clusters, np.random.default_rng(seed))
    label, cosine = _screen(x, centroids)
    done = 0
    for done in range(1, max_iter + 1):
        moved = _update(x, label, centroids)
        shift = float(((moved - centroids) ** 2).sum())
        centroids = moved
        label, cosine = _screen(x, centroids)
        if on_iteration is not None:
            on_iteration(done)
        if shift <= tolerance:
            break
    inertia = float((2.0 - 2.0 * cosine.astype(xp.float64)).sum())
    return KMeansFit(centroids, max(0.0, inertia), done)


def _screen(x: Any, centroids: Any) -> tuple[Any, Any]:
    """Nearest centroid of each row in float32, good enough to fit with; and that cosine."""
    xp = array_module(x)
    label = xp.empty(len(x), dtype=xp.int64)
    cosine = xp.empty(len(x), dtype=xp.float32)
    for start in range(0, len(x), _CHUNK_ROWS):
        product = x[start : start + _CHUNK_ROWS] @ centroids.T
        part = product.argmax(axis=1)
        label[start : start + _CHUNK_ROWS] = part
        cosine[start : start + _CHUNK_ROWS] = product[xp.arange(len(part)), part]
    return label, cosine


def _update(x: Any, label: Any, centroids: Any) -> Any:
    """Mean direction of each cluster; a cluster without rows keeps its centroid."""
    xp = array_module(x)
    order = xp.argsort(label, kind="stable")
    sums = xp.zeros(centroids.shape, dtype=xp.float64)
    for start in range(0, len(x), _CHUNK_ROWS):
        rows = order[start : start + _CHUNK_ROWS]
        present, first = xp.unique(label[rows], return_index=True)
        sums[present] += xp.add.reduceat(x[rows], first, axis=0)
    length = xp.sqrt((sums * sums).sum(axis=1))
    empty = length == 0.0
    length[empty] = 1.0
    moved = (sums / length[:, None]).astype(xp.float32)
    moved[empty] = centroids[empty]
    return moved


def _seed_centroids(x: Any, n_clusters: int, rng: np.random.Generator) -> Any:
    """Starting centroids: k-means++ on a random subsample, or random rows where K is large."""
    xp = array_module(x)
    if n_clusters > _SEEDING_CLUSTERS:
        return x[xp.asarray(np.sort(rng.choice(len(x), n_clusters, replace=False)))].copy()
    size = min(len(x), max(_SEEDING_MIN_ROWS, _SEEDING_ROWS_PER_CLUSTER * n_clusters))
    pool = x[xp.asarray(np.sort(rng.choice(len(x), size, replace=False)))]
    trials = 2 + int(np.log(n_clusters))
    chosen = [int(rng.integers(size))]
    distance = _squared_distances(pool, chosen)[:, 0]
    for _ in range(1, n_clusters):
        weights = np.cumsum(to_host(distance).astype(np.float64))
        if weights[-1] <= 0.0:  # fewer distinct rows than clusters: any row will do
            chosen.append(int(rng.integers(size)))
            continue
        draws = np.searchsorted(weights, rng.random(trials) * weights[-1], side="right")
        candidates = np.minimum(draws, size - 1).tolist()
        after = xp.minimum(distance[:, None], _squared_distances(pool, candidates))
        best = int(after.sum(axis=0, dtype=xp.float64).argmin())
        chosen.append(candidates[best])
        distance = after[:, best]
    return pool[xp.asarray(chosen)].copy()


def _squared_distances(pool: Any, rows: list[int]) -> Any:
    """Squared distances of all pool rows to some of them; (m, len(rows)) float32."""
    xp = array_module(pool)
    # Rounding leaves about 1e-7 between a row and itself, which would draw copies again.
    distance = 2.0 - 2.0 * (pool @ pool[xp.asarray(rows)].T)
    return xp.where(distance > 1e-6, distance, 0.0).astype(xp.float32)
