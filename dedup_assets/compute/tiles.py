"""The best row of each line of a tile of quick products, where it reaches what is known so far.

A tile is looked at element by element only where its maximum can reach the best score so far. So
a pass over many tiles is a product of matrices and little else.
"""

from dataclasses import dataclass
from typing import Any

from dedup_assets.compute.arrays import array_module
from dedup_assets.compute.rescore import Rows, best_in_float64, cosines, wide_side

_OVERFLOW = 16  # candidates of a line in a tile, from which a float64 product is cheaper


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
        score = cosines(self.left, lines[at], self.right, column)
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

    def _rescore_overflow(self, line: Any, columns: Any, near: Any) -> tuple[Any, Any]:
        """The best of many candidates.

        Args:
            line: of shape (k,), row numbers on the left side.
            columns: of shape (w,), row numbers on the right side.
            near: of shape (k, w), bool, which of these are candidates.
        """
        xp = array_module(near)
        places = xp.flatnonzero(near.any(axis=0))
        # By rank, so that the first of equal maxima is the one that wins.
        places = places[xp.argsort(self.right.rank_of(columns[places]))]
        near = near[:, places]
        side = wide_side(self.right.x.shape[1], self.budget)

        def excluded(here: slice, there: slice) -> Any:
            return ~near[here, there]

        return best_in_float64(self.left, line, self.right, columns[places], excluded, (side, side))
