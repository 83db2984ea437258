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

from dedup_assets.compute.arrays import DEFAULT_MEMORY_BUDGET, array_module, device_memory, to_host
from dedup_assets.compute.bounds import LIMIT_ROUNDING
from dedup_assets.compute.exact import squared_norms
from dedup_assets.compute.pairwise import check_unit_length
from dedup_assets.compute.products import screen_format
from dedup_assets.compute.rescore import Rows
from dedup_assets.compute.threads import in_threads, thread_count
from dedup_assets.compute.tiles import TileBest, TileSearch

_MOST_QUERIES = 512  # in a tile
_BYTES_PER_CELL = 12  # of a tile: the product, a copy of the part looked at, a mask


@dataclass(frozen=True)
class Found:
    """Rows of a batch that score at least as high for a query as the best known before the batch.

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
        known: scores of the best partners within and across that are known from elsewhere, two
            arrays of shape (q,), float32, host, -inf where there is none. A row is found only if
            it reaches them.
        memory_budget: bytes that a call may hold beside ``queries`` and the batch.

    Raises:
        ValueError: a query is not of length one.
    """

    def __init__(
        self,
        queries: Any,
        clusters: np.ndarray,
        *,
        known: tuple[np.ndarray, np.ndarray] | None = None,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
    ) -> None:
        self._xp = array_module(queries)
        self._queries = queries
        self._clusters = clusters
        self._budget = memory_budget
        self._norms = squared_norms(queries)
        self._deviation = check_unit_length(self._norms)
        self._format = screen_format(self._xp)
        self._operands: dict[int, Any] = {}
        self._coarsest = self._row_of_largest_bound()
        nothing = np.full(len(queries), -np.inf, dtype=np.float32)
        within, across = known or (nothing, nothing)
        # Copies: they rise with each batch.
        self._within = self._xp.asarray(within.astype(np.float32))
        self._across = self._xp.asarray(across.astype(np.float32))

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
            row that scores highest, if that reaches what was known and every batch before.

        Raises:
            ValueError: a row is not of length one.
            DeviceError: the GPU has no memory left.
        """
        what = f"to compare {len(rows)} rows with {len(self._queries)} of the sample"
        with device_memory(self._xp, what, "lower missed_sample, or use device=cpu"):
            return self._add(rows, clusters, rank, own)

    def _add(
        self, rows: Any, clusters: np.ndarray, rank: np.ndarray, own: tuple[np.ndarray, np.ndarray]
    ) -> tuple[Found, Found]:
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
        found: tuple[list[TileBest], list[TileBest]] = ([], [])
        if len(rows) == 0 or len(self._queries) == 0:
            return _collect(found[0], kept), _collect(found[1], kept)
        side = self._format.right(rows)
        reach = float(side.bound(self._coarsest, deviation).max()) + LIMIT_ROUNDING
        tiles = TileSearch(
            Rows(self._queries, self._norms),
            Rows(rows, norms, xp.asarray(rank)),
            reach,
            self._budget,
        )
        runs = list(_runs(clusters))

        def compare(block: slice) -> tuple[list[TileBest], TileBest]:
            product = side.product(self._operand(block))
            here = (own[0] >= block.start) & (own[0] < block.stop)
            product[xp.asarray(own[0][here] - block.start), xp.asarray(own[1][here])] = -xp.inf
            within = []
            for cluster, left, right in runs:
                first, last = np.searchsorted(self._clusters[block], (cluster, cluster + 1))
                if first < last:
                    begin = block.start + int(first)
                    same = product[first:last, left:right]
                    floor = self._within[begin : block.start + last]
                    lines = xp.arange(begin, block.start + last)
                    within.append(tiles.best(same, lines, xp.arange(left, right), floor))
                    same[:] = -xp.inf
            lines = xp.arange(block.start, block.stop)
            across = tiles.best(product, lines, xp.arange(len(rows)), self._across[block])
            return within, across

        def keep(block: slice, bests: tuple[list[TileBest], TileBest]) -> None:
            found[0].extend(bests[0])
            found[1].append(bests[1])

        step = self._budget // (_BYTES_PER_CELL * len(rows))
        one_block = len(self._queries) <= min(_MOST_QUERIES, step)
        threads = thread_count() if xp is np and not one_block else 1
        step //= threads
        in_threads(compare, self._blocks(max(1, min(_MOST_QUERIES, step))), threads, keep)
        return _collect(found[0], kept), _collect(found[1], kept)

    def _blocks(self, step: int) -> list[slice]:
        n = len(self._queries)
        return [slice(begin, min(begin + step, n)) for begin in range(0, n, step)]

    def _operand(self, block: slice) -> Any:
        """Some queries as the left side of a product; kept, since each batch meets them again."""
        if block.stop - block.start < min(_MOST_QUERIES, len(self._queries) - block.start):
            return self._format.operand(self._queries[block])
        if block.start not in self._operands:
            self._operands[block.start] = self._format.operand(self._queries[block])
        return self._operands[block.start]

    def _row_of_largest_bound(self) -> Any:
        """The query that any product can be off most for; of shape (1, d), or (0, d)."""
        if len(self._queries) == 0:
            return self._queries
        right = self._format.right(self._queries[:1])
        worst = int(right.bound(self._queries, self._deviation).argmax())
        return self._queries[worst : worst + 1]


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


def _collect(parts: list[TileBest], kept: np.ndarray) -> Found:
    """All of a batch on the host, with the row numbers of the whole batch."""
    if not parts:
        return Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    query, row, score = (
        np.concatenate([to_host(getattr(part, name)) for part in parts])
        for name in ("line", "column", "score")
    )
    return Found(query, kept[row], score)
