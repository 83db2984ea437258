"""The meaning of a score, and the last resort for rows with many near-ties: a float64 product."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import array_module
from dedup_assets.compute.bounds import U64
from dedup_assets.compute.exact import narrowed, pair_dots, widened

_PAIRS = 512  # whose rows are gathered at once: they stay in the cache
_BYTES_PER_CELL = 32  # of a float64 tile, with its two roundings and a mask


@dataclass(frozen=True)
class Rows:
    """Rows to score, on host or device.

    Attributes:
        x: of shape (n, d), float32, unit rows.
        norms: of shape (n,), float64, their squared lengths, from `dedup_assets.compute.exact`.
        rank: of shape (n,), integers: of rows with equal scores the lowest rank wins; row numbers
            where it is not given.
    """

    x: Any
    norms: Any
    rank: Any = None

    def rank_of(self, row: Any) -> Any:
        return row if self.rank is None else self.rank[row]


def cosines(left: Rows, line: Any, right: Rows, column: Any) -> Any:
    """The meaning of a score: float64, norms included, rounded to float32 once.

    The kernel ``rescore`` does the same on a GPU, to the last bit.

    Args:
        line, column: of shape (m,), row numbers on the left and on the right side: the pairs.

    Returns:
        (m,) float32.
    """
    dots = pair_dots(left.x, line, right.x, column)
    dots /= array_module(dots).sqrt(left.norms[line] * right.norms[column])
    return narrowed(dots)


def contenders(
    left: Any, line: Any, right: Any, column: Any, bound: float, *, below: float = 0.0
) -> Any:
    """Which of some pairs a float32 product leaves in the choice for the best of their line.

    It costs a sixth of a sum in the fixed order, which is then needed for few pairs.

    Args:
        left, right: of shape (n, d) and (k, d), float32, host, unit rows.
        line, column: of shape (m,), row numbers on the left and on the right side: the pairs.
        bound: the most that a product of two of them, summed in any order, is off what decides.
        below: how far below the best a pair may be and need not be found.

    Returns:
        (m,) bool.
    """
    product = np.empty(len(line), dtype=np.float32)
    for start in range(0, len(line), _PAIRS):
        part = slice(start, start + _PAIRS)
        np.einsum("ij,ij->i", left[line[part]], right[column[part]], out=product[part])
    best = np.full(int(line.max(initial=-1)) + 1, -np.inf, dtype=np.float32)
    np.maximum.at(best, line, product)
    return product >= best[line] - np.float32(max(2 * bound - below, 0.0))


def best_in_float64(
    left: Rows,
    lines: Any,
    right: Rows,
    columns: Any,
    excluded: Callable[[slice, slice], Any],
    tile: tuple[int, int],
) -> tuple[Any, Any]:
    """The best column of each line by products in float64, so never a sum for each candidate.

    The bound of such a product is some 1e-13, so the rounding to float32 is known for almost every
    pair, and only pairs that lie that close to a rounding boundary are computed in the fixed order.

    Args:
        lines: of shape (k,), row numbers on the left side.
        columns: of shape (w,), row numbers on the right side; of equal scores the first one wins.
        excluded: which pairs do not count, for a range of ``lines`` and one of ``columns``; bool.
        tile: lines and columns of one product.

    Returns:
        (k,) float32 scores and (k,) int64 row numbers; -inf and 0 where no column counts.
    """
    xp = array_module(left.x)
    bound = 4 * left.x.shape[1] * U64
    score = xp.full(len(lines), -xp.inf, dtype=xp.float32)
    where = xp.zeros(len(lines), dtype=xp.int64)
    for top in range(0, len(lines), tile[0]):
        here = slice(top, min(top + tile[0], len(lines)))
        line = lines[here]
        wide = widened(left.x[line])
        best, place = score[here], where[here]
        for start in range(0, len(columns), tile[1]):
            there = slice(start, min(start + tile[1], len(columns)))
            column = columns[there]
            value = wide @ widened(right.x[column]).T
            value /= xp.sqrt(left.norms[line][:, None] * right.norms[column])
            value[excluded(here, there)] = -xp.inf
            low = (value - bound).astype(xp.float32)
            high = (value + bound).astype(xp.float32)
            rival = high >= xp.maximum(best, low.max(axis=1))[:, None]
            i, j = xp.nonzero((low != high) & rival)
            low[i, j] = cosines(left, line[i], right, column[j])
            first = low.argmax(axis=1)  # of equal maxima
            found = low[xp.arange(len(line)), first]
            better = xp.flatnonzero(found > best)
            best[better] = found[better]
            place[better] = column[first[better]]
    return score, where


def best_earlier_in_float64(rows: Rows, lines: Any, stop: int, columns: int) -> tuple[Any, Any]:
    """The best earlier match of some rows, the earliest of equal ones.

    Args:
        lines: of shape (m,), ascending, from 1.
        stop: the last of ``lines``, or more.
        columns: columns of one product.

    Returns:
        (m,) float32 scores and (m,) int64 row numbers.
    """
    earlier = array_module(rows.x).arange(stop)

    def excluded(here: slice, there: slice) -> Any:
        return earlier[None, there] >= lines[here, None]

    return best_in_float64(rows, lines, rows, earlier, excluded, (len(lines), columns))


def wide_side(dim: int, memory_budget: int) -> int:
    """Side of a float64 tile: the largest power of two that fits, at most 1024."""
    side = 1024
    while side > 8 and side * side * _BYTES_PER_CELL + side * dim * 24 > memory_budget:
        side //= 2
    return side
