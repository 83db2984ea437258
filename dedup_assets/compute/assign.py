"""The nearest centroid of each row, and both distances to it."""

from dataclasses import dataclass
from typing import Any

from dedup_assets.compute.arrays import DEFAULT_MEMORY_BUDGET, array_module
from dedup_assets.compute.exact import pair_dots, pair_squared_distances, squared_norms
from dedup_assets.compute.pairwise import screen_bound


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

    A float32 product screens; wherever its bound leaves the choice open it is made in float64.
    Both distances are float64, in a fixed order of summation, stored as float32. A row's values
    depend on that row and the centroids only.

    Args:
        x: of shape (n, d), float32, unit rows, on host or device.
        centroids: of shape (k, d), float32, none of them zero, on the device of ``x``.
        memory_budget: bytes the call may hold beside its arguments and result.
    """
    xp = array_module(x)
    n, dim = x.shape
    norms = squared_norms(centroids)
    unit_centroids = (centroids / xp.sqrt(norms)[:, None]).astype(xp.float32)
    x_norms = squared_norms(x)
    deviation = float(xp.abs(x_norms - 1.0).max()) if n else 0.0
    # Rounding the centroids to float32 again moves a product by at most one unit more.
    bound = screen_bound(dim, deviation) + 2.0**-23
    label = xp.empty(n, dtype=xp.int32)
    step = max(1, min(4096, memory_budget // (8 * len(centroids))))
    for start in range(0, n, step):
        product = x[start : start + step] @ unit_centroids.T
        best = product.max(axis=1)
        label[start : start + step] = product.argmax(axis=1)
        near = product >= (best - 2 * bound)[:, None]
        open_rows = xp.flatnonzero(xp.count_nonzero(near, axis=1) > 1)
        if len(open_rows):
            row, column = xp.nonzero(near[open_rows])
            row = open_rows[row] + start
            cosine = pair_dots(x, row, centroids, column)
            cosine /= xp.sqrt(x_norms[row] * norms[column])
            order = xp.lexsort(xp.stack([-column, cosine, row]))
            label[row[order]] = column[order]  # the last write of a row: highest, then lowest index
    cosine = pair_dots(x, xp.arange(n), centroids, label) / xp.sqrt(x_norms * norms[label])
    return Assignment(
        label,
        (1.0 - cosine).astype(xp.float32),
        xp.sqrt(pair_squared_distances(x, centroids, label)).astype(xp.float32),
    )
