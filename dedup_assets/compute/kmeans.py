"""Spherical k-means: Lloyd's iterations on unit rows, centroids scaled back to length one.

Dhillon and Modha, Concept decompositions for large sparse text data using clustering, 2001. Rows
meet centroids in the quickest product the device has: a fit needs no more, since every row is
assigned exactly afterwards (`dedup_assets.compute.assign`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import DEFAULT_MEMORY_BUDGET, array_module, device_memory
from dedup_assets.compute.exact import pair_squared_distances
from dedup_assets.compute.labels import Labels
from dedup_assets.compute.products import Format, fit_format, for_each, row_chunks
from dedup_assets.compute.seeding import seed_centroids

_NARROW_SPREAD = 0.05  # mean squared distance from the mean below which bfloat16 is too coarse
_NARROW_SPREAD_ON_DEVICE = _NARROW_SPREAD / 8  # float16 has three bits more
_UPDATE_ROWS = 2048
FIT_ADVICE = "lower fit_data_fraction, or use device=cpu"
_THREADS = 128


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
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
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
        memory_budget: bytes for products; a copy of ``x`` in a shorter format comes on top.
        on_iteration: called with the number of iterations done.

    Raises:
        ValueError: more clusters than rows, or fewer than one.
        DeviceError: the GPU has no memory left.
    """
    n, dim = x.shape
    if not 1 <= n_clusters <= n:
        raise ValueError(f"n_clusters={n_clusters} should be between 1 and n_samples={n}.")
    xp = array_module(x)
    with device_memory(xp, f"to fit {n_clusters} centroids on {n} rows", FIT_ADVICE):
        x = xp.ascontiguousarray(x)
        mean = x.mean(axis=0, dtype=xp.float64)
        spread = max(0.0, 1.0 - float(mean @ mean))
        narrow = spread > (_NARROW_SPREAD if xp is np else _NARROW_SPREAD_ON_DEVICE)
        quick = fit_format(xp, narrow=narrow)
        centroids = seed_centroids(x, n_clusters, quick, np.random.default_rng(seed), memory_budget)
        rows = Labels(x, centroids, quick, memory_budget)
        means = _Means(x, centroids, rows.label)
        done = 0
        for done in range(1, max_iter + 1):
            moved = means.directions()
            shift = float(((moved - means.centroids) ** 2).sum())
            before = rows.label.copy()
            rows.move(moved)
            means.move(before, rows.label, moved)
            if on_iteration is not None:
                on_iteration(done)
            if shift <= tol * spread / dim:
                break
        inertia = _inertia(x, means.centroids, rows.label, memory_budget)
        return KMeansFit(means.centroids, inertia, done)


def inertia_of(x: Any, centroids: Any, quick: Format, memory_budget: int) -> float:
    """Sum over unit rows of the squared distance to the nearest of some unit centroids."""
    return _inertia(x, centroids, Labels(x, centroids, quick, memory_budget).label, memory_budget)


def _inertia(x: Any, centroids: Any, label: Any, memory_budget: int) -> float:
    """Sum of the squared distances of rows to their centroids."""
    xp = array_module(x)
    sums: list[float] = []

    def add(chunk: slice) -> None:
        sums.append(float(pair_squared_distances(x[chunk], centroids, label[chunk]).sum()))

    chunks = row_chunks(xp, len(x), len(centroids), x.shape[1], memory_budget=memory_budget)
    for_each(xp, add, chunks)
    return math.fsum(sums)


class _Means:
    """Sums of the rows of each cluster, brought up to date by the rows that change clusters."""

    def __init__(self, x: Any, centroids: Any, label: Any) -> None:
        xp = array_module(x)
        self._x = x
        self.centroids = centroids
        self._sums = xp.zeros(centroids.shape, dtype=xp.float64)
        self._add(xp.arange(len(x)), label, 1)

    def directions(self) -> Any:
        """Mean direction of each cluster; one without rows keeps its centroid."""
        xp = array_module(self._x)
        length = xp.sqrt((self._sums * self._sums).sum(axis=1))
        # The sum of a cluster that lost all its rows is rounding errors.
        empty = length < 1e-9
        length[empty] = 1.0
        moved = (self._sums / length[:, None]).astype(xp.float32)
        moved[empty] = self.centroids[empty]
        return moved

    def move(self, before: Any, after: Any, centroids: Any) -> None:
        """Rows went from clusters ``before`` to ``after``, met with ``centroids``."""
        xp = array_module(self._x)
        changed = xp.flatnonzero(before != after)
        self._add(changed, before[changed], -1)
        self._add(changed, after[changed], 1)
        self.centroids = centroids

    def _add(self, rows: Any, label: Any, sign: int) -> None:
        xp = array_module(self._x)
        order = xp.argsort(label, kind="stable")
        rows, label = rows[order], label[order]
        if xp is not np and len(rows):
            self._add_on_device(rows, label, sign)
            return
        for start in range(0, len(rows), _UPDATE_ROWS):
            part = slice(start, start + _UPDATE_ROWS)
            present, first = np.unique(label[part], return_index=True)
            wide = self._x[rows[part]].astype(np.float64)
            self._sums[present] += sign * np.add.reduceat(wide, first, axis=0)

    def _add_on_device(self, rows: Any, label: Any, sign: int) -> None:
        """By a kernel: CuPy's ``reduceat`` is a dozen passes over the rows."""
        from dedup_assets.compute.cuda import CudaBackend

        backend = CudaBackend()
        clusters, dim = self._sums.shape
        begin = backend.xp.searchsorted(label, backend.xp.arange(clusters + 1))
        grid = (clusters, -(-dim // _THREADS))
        backend.launch(
            "add_rows", grid, _THREADS, 0,
            self._x, np.int32(dim), rows, begin, np.int32(sign), self._sums,
        )  # fmt: skip
