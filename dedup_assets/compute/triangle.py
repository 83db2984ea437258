"""The search of one set of rows on the CPU: tiles on or below the diagonal, by quicker screens.

A screen names candidates: all pairs that its bound does not exclude from the maximum of their
row. A row with few of them is decided by scoring these in float64; one with many goes on to the
next, finer screen, and in the end to a float64 product.
"""

import numpy as np

from dedup_assets.compute.bfloat16 import quick_width
from dedup_assets.compute.bounds import FAST_TOLERANCE, screen_bound
from dedup_assets.compute.plan import Plan
from dedup_assets.compute.products import Blocks
from dedup_assets.compute.rescore import Rows, best_earlier_in_float64, contenders, cosines

_OVERFLOW = 16  # candidates in 1,024 columns from which a finer product is cheaper
_MOSTLY = 0.25  # share of rows with too many candidates from which later blocks skip a screen
_PRODUCT = 1 << 18  # elements of a product


class Triangle:
    """Best earlier matches of some distinct unit rows.

    Args:
        x: of shape (n, d), float32, host.
        norms: of shape (n,), float64, squared lengths of the rows.
        deviation: the most that one of them differs from 1.
        screens: from quick to fine, at least one.
        exact: whether the maximum itself is asked for, or one up to `FAST_TOLERANCE` below it.
        columns: columns that one step of a block takes.
    """

    def __init__(
        self,
        x: np.ndarray,
        norms: np.ndarray,
        deviation: float,
        screens: list[Blocks],
        exact: bool,
        columns: int,
    ) -> None:
        self._x = x
        self._rows = Rows(x, norms)
        self._screens = screens
        self._float32_bound = screen_bound(x.shape[1], deviation)
        self._tolerance = 0.0 if exact else FAST_TOLERANCE
        self._columns = columns
        self._first = 0

    def block(self, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores, float32, and indices, int64, of rows begin:end; 0 and 0 for row 0."""
        score = np.zeros(end - begin, dtype=np.float32)
        index = np.zeros(end - begin, dtype=np.int64)
        open_ = np.arange(max(begin, 1), end)
        for number in range(self._first, len(self._screens)):
            if len(open_) == 0:
                break
            row, column, overflow = self._candidates(self._screens[number], open_)
            if overflow.mean() > _MOSTLY and number == self._first < len(self._screens) - 1:
                self._first += 1
            keep = ~overflow[row]
            rescored = open_[~overflow] - begin
            best = self._best_of(open_[row[keep]], column[keep], begin, end - begin)
            score[rescored] = best[0][rescored]
            index[rescored] = best[1][rescored]
            open_ = open_[overflow]
        if len(open_):
            rescored = best_earlier_in_float64(self._rows, open_, int(open_[-1]), self._columns)
            score[open_ - begin], index[open_ - begin] = rescored
        return score, index

    def _candidates(
        self, screen: Blocks, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs that may be the best of their row, and which rows have too many to list.

        Args:
            rows: of shape (m,), ascending, from 1.

        Returns:
            (k,) positions in ``rows`` and (k,) earlier rows; and (m,) whether a row has too
            many, not all of which are listed.
        """
        first, last = int(rows[0]), int(rows[-1])
        together = last - first + 1 == len(rows)
        chosen = slice(first, last + 1) if together else rows
        operand = screen.operand(chosen)
        margin = 2 * screen.bound[chosen]
        if self._tolerance:
            margin = np.maximum(margin - np.float32(self._tolerance), 0)
        best = np.full(len(rows), -np.inf, dtype=np.float32)
        overflow = np.zeros(len(rows), dtype=bool)
        scratch = np.empty(len(rows) * self._columns, dtype=np.float32)
        found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for left in range(0, last, self._columns):
            right = min(left + self._columns, last)
            product = screen.product(operand, left, right, scratch)
            blocks, _, width = product.shape
            if left + blocks * width > first:
                column = np.arange(left, left + blocks * width).reshape(blocks, 1, width)
                np.copyto(product, -np.inf, where=column >= rows[:, None])
            top = product.max(axis=2).max(axis=0)
            np.maximum(best, top, out=best)
            threshold = best - margin
            threshold[overflow] = np.inf
            flat = np.flatnonzero(product >= threshold[:, None])
            row = flat // width if blocks == 1 else flat // width % len(rows)
            many = np.bincount(row, minlength=len(rows)) > _OVERFLOW
            if many.any():
                overflow |= many
                keep = ~many[row]
                flat, row = flat[keep], row[keep]
            value = product.reshape(-1)[flat]
            column = flat % width + left
            if blocks > 1:
                column += flat // (width * len(rows)) * width
            found.append((row, column, value))
        row, column, value = (np.concatenate(parts) for parts in zip(*found, strict=True))
        keep = value >= (best - margin)[row]
        return row[keep], column[keep], overflow

    def _best_of(
        self, row: np.ndarray, column: np.ndarray, begin: int, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reduce candidate pairs to the score and index of rows begin:begin + count."""
        score = np.full(count, -np.inf, dtype=np.float32)
        index = np.zeros(count, dtype=np.int64)
        if len(row) > count:
            bound, x = self._float32_bound, self._x
            keep = contenders(x, row, x, column, bound, below=self._tolerance)
            row, column = row[keep], column[keep]
        value = cosines(self._rows, row, self._rows, column)
        row = row - begin
        np.maximum.at(score, row, value)
        attains = np.flatnonzero(value == score[row])
        index[:] = len(self._x)
        np.minimum.at(index, row[attains], column[attains])
        return score, index


def block_sizes(n: int, dim: int, threads: int, plan: Plan) -> tuple[int, int]:
    """Rows of a block, which is the width of a block of columns too, and columns of a step.

    Small against n, since half of each block on the diagonal is wasted, and so that a product
    stays in the cache; large against the cost of a call; and of a width at which bfloat16 has its
    full rate.
    """
    rows = int(np.clip(n // 8, min(256, n), 512) + 63) // 64 * 64
    rows = 2 * rows - quick_width(rows)
    columns = max(rows, _PRODUCT // max(rows, 1))
    if plan.largest_tile is not None:
        rows, columns = min(rows, plan.largest_tile), min(columns, plan.largest_tile)

    def held(rows: int, columns: int) -> int:
        # A product, its mask and, where it must, their float64 versions, and the operands.
        return threads * (rows * columns * 32 + (rows + columns) * dim * 12)

    while held(rows, columns) > plan.memory_budget // 2 and rows > 8:
        if columns > rows:
            columns = max(rows, columns // 2)
        else:
            rows = columns = rows // 2
    return rows, columns // rows * rows
