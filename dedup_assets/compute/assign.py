"""The nearest centroid of each row, and both distances to it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import DEFAULT_MEMORY_BUDGET, array_module, device_memory
from dedup_assets.compute.bounds import LIMIT_ROUNDING, U64, screen_bound
from dedup_assets.compute.exact import (
    chunk_rows,
    fold,
    narrowed,
    pair_dots,
    squared_norms,
    widened,
)
from dedup_assets.compute.products import for_each, row_chunks, screen_format
from dedup_assets.compute.rescore import contenders, wide_side
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


class Assigner:
    """Assigns rows to some centroids, which are prepared once.

    A quick product screens (`dedup_assets.compute.products`); wherever its bound leaves the choice
    open it is made in float64. Both distances are float64, in a fixed order of summation, stored
    as float32. A row's values depend on that row and the centroids only.

    Args:
        centroids: of shape (k, d), float32, none of them zero, on host or device.
        memory_budget: bytes a call may hold beside the rows, the centroids and its result.

    Raises:
        DeviceError: the GPU has no memory left.
    """

    def __init__(self, centroids: Any, *, memory_budget: int = DEFAULT_MEMORY_BUDGET) -> None:
        self._xp = xp = array_module(centroids)
        threads = thread_count() if xp is np else 1
        self._budget = memory_budget
        self._centroids = centroids
        self._format = screen_format(xp)
        self._side = wide_side(centroids.shape[1], memory_budget // threads)
        with device_memory(xp, f"for {len(centroids)} centroids"):
            self._norms = squared_norms(centroids)
            self._unit = (centroids / xp.sqrt(self._norms)[:, None]).astype(xp.float32)
            self._right = self._format.right(self._unit)

    def assign(self, x: Any) -> Assignment:
        """The nearest centroid of each row of ``x``.

        Args:
            x: of shape (n, d), float32, unit rows, on the device of the centroids.

        Raises:
            DeviceError: the GPU has no memory left.
        """
        xp, n = self._xp, len(x)
        found = Assignment(xp.empty(n, xp.int32), xp.empty(n, xp.float32), xp.empty(n, xp.float32))

        def fill(rows: slice) -> None:
            norms = squared_norms(x[rows])
            label = self._labels(x[rows], norms)
            found.label[rows] = label
            cosine, distance = self._distances(x[rows], norms, label)
            found.cosine_distance[rows] = narrowed(cosine)
            found.l2_distance[rows] = narrowed(distance)

        with device_memory(xp, f"to assign {n} rows to {len(self._centroids)} centroids"):
            chunks = row_chunks(xp, n, *self._centroids.shape, memory_budget=self._budget)
            for_each(xp, fill, chunks)
        return found

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
        row, column = row[keep], column[keep]
        if xp is np and len(row):
            float32_bound = screen_bound(x.shape[1], deviation) + LIMIT_ROUNDING
            keep = contenders(x, row, self._unit, column, float32_bound)
            row, column = row[keep], column[keep]
        if len(row):
            self._decide(x, norms, row, column, label)
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
            wide = widened(x[part])
            centre = widened(self._centroids[label[part]])
            dots = fold(wide * centre)
            cosine[part] = 1.0 - dots / xp.sqrt(norms[part] * self._norms[label[part]])
            wide -= centre
            wide *= wide
            distance[part] = xp.sqrt(fold(wide))
        return cosine, distance


def nearest_centroids(
    x: Any, centroids: Any, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
) -> Assignment:
    """`Assigner.assign` of some rows once."""
    return Assigner(centroids, memory_budget=memory_budget).assign(x)
