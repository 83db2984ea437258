"""For some rows, the most similar row of their own cluster and of all other clusters.

Screen, bound, rescore, as in `dedup_assets.compute.pairwise`, but against rows that come batch by
batch: what is kept is the best score so far, and a tile is looked at element by element only where
its maximum can reach that. So the pass is a product of matrices and little else. Every score is
the float64 cosine of a pair, summed in a fixed order and rounded once to float32; what is found
depends on neither the batches, their order, the tiles nor the number of threads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import DEFAULT_MEMORY_BUDGET, array_module, to_host
from dedup_assets.compute.exact import pair_dots, squared_norms
from dedup_assets.compute.nearest import products
from dedup_assets.compute.pairwise import check_unit_length
from dedup_assets.compute.threads import in_threads, thread_count

_CROWDED = 16  # candidates of a query in a tile, from which a float64 product is cheaper
_MOST_QUERIES = 512  # in a tile
_BYTES_PER_CELL = 12  # of a tile: the product, a copy of the part looked at, a mask
_BYTES_PER_WIDE_CELL = 32
_U64 = 2.0**-53


@dataclass(frozen=True)
class Found:
    """Rows of a batch that are at least as similar to a query as every row before the batch.

    Attributes:
        query: of shape (k,), int64, host; each query at most once.
        row: of shape (k,), int64, host, row number in the batch.
        score: of shape (k,), float32, host, cosine similarity.
    """

    query: np.ndarray
    row: np.ndarray
    score: np.ndarray


class BestPartners:
    """Searches batches of rows for the best partner of each query, within and across clusters.

    Args:
        queries: of shape (q, d), float32, unit rows, on host (NumPy) or device (CuPy).
        clusters: of shape (q,), integers, host, ascending: the cluster of each query.
        memory_budget: bytes that a call may hold beside ``queries`` and the batch.

    Raises:
        ValueError: a query is not of length one.
    """

    def __init__(
        self,
        queries: Any,
        clusters: np.ndarray,
        *,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
    ) -> None:
        self._xp = array_module(queries)
        self._queries = queries
        self._clusters = clusters
        self._budget = memory_budget
        self._norms = squared_norms(queries)
        self._deviation = check_unit_length(self._norms)
        self._products = products(self._xp)
        self._operands: dict[int, Any] = {}
        self._coarsest = self._row_of_largest_bound()
        self._within = self._xp.full(len(queries), -np.inf, dtype=np.float32)
        self._across = self._xp.full(len(queries), -np.inf, dtype=np.float32)

    def add(
        self, rows: Any, clusters: np.ndarray, rank: np.ndarray, own: tuple[np.ndarray, np.ndarray]
    ) -> tuple[Found, Found]:
        """Compare a batch with all queries.

        Args:
            rows: of shape (m, d), float32, unit rows, on the device of the queries.
            clusters: of shape (m,), integers, host, equal ones side by side.
            rank: of shape (m,), integers, host: of rows with equal scores the lowest rank wins.
            own: queries that are rows of this batch, and which: two host arrays of shape (k,).

        Returns:
            What was found within the clusters of the queries, and across them. For each query the
            row that scores highest, if that reaches the score of every batch before.

        Raises:
            ValueError: a row is not of length one.
        """
        xp = self._xp
        norms = squared_norms(rows)
        deviation = max(self._deviation, check_unit_length(norms))
        kept = _without_third_copies(rows, norms, clusters, rank)
        if len(kept) < len(rows):
            place = np.searchsorted(kept, own[1])
            there = kept[np.minimum(place, len(kept) - 1)] == own[1]
            own = own[0][there], place[there]
            batch = xp.asarray(kept)
            rows, norms, clusters, rank = rows[batch], norms[batch], clusters[kept], rank[kept]
        found: tuple[list[_Best], list[_Best]] = ([], [])
        if len(rows) == 0 or len(self._queries) == 0:
            return _collect(found[0], kept), _collect(found[1], kept)
        self._products.aim(rows)
        # The last term is the rounding of a limit that the bound is taken from.
        reach = float(self._products.bound(self._coarsest, deviation).max()) + 2.0**-22
        comparison = _Comparison(
            self._queries, self._norms, rows, norms, xp.asarray(rank), reach, self._budget
        )
        runs = list(_runs(clusters))

        def compare(block: slice) -> tuple[list[_Best], _Best]:
            product = self._products.product(self._operand(block))
            here = (own[0] >= block.start) & (own[0] < block.stop)
            product[xp.asarray(own[0][here] - block.start), xp.asarray(own[1][here])] = -xp.inf
            within = []
            for cluster, left, right in runs:
                first, last = np.searchsorted(self._clusters[block], (cluster, cluster + 1))
                if first < last:
                    begin = block.start + int(first)
                    same = product[first:last, left:right]
                    floor = self._within[begin : block.start + last]
                    within.append(comparison.best(same, begin, left, floor))
                    same[:] = -xp.inf
            return within, comparison.best(product, block.start, 0, self._across[block])

        def keep(block: slice, bests: tuple[list[_Best], _Best]) -> None:
            found[0].extend(bests[0])
            found[1].append(bests[1])

        threads = thread_count() if xp is np else 1
        step = self._budget // (_BYTES_PER_CELL * len(rows)) // threads
        in_threads(compare, self._blocks(max(1, min(_MOST_QUERIES, step))), threads, keep)
        return _collect(found[0], kept), _collect(found[1], kept)

    def _blocks(self, step: int) -> list[slice]:
        n = len(self._queries)
        return [slice(begin, min(begin + step, n)) for begin in range(0, n, step)]

    def _operand(self, block: slice) -> Any:
        """Some queries as the left side of a product; kept, since each batch meets them again."""
        if block.stop - block.start < min(_MOST_QUERIES, len(self._queries) - block.start):
            return self._products.operand(self._queries[block])
        if block.start not in self._operands:
            self._operands[block.start] = self._products.operand(self._queries[block])
        return self._operands[block.start]

    def _row_of_largest_bound(self) -> Any:
        """The query that any product can be off most for; of shape (1, d), or (0, d)."""
        if len(self._queries) == 0:
            return self._queries
        self._products.aim(self._queries[:1])
        worst = int(self._products.bound(self._queries, self._deviation).argmax())
        return self._queries[worst : worst + 1]


@dataclass(frozen=True)
class _Best:
    """As `Found`, on the device, with row numbers of the batch without its third copies."""

    query: Any
    row: Any
    score: Any


@dataclass(frozen=True)
class _Comparison:
    """Queries and one batch, without third copies."""

    queries: Any
    query_norms: Any
    rows: Any
    norms: Any
    rank: Any
    reach: float
    budget: int

    def best(self, product: Any, begin: int, left: int, floor: Any) -> _Best:
        """The best row of each query of a tile that reaches ``floor``, which is raised to it.

        Args:
            product: of shape (b, w), float32 products of queries from ``begin`` with rows from
                ``left``; -inf where a pair does not count.
            floor: of shape (b,), float32, the best scores so far, a view.
        """
        xp = array_module(product)
        top = product.max(axis=1)
        live = xp.flatnonzero((top >= floor - self.reach) & (top > -xp.inf))
        limit = xp.maximum(top[live] - 2 * self.reach, floor[live] - self.reach)
        near = product[live] >= limit[:, None]
        crowded = xp.count_nonzero(near, axis=1) > _CROWDED
        row, column = xp.nonzero(near & ~crowded[:, None])
        query, column = begin + live[row], left + column
        score = self._cosine(query, column)
        if crowded.any():
            busy = begin + live[crowded]
            best, where = self._settle_crowded(busy, near[crowded], left)
            query, column = xp.concatenate([query, busy]), xp.concatenate([column, where])
            score = xp.concatenate([score, best])
        # The last key counts first: by query, then the highest score, then the lowest rank.
        order = xp.lexsort(xp.stack([self.rank[column], -score, query]))
        query, column, score = query[order], column[order], score[order]
        chosen = xp.ones(len(query), dtype=bool)
        chosen[1:] = query[1:] != query[:-1]
        chosen &= score >= floor[query - begin]
        query, column, score = query[chosen], column[chosen], score[chosen]
        floor[query - begin] = score
        return _Best(query, column, score)

    def _cosine(self, query: Any, row: Any) -> Any:
        """The meaning of a score: float64, norms included, rounded to float32 once."""
        dots = pair_dots(self.queries, query, self.rows, row)
        dots /= array_module(dots).sqrt(self.query_norms[query] * self.norms[row])
        return dots.astype(np.float32)

    def _settle_crowded(self, query: Any, near: Any, left: int) -> tuple[Any, Any]:
        """The best of many candidates by a float64 product, so never a sum for each of them.

        Its bound is some 1e-13, so the rounding to float32 is known for almost every pair, and
        only pairs that lie that close to a rounding boundary are computed in the fixed order.

        Args:
            query: of shape (k,), query numbers.
            near: of shape (k, w), bool, which rows from ``left`` are candidates.
        """
        xp = array_module(near)
        bound = 4 * self.rows.shape[1] * _U64
        score = xp.full(len(query), -xp.inf, dtype=xp.float32)
        where = xp.zeros(len(query), dtype=xp.int64)
        column = xp.flatnonzero(near.any(axis=0))
        # By rank, so that the first of equal maxima is the one that wins.
        column = column[xp.argsort(self.rank[left + column])]
        side = _wide_side(self.rows.shape[1], self.budget)
        for top in range(0, len(query), side):
            lines = slice(top, top + side)
            wide = self.queries[query[lines]].astype(xp.float64)
            for start in range(0, len(column), side):
                part = column[start : start + side]
                value = wide @ self.rows[left + part].astype(xp.float64).T
                value /= xp.sqrt(self.query_norms[query[lines]][:, None] * self.norms[left + part])
                value[~near[lines][:, part]] = -xp.inf
                rounded = (value - bound).astype(xp.float32)
                highest = (value + bound).astype(xp.float32)
                rival = highest >= xp.maximum(score[lines], rounded.max(axis=1))[:, None]
                line, place = xp.nonzero((rounded != highest) & rival)
                rounded[line, place] = self._cosine(query[lines][line], left + part[place])
                best = rounded.argmax(axis=1)
                value_there = rounded[xp.arange(len(best)), best]
                better = xp.flatnonzero(value_there > score[lines])
                score[top + better] = value_there[better]
                where[top + better] = left + part[best[better]]
        return score, where


def _without_third_copies(
    rows: Any, norms: Any, clusters: np.ndarray, rank: np.ndarray
) -> np.ndarray:
    """Numbers of the rows, ascending, without copies that can be nobody's best partner.

    Of identical rows of a cluster only the two of lowest rank can win: the second one for a query
    that is the first. A copy that is missed here costs time, and nothing else.
    """
    xp = array_module(rows)
    order = xp.lexsort(xp.stack([xp.asarray(rank, dtype=xp.float64), norms]))
    third = xp.flatnonzero(norms[order[2:]] == norms[order[:-2]])
    dropped = []
    step = max(1, (1 << 22) // max(1, 4 * rows.shape[1]))
    for start in range(0, len(third), step):
        part = third[start : start + step]
        first, second, copy = order[part], order[part + 1], order[part + 2]
        same = (rows[copy] == rows[first]).all(axis=1) & (rows[copy] == rows[second]).all(axis=1)
        copy, first, second = (to_host(a[same]) for a in (copy, first, second))
        dropped.append(
            copy[(clusters[copy] == clusters[first]) & (clusters[copy] == clusters[second])]
        )
    kept = np.ones(len(rows), dtype=bool)
    if dropped:
        kept[np.concatenate(dropped)] = False
    return np.flatnonzero(kept)


def _runs(clusters: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(cluster, first row, end) of each run of rows."""
    starts = np.flatnonzero(np.diff(clusters, prepend=-1))
    for left, right in pairwise(np.append(starts, len(clusters)).tolist()):
        yield int(clusters[left]), left, right


def _collect(parts: list[_Best], kept: np.ndarray) -> Found:
    """All of a batch on the host, with the row numbers of the whole batch."""
    if not parts:
        return Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    query, row, score = (
        np.concatenate([to_host(getattr(part, name)) for part in parts])
        for name in ("query", "row", "score")
    )
    return Found(query, kept[row], score)


def _wide_side(dim: int, memory_budget: int) -> int:
    """Side of a float64 tile: the largest power of two that fits, at most 1024."""
    side = 1024
    while side > 8 and side * side * _BYTES_PER_WIDE_CELL + side * dim * 24 > memory_budget:
        side //= 2
    return side
