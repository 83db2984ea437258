"""The best row of each line of a tile of quick products, where it reaches what is known so far.

A tile is looked at element by element only where its maximum can reach the best score so far. So
a pass over many tiles is a product of matrices and little else.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import array_module
from dedup_assets.compute.bounds import U64
from dedup_assets.compute.exact import pair_dots

_OVERFLOW = 16  # candidates of a line in a tile, from which a float64 product is cheaper
_BYTES_PER_WIDE_CELL = 32


@dataclass(frozen=True)
class Rows:
    """One side of the tiles.

    Attributes:
        x: of shape (n, d), float32, unit rows.
        norms: of shape (n,), float64, their squared lengths.
        rank: of shape (n,), integers: of rows with equal scores the lowest rank wins; row numbers
            where it is not given.
    """

    x: Any
    norms: Any
    rank: Any = None

    def rank_of(self, row: Any) -> Any:
        return row if self.rank is None else self.rank[row]


@dataclass(frozen=True)
class TileBest:
    """What a tile holds that reaches the best so far, on the device.

    Attributes:
        line: of shape (k,), int64, row numbers on the left side, each at most once.
        column: of shape (k,), int64, row numbers on the right side.
        score: of shape (k,), float32, cosine similarity.
    """

    line: Any
    column: Any
    score: Any


@dataclass(frozen=True)
class TileSearch:
    """Looks for the best row of the right side for rows of the left side.

    Attributes:
        left, right: the two sides; they may be the same.
        reach: the most that an element of a tile may be off the rounded cosine, and 2**-22 for
            the rounding of a limit.
        budget: bytes for a float64 product.
    """

    left: Rows
    right: Rows
    reach: float
    budget: int

    def best(self, product: Any, lines: Any, columns: Any, floor: Any) -> TileBest:
        """The best column of each line that reaches ``floor``, which is raised to it.

        Args:
            product: of shape (b, w), float32; -inf where a pair does not count.
            lines: of shape (b,), row numbers on the left side.
            columns: of shape (w,), row numbers on the right side.
            floor: of shape (b,), float32, the best scores so far; inf for a line to leave out.
        """
        xp = array_module(product)
        top = product.max(axis=1)
        live = xp.flatnonzero((top >= floor - self.reach) & (top > -xp.inf))
        limit = xp.maximum(top[live] - 2 * self.reach, floor[live] - self.reach)
        near = product[live] >= limit[:, None]
        overflow = xp.count_nonzero(near, axis=1) > _OVERFLOW
        at, place = xp.nonzero(near & ~overflow[:, None])
        at, column = live[at], columns[place]
        score = self._cosine(lines[at], column)
        if overflow.any():
            busy = live[overflow]
            best, where = self._rescore_overflow(lines[busy], columns, near[overflow])
            at, column = xp.concatenate([at, busy]), xp.concatenate([column, where])
            score = xp.concatenate([score, best])
        # The last key counts first: by line, then the highest score, then the lowest rank.
        order = xp.lexsort(xp.stack([self.right.rank_of(column), -score, at]))
        at, column, score = at[order], column[order], score[order]
        chosen = xp.ones(len(at), dtype=bool)
        chosen[1:] = at[1:] != at[:-1]
        chosen &= score >= floor[at]
        at, column, score = at[chosen], column[chosen], score[chosen]
        floor[at] = score
        return TileBest(lines[at], column, score)

    def _cosine(self, line: Any, column: Any) -> Any:
        """The meaning of a score: float64, norms included, rounded to float32 once."""
        left, right = self.left, self.right
        dots = pair_dots(left.x, line, right.x, column)
        dots /= array_module(dots).sqrt(left.norms[line] * right.norms[column])
        return dots.astype(np.float32)

    def _rescore_overflow(self, line: Any, columns: Any, near: Any) -> tuple[Any, Any]:
        """The best of many candidates by a float64 product, so never a sum for each of them.

        Its bound is some 1e-13, so the rounding to float32 is known for almost every pair, and
        only pairs that lie that close to a rounding boundary are computed in the fixed order.

        Args:
            line: of shape (k,), row numbers on the left side.
            columns: of shape (w,), row numbers on the right side.
            near: of shape (k, w), bool, which of these are candidates.
        """
        xp = array_module(near)
        left, right = self.left, self.right
        dim = right.x.shape[1]
        bound = 4 * dim * U64
        score = xp.full(len(line), -xp.inf, dtype=xp.float32)
        where = xp.zeros(len(line), dtype=xp.int64)
        places = xp.flatnonzero(near.any(axis=0))
        # By rank, so that the first of equal maxima is the one that wins.
        places = places[xp.argsort(right.rank_of(columns[places]))]
        side = wide_side(dim, self.budget)
        for top in range(0, len(line), side):
            rows = line[top : top + side]
            wide = left.x[rows].astype(xp.float64)
            best_here = score[top : top + side]
            for start in range(0, len(places), side):
                part = places[start : start + side]
                column = columns[part]
                value = wide @ right.x[column].astype(xp.float64).T
                value /= xp.sqrt(left.norms[rows][:, None] * right.norms[column])
                value[~near[top : top + side][:, part]] = -xp.inf
                rounded = (value - bound).astype(xp.float32)
                highest = (value + bound).astype(xp.float32)
                rival = highest >= xp.maximum(best_here, rounded.max(axis=1))[:, None]
                unsure, place = xp.nonzero((rounded != highest) & rival)
                rounded[unsure, place] = self._cosine(rows[unsure], column[place])
                best = rounded.argmax(axis=1)
                value_there = rounded[xp.arange(len(best)), best]
                better = xp.flatnonzero(value_there > best_here)
                best_here[better] = value_there[better]
                where[top + better] = column[best[better]]
        return score, where


def wide_side(dim: int, memory_budget: int) -> int:
    """Side of a float64 tile: the largest power of two that fits, at most 1024."""
    side = 1024
    while side > 8 and side * side * _BYTES_PER_WIDE_CELL + side * dim * 24 > memory_budget:
        side //= 2
    return side
