"""The nearest centroid of each row, and both distances to it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import DEFAULT_MEMORY_BUDGET, array_module
from dedup_assets.compute.bounds import LIMIT_ROUNDING, U64
from dedup_assets.compute.exact import chunk_rows, fold, pair_dots, squared_norms
from dedup_assets.compute.products import Format, for_each, quick_format, row_chunks
from dedup_assets.compute.rescore import wide_side
from dedup_assets.compute.threads import thread_count

_OVERFLOW = 16  # centroids near the nearest from which a float64 product is cheaper


@dataclass(frozen=True)
class Assignment:
    """Where rows belong.

    Attributes:
        label: of shape (n,), int32, the nearest centroid by cosine, lowest index on a tie.
        cosine_distance: of shape (n,), float32, 1 - cosine with that centroid.
        l2_distance: of shape (n,), float32, Euclidean distance to that centroid.
    """

    label: Any
    cosine_distance: Any
    l2_distance: Any


def nearest_centroids(
    x: Any, centroids: Any, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Assignment:
    """Assign rows to centroids.

    A quick product screens (`dedup_assets.compute.products`); wherever its bound leaves the choice
    open it is made in float64. Both distances are float64, in a fixed order of summation, stored
    as float32. A row's values depend on that row and the centroids only.

    Args:
        x: of shape (n, d), float32, unit rows, on host or device.
        centroids: of shape (k, d), float32, none of them zero, on the device of ``x``.
        memory_budget: bytes the call may hold beside its arguments and result.
    """
    xp = array_module(x)
    threads = thread_count() if xp is np else 1
    search = _Nearest(x, centroids, quick_format(xp), memory_budget // threads)
    chunks = row_chunks(xp, len(x), *centroids.shape, memory_budget=memory_budget)
    for_each(xp, search.chunk, chunks)
    return search.found


class _Nearest:
    def __init__(self, x: Any, centroids: Any, quick: Format, budget: int) -> None:
        xp = array_module(x)
        self._x, self._centroids, self._format = x, centroids, quick
        self._side = wide_side(x.shape[1], budget)
        self._norms = squared_norms(centroids)
        self._right = quick.right((centroids / xp.sqrt(self._norms)[:, None]).astype(xp.float32))
        n = len(x)
        self.found = Assignment(
            xp.empty(n, xp.int32), xp.empty(n, xp.float32), xp.empty(n, xp.float32)
        )

    def chunk(self, rows: slice) -> None:
        """Fill in the result of some rows."""
        x = self._x[rows]
        norms = squared_norms(x)
        label = self._labels(x, norms)
        self.found.label[rows] = label
        cosine, square = self._distances(x, norms, label)
        self.found.cosine_distance[rows] = cosine
        self.found.l2_distance[rows] = square

    def _labels(self, x: Any, norms: Any) -> Any:
        xp = array_module(x)
        product = self._right.product(self._format.operand(x))
        # Centroids scaled to length one are off by a rounding, as unit rows are.
        deviation = max(float(abs(norms - 1.0).max()), 2.0**-23)
        bound = self._right.bound(x, deviation) + LIMIT_ROUNDING
        label = product.argmax(axis=1)
        best = product[xp.arange(len(x)), label]
        near = product >= (best - 2 * bound).astype(xp.float32)[:, None]
        flat = xp.flatnonzero(near)  # quicker than nonzero
        row, column = flat // near.shape[1], flat % near.shape[1]
        count = xp.bincount(row, minlength=len(x))
        overflow = xp.flatnonzero(count > _OVERFLOW)
        if len(overflow):
            keep = count[row] <= _OVERFLOW
            pairs = self._near_in_float64(x[overflow])
            row = xp.concatenate([row[keep], overflow[pairs[0]]])
            column = xp.concatenate([column[keep], pairs[1]])
            count[overflow] = 2
        keep = count[row] > 1
        if keep.any():
            self._decide(x, norms, row[keep], column[keep], label)
        return label

    def _near_in_float64(self, x: Any) -> tuple[Any, Any]:
        """Pairs of rows and centroids that a float64 product cannot tell from the nearest."""
        xp = array_module(x)
        margin = 16 * x.shape[1] * U64
        rows, columns = [], []
        for top in range(0, len(x), self._side):
            wide = x[top : top + self._side].astype(xp.float64)
            best = xp.full(len(wide), -xp.inf)
            found = []
            for left in range(0, len(self._centroids), self._side):
                part = slice(left, left + self._side)
                unit = self._centroids[part] / xp.sqrt(self._norms[part])[:, None]
                cosine = wide @ unit.T
                best = xp.maximum(best, cosine.max(axis=1))
                row, column = xp.nonzero(cosine >= best[:, None] - margin)
                found.append((row, column + left, cosine[row, column]))
            row, column, value = (xp.concatenate(parts) for parts in zip(*found, strict=True))
            keep = value >= best[row] - margin
            rows.append(row[keep] + top)
            columns.append(column[keep])
        return xp.concatenate(rows), xp.concatenate(columns)

    def _decide(self, x: Any, norms: Any, row: Any, column: Any, label: Any) -> None:
        """The highest cosine in the fixed order, then the lowest centroid, into ``label``."""
        xp = array_module(x)
        cosine = pair_dots(x, row, self._centroids, column)
        cosine /= xp.sqrt(norms[row] * self._norms[column])
        order = xp.lexsort(xp.stack([column, -cosine, row]))
        row, column = row[order], column[order]
        first = xp.ones(len(row), dtype=bool)
        first[1:] = row[1:] != row[:-1]
        label[row[first]] = column[first]

    def _distances(self, x: Any, norms: Any, label: Any) -> tuple[Any, Any]:
        """1 - cosine and Euclidean distance, both float64."""
        xp = array_module(x)
        cosine = xp.empty(len(x), dtype=xp.float64)
        distance = xp.empty(len(x), dtype=xp.float64)
        step = chunk_rows(xp, x.shape[1])
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            wide = x[part].astype(xp.float64)
            centre = self._centroids[label[part]].astype(xp.float64)
            dots = fold(wide * centre)
            cosine[part] = 1.0 - dots / xp.sqrt(norms[part] * self._norms[label[part]])
            wide -= centre
            wide *= wide
            distance[part] = xp.sqrt(fold(wide))
        return cosine, distance
