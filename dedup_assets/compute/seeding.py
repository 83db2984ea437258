"""Starting centroids for k-means.

k-means++ (Arthur and Vassilvitskii, 2007) in its greedy form, which tries several rows at each
step, on candidates drawn by k-means|| (Bahmani et al., Scalable k-means++, VLDB 2012): a few
passes that each draw many rows at once, far ones more likely. The k-means++ steps then need only
the candidates' products with each other, which are computed once.
"""

from typing import Any

import numpy as np

from dedup_assets.compute.arrays import array_module, to_host
from dedup_assets.compute.products import Format, for_each, row_chunks

_MOST_CLUSTERS = 4096  # above it, random rows: the steps would take longer than the iterations
_POOL_ROWS = 64  # a cluster, to draw candidates from
_FEWEST_POOL_ROWS = 4096
_ROUNDS = 5
_FEWEST_CANDIDATES, _MOST_CANDIDATES = 1024, 8192
_NOTHING = 1e-6  # rounding leaves about 1e-7 between a row and itself


def seed_centroids(
    x: Any, n_clusters: int, quick: Format, rng: np.random.Generator, memory_budget: int
) -> Any:
    """Choose ``n_clusters`` rows of ``x``; of shape (n_clusters, d), float32, on its device."""
    xp = array_module(x)
    n = len(x)
    if n_clusters > _MOST_CLUSTERS:
        return x[xp.asarray(np.sort(rng.choice(n, n_clusters, replace=False)))].copy()
    size = min(n, max(_FEWEST_POOL_ROWS, _POOL_ROWS * n_clusters))
    pool = np.sort(rng.choice(n, size, replace=False))
    # Their products with each other may take a quarter of the memory of all rows.
    fit_in_memory = int((x.size / 4) ** 0.5)
    most = int(np.clip(fit_in_memory, max(_FEWEST_CANDIDATES, n_clusters), _MOST_CANDIDATES))
    if size <= most:
        chosen, weight = pool, np.ones(size)
    else:
        chosen, weight = _draw_candidates(x, pool, n_clusters, most, quick, rng, memory_budget)
    rows = x[xp.asarray(chosen)]
    return rows[xp.asarray(_greedy(rows, weight, n_clusters, rng))].copy()


def _draw_candidates(
    x: Any,
    pool: np.ndarray,
    n_clusters: int,
    most: int,
    quick: Format,
    rng: np.random.Generator,
    memory_budget: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pool that stand for all of it, and how many each stands for."""
    xp = array_module(x)
    size = len(pool)
    each = max(1, min(n_clusters, (most - n_clusters) // _ROUNDS))
    distance = np.full(size, np.inf)
    nearest = np.zeros(size, dtype=np.int64)
    rows = np.array([rng.integers(size)])
    chosen = np.empty(0, dtype=np.int64)

    def meet(new: np.ndarray) -> None:
        right = quick.right(x[xp.asarray(pool[new])])

        def chunk(part: slice) -> None:
            product = right.product(quick.operand(x[xp.asarray(pool[part])]))
            label = to_host(product.argmax(axis=1))
            found = np.maximum(2.0 - 2.0 * to_host(product.max(axis=1)).astype(np.float64), 0.0)
            closer = found < distance[part]
            distance[part] = np.where(closer, found, distance[part])
            nearest[part] = np.where(closer, len(chosen) + label, nearest[part])

        chunks = row_chunks(xp, size, len(new), x.shape[1], memory_budget=memory_budget)
        for_each(xp, chunk, chunks)

    for _ in range(_ROUNDS + 1):
        meet(rows)
        chosen = np.concatenate([chosen, rows])
        distance[chosen] = 0.0
        total = distance.sum()
        if total <= 0.0 or len(chosen) >= most:
            break
        rows = np.flatnonzero(rng.random(size) * total < each * distance)
        rows = rows[: most - len(chosen)]
        if len(rows) == 0:
            break
    if len(chosen) < n_clusters:  # few distinct rows: any others will do
        others = np.setdiff1d(np.arange(size), chosen)
        chosen = np.concatenate([chosen, rng.permutation(others)[: n_clusters - len(chosen)]])
    return pool[chosen], np.bincount(nearest, minlength=len(chosen)).astype(np.float64)


def _greedy(rows: Any, weight: np.ndarray, n_clusters: int, rng: np.random.Generator) -> list[int]:
    """Greedy k-means++ over weighted candidates; positions in ``rows``."""
    distances = _squared_distances(rows)
    trials = 2 + int(np.log(n_clusters))
    chosen = [int(rng.choice(len(rows), p=weight / weight.sum()))]
    distance = distances[chosen[0]].astype(np.float64)
    for _ in range(1, n_clusters):
        cumulated = np.cumsum(distance * weight)
        if cumulated[-1] <= 0.0:  # fewer distinct rows than clusters
            rest = np.setdiff1d(np.arange(len(rows)), chosen)
            chosen += rng.permutation(rest)[: n_clusters - len(chosen)].tolist()
            break
        draws = np.searchsorted(cumulated, rng.random(trials) * cumulated[-1], side="right")
        tried = np.minimum(draws, len(rows) - 1)
        after = np.minimum(distance, distances[tried])
        best = int((after @ weight).argmin())
        chosen.append(int(tried[best]))
        distance = after[best]
    return chosen


def _squared_distances(rows: Any) -> np.ndarray:
    """Between all rows; (m, m) float32, on the host."""
    xp = array_module(rows)
    out = np.empty((len(rows), len(rows)), dtype=np.float32)
    step = max(1, (1 << 22) // max(1, len(rows)))
    for start in range(0, len(rows), step):
        distance = 2.0 - 2.0 * (rows[start : start + step] @ rows.T)
        out[start : start + step] = to_host(xp.where(distance > _NOTHING, distance, 0.0))
    return out
