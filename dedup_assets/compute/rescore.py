"""The last resort for rows with many near-ties: a float64 product, on host or device."""

from typing import Any

from dedup_assets.compute.arrays import array_module
from dedup_assets.compute.bounds import U64
from dedup_assets.compute.exact import pair_dots


def cosines(x: Any, norms: Any, row: Any, column: Any) -> Any:
    """The meaning of a score: float64, norms included, rounded to float32 once.

    Args:
        x: of shape (n, d), float32.
        norms: of shape (n,), float64, squared lengths from `dedup_assets.compute.exact`.
        row, column: of shape (m,), the pairs.

    Returns:
        (m,) float32.
    """
    xp = array_module(x)
    dots = pair_dots(x, row, x, column)
    dots /= xp.sqrt(norms[row] * norms[column])
    return dots.astype(xp.float32)


def rescore_in_float64(x: Any, norms: Any, rows: Any, columns: int, stop: int) -> tuple[Any, Any]:
    """The best earlier match of some rows.

    The bound of the product is some 1e-13, so the rounding to float32 is known for almost every
    pair, and only pairs that lie that close to a rounding boundary are computed in the fixed order.

    Args:
        x, norms: as in `cosines`.
        rows: of shape (m,), ascending, from 1.
        columns: columns of one product.
        stop: the last of ``rows``, or more.

    Returns:
        (m,) float32 scores and (m,) int64 earliest rows that attain them.
    """
    xp = array_module(x)
    bound = 4 * x.shape[1] * U64
    later = x[rows].astype(xp.float64)
    best = xp.full(len(rows), -xp.inf, dtype=xp.float32)
    where = xp.zeros(len(rows), dtype=xp.int64)
    every = xp.arange(len(rows))
    for left in range(0, stop, columns):
        right = min(left + columns, stop)
        value = later @ x[left:right].astype(xp.float64).T
        value /= xp.sqrt(norms[rows][:, None] * norms[None, left:right])
        value[xp.arange(left, right)[None, :] >= rows[:, None]] = -xp.inf
        rounded = (value - bound).astype(xp.float32)
        highest = (value + bound).astype(xp.float32)
        rival = highest >= xp.maximum(best, rounded.max(axis=1))[:, None]
        unsure_row, unsure_column = xp.nonzero((rounded != highest) & rival)
        rounded[unsure_row, unsure_column] = cosines(
            x, norms, rows[unsure_row], left + unsure_column
        )
        column = rounded.argmax(axis=1)  # the first of equal maxima, hence the earliest
        top = rounded[every, column]
        better = top > best
        best[better] = top[better]
        where[better] = column[better] + left
    return best, where
