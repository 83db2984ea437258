"""For every row, the most similar row that is ranked before it: the product's one primitive.

Screen, bound, rescore. A float32 product of tiles names candidates: every pair that its rounding
bound does not exclude from the row's maximum. Candidates are scored again in float64, in a fixed
order of summation (`dedup_assets.compute.exact`), so the result is a function of the rows alone.
Only tiles on or below the diagonal are computed. Memory is a few tiles, never n x n.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dedup_assets.compute.arrays import DEFAULT_MEMORY_BUDGET, array_module
from dedup_assets.compute.exact import pair_dots, squared_norms

Precision = Literal["exact", "fast"]
PRECISIONS = ("exact", "fast")

_MAX_TILE = 1024
_MIN_TILE = 64
_DENSE = 16  # candidates a row, on average over a block, from which a float64 product is cheaper
_UNIT_TOLERANCE = 1e-3
_U32 = 2.0**-24
_U64 = 2.0**-53


@dataclass(frozen=True)
class BestMatch:
    """The best earlier-ranked match of each row.

    Attributes:
        score: of shape (n,), float32, cosine similarity with the match, -1 to 1; 0 for row 0.
        index: of shape (n,), int64, the earliest row that attains the score; 0 for row 0.
    """

    score: Any
    index: Any


def best_earlier_match(
    x: Any,
    *,
    precision: Precision = "exact",
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    on_rows: Callable[[int], None] | None = None,
) -> BestMatch:
    """Find each row's most similar earlier row.

    Args:
        x: of shape (n, d), float32, unit rows in rank order, on host (NumPy) or device (CuPy).
        precision: ``exact``: `score` is the maximum over all earlier rows of the cosine computed
            in float64 (norms included) and rounded to float32, and `index` the earliest row that
            attains it; the same for every tile size, thread count and device. ``fast``: `score`
            is that cosine for the pair the float32 screen prefers, so never above the maximum.
        memory_budget: bytes the call may hold beside ``x`` and its result; where rows repeat,
            also beside a copy of the distinct ones.
        on_rows: called with how many more rows are done; copies of rows are not reported.

    Returns:
        BestMatch, on the device of ``x``.

    Raises:
        ValueError: ``x`` is not two-dimensional float32, or a row is not of length one.
    """
    xp = array_module(x)
    if x.ndim != 2 or x.dtype != xp.float32:
        raise ValueError(
            f"x must be a float32 array of shape (n, d), got {x.dtype} of shape {x.shape}"
        )
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    n = len(x)
    norms = squared_norms(x)
    deviation = float(xp.abs(norms - 1.0).max()) if n else 0.0
    if not deviation <= _UNIT_TOLERANCE:
        raise ValueError(
            f"rows of x must have length 1, but a squared length is off by {deviation:g}; "
            "normalise them with compute.normalize.unit_rows"
        )
    first = _first_identical(x, norms)
    distinct = xp.flatnonzero(first == xp.arange(n))
    if len(distinct) == n:
        return _Search(x, norms, deviation, precision, memory_budget).run(on_rows)
    search = _Search(x[distinct], norms[distinct], deviation, precision, memory_budget)
    return _spread(first, distinct, search.run(on_rows))


def _first_identical(x: Any, norms: Any) -> Any:
    """For each row, the first row with the same bytes, as far as one pass finds it.

    Rows that are missed are only compared like any other.
    """
    xp = array_module(x)
    rows = xp.arange(len(x))
    if len(x) == 0:
        return rows
    _, start, inverse = xp.unique(norms, return_index=True, return_inverse=True)
    first = start[inverse.reshape(-1)]
    same = xp.flatnonzero(first != rows)
    step = max(1, (1 << 24) // max(1, 4 * x.shape[1]))
    for begin in range(0, len(same), step):
        part = same[begin : begin + step]
        differs = (x[part] != x[first[part]]).any(axis=1)
        first[part[differs]] = part[differs]
    return first


def _spread(first: Any, distinct: Any, found: BestMatch) -> BestMatch:
    """Give each copy of a row what follows from its first appearance.

    A copy scores exactly 1 with its first appearance r. Nothing scores higher, so its match is r,
    unless r itself has an earlier match at 1: then that one is the earliest for the copy too.

    Args:
        first: of shape (n,), the first appearance of each row.
        distinct: of shape (m,), the rows that are their own first appearance, ascending.
        found: the matches of the distinct rows among themselves.
    """
    xp = array_module(first)
    score = xp.ones(len(first), dtype=xp.float32)
    earliest_at_one = xp.arange(len(first))
    at_one = (found.score == 1.0) & (xp.arange(len(distinct)) > 0)
    earliest_at_one[distinct[at_one]] = distinct[found.index[at_one]]
    index = earliest_at_one[first]
    score[distinct] = found.score
    index[distinct] = distinct[found.index]
    return BestMatch(score, index)


class _Search:
    """One search over rows that need no more checks."""

    def __init__(
        self, x: Any, norms: Any, deviation: float, precision: Precision, memory_budget: int
    ) -> None:
        self.xp = array_module(x)
        self.x = x
        self.norms = norms
        self.exact = precision == "exact"
        self.deviation = deviation
        self.tile = _tile_rows(len(x), x.shape[1], memory_budget)
        self.bound = screen_bound(x.shape[1], deviation)

    def run(self, on_rows: Callable[[int], None] | None) -> BestMatch:
        xp, n = self.xp, len(self.x)
        score = xp.zeros(n, dtype=xp.float32)
        index = xp.zeros(n, dtype=xp.int64)
        for begin in range(0, n if n > 1 else 0, self.tile):
            end = min(begin + self.tile, n)
            block_score, block_index = self._block(begin, end)
            score[begin:end] = block_score
            index[begin:end] = block_index
            if on_rows is not None:
                on_rows(end - begin)
        if n:
            score[0] = 0.0
            index[0] = 0
        return BestMatch(score, index)

    def _tiles(self, begin: int, end: int, dtype: Any) -> Any:
        """Products of rows begin:end with the columns before each, -inf at and above the diagonal.

        The rows are the later items, so a reduction over columns runs along memory.
        """
        xp = self.xp
        rows = self.x[begin:end].astype(dtype, copy=False)
        for left in range(0, end, self.tile):
            right = min(left + self.tile, end)
            product = rows @ self.x[left:right].astype(dtype, copy=False).T
            if right > begin:
                later = xp.arange(left, right)[None, :] >= xp.arange(begin, end)[:, None]
                product[later] = -xp.inf
            yield left, product

    def _block(self, begin: int, end: int) -> tuple[Any, Any]:
        xp = self.xp
        best = xp.full(end - begin, -xp.inf, dtype=xp.float32)
        rows: list[Any] = []
        columns: list[Any] = []
        screened: list[Any] = []
        dense = xp.zeros(end - begin, dtype=bool)
        for left, product in self._tiles(begin, end, xp.float32):
            if not self.exact:
                column = product.argmax(axis=1)
                top = product[xp.arange(end - begin), column]
                better = xp.flatnonzero(top > best)
                best[better] = top[better]
                rows.append(better)
                columns.append(column[better] + left)
                screened.append(top[better])
                continue
            top = product.max(axis=1)
            best = xp.maximum(best, top)
            live = xp.flatnonzero((top >= best - 2 * self.bound) & (top > -xp.inf) & ~dense)
            if len(live) == 0:
                continue
            near = product[live] >= (best[live] - 2 * self.bound)[:, None]
            crowded = xp.count_nonzero(near, axis=1) > _DENSE
            dense[live[crowded]] = True
            near[crowded] = False
            row, column = xp.nonzero(near)
            rows.append(live[row])
            columns.append(column + left)
            screened.append(product[live[row], column])
        row, column, value = (xp.concatenate(parts) for parts in (rows, columns, screened))
        keep = (value >= (best - (2 * self.bound if self.exact else 0.0))[row]) & ~dense[row]
        score, index = self._rescore(begin, end, row[keep], column[keep])
        if dense.any():
            self._settle_dense(begin, end, xp.flatnonzero(dense), score, index)
        return score, index

    def _rescore(self, begin: int, end: int, row: Any, column: Any) -> tuple[Any, Any]:
        """Score candidate pairs and reduce them to the best and earliest of each row."""
        xp = self.xp
        score = xp.zeros(end - begin, dtype=xp.float32)
        index = xp.zeros(end - begin, dtype=xp.int64)
        order = xp.lexsort(xp.stack([column, row]))
        row, column = row[order], column[order]
        value = self._cosine(row + begin, column)
        score[row] = value  # any candidate, to have a start for the maximum
        xp.maximum.at(score, row, value)
        attains = xp.flatnonzero(value == score[row])[::-1]
        index[row[attains]] = column[attains]  # the last write is the earliest column
        return score, index

    def _cosine(self, row: Any, column: Any) -> Any:
        """The meaning of a score: float64, norms included, rounded to float32 once."""
        dots = pair_dots(self.x, row, self.x, column)
        dots /= self.xp.sqrt(self.norms[row] * self.norms[column])
        return dots.astype(self.xp.float32)

    def _settle_dense(self, begin: int, end: int, rows: Any, score: Any, index: Any) -> None:
        """Settle rows with many near-ties by a float64 product, in place.

        Its bound is some 1e-13, so the rounding to float32 is known for almost every pair, and
        only pairs that lie that close to a rounding boundary are computed in the fixed order.
        """
        xp = self.xp
        bound = 4 * self.x.shape[1] * _U64
        later = self.x[begin:end][rows].astype(xp.float64)
        best = xp.full(len(rows), -xp.inf, dtype=xp.float32)
        where = xp.zeros(len(rows), dtype=xp.int64)
        for left in range(0, end, self.tile):
            right = min(left + self.tile, end)
            value = later @ self.x[left:right].astype(xp.float64).T
            value /= xp.sqrt(self.norms[begin + rows][:, None] * self.norms[None, left:right])
            value[xp.arange(left, right)[None, :] >= (begin + rows)[:, None]] = -xp.inf
            rounded = (value - bound).astype(xp.float32)
            highest = (value + bound).astype(xp.float32)
            rival = highest >= xp.maximum(best, rounded.max(axis=1))[:, None]
            unsure_row, unsure_column = xp.nonzero((rounded != highest) & rival)
            rounded[unsure_row, unsure_column] = self._cosine(
                begin + rows[unsure_row], left + unsure_column
            )
            column = rounded.argmax(axis=1)  # the first of equal maxima, hence the earliest
            top = rounded[xp.arange(len(rows)), column]
            better = top > best
            best[better] = top[better]
            where[better] = column[better] + left
        score[rows] = best
        index[rows] = where


def screen_bound(dim: int, deviation: float) -> float:
    """How far a float32 dot product of two rows may lie from their rounded cosine.

    The first term is the standard bound of a sum of ``dim`` products in any order, with or
    without fused operations (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), for
    rows whose squared length is 1 within ``deviation``; then the norms left out by the screen,
    and the rounding of the score itself.
    """
    gamma = dim * _U32 / (1 - dim * _U32)
    return gamma * (1 + deviation) + 1.01 * deviation + 2 * _U32


def _tile_rows(n: int, dim: int, memory_budget: int) -> int:
    """Rows of a tile: small against n, since half of each diagonal tile is wasted."""
    wanted = int(np.clip(n // 8, _MIN_TILE, _MAX_TILE)) // _MIN_TILE * _MIN_TILE
    # A tile takes its product, a mask and their float64 versions, and two operands.
    while wanted > 8 and wanted * wanted * 32 + wanted * dim * 24 > memory_budget:
        wanted //= 2
    return wanted
