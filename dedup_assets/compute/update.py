"""Best earlier matches of a cluster some of whose rows are new, moved or gone.

Rows are compared with the changed rows only: one product serves a changed row that searches the
rows before it, and the rows after it, which may now have a better match. What comes out equals
`dedup_assets.compute.pairwise.best_earlier_match` over the whole cluster to the last bit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import DEFAULT_MEMORY_BUDGET, array_module, device_memory, to_host
from dedup_assets.compute.bounds import LIMIT_ROUNDING
from dedup_assets.compute.exact import squared_norms
from dedup_assets.compute.pairwise import (
    BestMatch,
    best_earlier_match,
    check_unit_length,
    first_identical,
    lengths,
)
from dedup_assets.compute.products import Format, RightSide, row_chunks, screen_format
from dedup_assets.compute.rescore import Rows
from dedup_assets.compute.threads import in_threads, thread_count
from dedup_assets.compute.tiles import TileBest, TileSearch

_WHOLE_FROM = 0.3  # share of changed rows from which searching all rows anew is quicker
_MOST_CHANGED = 2048  # changed rows of one pass over the others
_ONE_THREAD_BELOW = 1 << 18  # elements of products that are not worth starting threads for
_ALSO = 64  # elements that take as long as what is done with each row beside its products


def update_matches(
    x: Any,
    known: np.ndarray,
    known_score: np.ndarray,
    fresh: np.ndarray,
    *,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> BestMatch:
    """Find each row's most similar earlier row, given the matches of rows that were there before.

    Rows that are not fresh rank among each other as they did when the matches were found: a row
    that moved is fresh where it is now, and its old place is gone.

    Args:
        x: of shape (n, d), float32, unit rows in rank order, on host (NumPy) or device (CuPy).
        known: of shape (n,), int64, host: the row's best match among the earlier rows that are
            not fresh; its own number where none of these is ranked before it; -1 where it is not
            known, as for fresh rows.
        known_score: of shape (n,), float32, host: the score of that match, as
            `best_earlier_match` gives it; ignored where there is no match.
        fresh: of shape (n,), bool, host: rows that were not there when the matches were found.
        memory_budget: bytes the call may hold beside ``x`` and some 100 bytes a row.

    Returns:
        BestMatch, on the device of ``x``, equal to ``best_earlier_match(x)``.

    Raises:
        ValueError: ``x`` is not two-dimensional float32, a row is not of length one, or what is
            known does not fit the rows.
        DeviceError: the GPU has no memory left.
    """
    _check(x, known, known_score, fresh)
    changed = fresh | (known < 0)
    if changed.sum() > _WHOLE_FROM * len(x):
        return best_earlier_match(x, memory_budget=memory_budget)
    advice = "raise n_clusters, so that clusters are smaller, or use device=cpu"
    with device_memory(array_module(x), f"beside {len(x)} rows", advice):
        return _Update(x, known, known_score, fresh, memory_budget).run()


def _check(x: Any, known: np.ndarray, known_score: np.ndarray, fresh: np.ndarray) -> None:
    if x.ndim != 2 or x.dtype != np.float32:
        raise ValueError(
            f"x must be a float32 array of shape (n, d), got {x.dtype} of shape {x.shape}"
        )
    n = len(x)
    for name, array, dtype in (
        ("known", known, np.int64),
        ("known_score", known_score, np.float32),
        ("fresh", fresh, np.bool_),
    ):
        if array.shape != (n,) or array.dtype != dtype:
            raise ValueError(
                f"{name} must be of shape ({n},) and type {np.dtype(dtype)}, "
                f"got {array.dtype} of shape {array.shape}"
            )
    rows = np.arange(n)
    has = (known >= 0) & (known < rows)
    alone = (known == rows) & (np.cumsum(~fresh) == 1)
    wrong = np.flatnonzero(~np.where(fresh, known == -1, has | alone | (known == -1)))
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"known[{row}]={known[row]} must be -1, an earlier row, or, if every earlier row is "
            "fresh, the row itself; and -1 for a fresh row"
        )
    wrong = np.flatnonzero(has & (fresh[known] | ~(abs(known_score) <= 1)))
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"known[{row}]={known[row]} with known_score={known_score[row]} must be a row that is "
            "not fresh, with a score from -1 to 1"
        )


@dataclass(frozen=True)
class _Changed:
    """Some rows that are fresh or search all rows before them; each array on the host.

    Attributes:
        rows: of shape (s,), ascending row numbers.
        fresh: positions in ``rows`` of those that other rows have to be compared with.
        form, right: what these are multiplied in, and their right side.
    """

    rows: np.ndarray
    fresh: np.ndarray
    form: Format
    right: RightSide


class _Update:
    """The search of a cluster; of identical rows only the first one takes part."""

    def __init__(
        self,
        x: Any,
        known: np.ndarray,
        known_score: np.ndarray,
        fresh: np.ndarray,
        memory_budget: int,
    ) -> None:
        self._xp = array_module(x)
        self._x = x
        self._fresh = fresh
        self._budget = memory_budget
        self._changed = fresh | (known < 0)
        on_host = self._xp is np
        work = len(x) * (int(self._changed.sum()) + _ALSO)
        self._threads = thread_count() if on_host and work >= _ONE_THREAD_BELOW else 1
        norms = lengths(x, False, self._threads)[0] if on_host else squared_norms(x)
        self._deviation = check_unit_length(norms)
        self._side = Rows(x, norms)
        self._first = to_host(first_identical(x, norms))
        self._distinct = np.flatnonzero(self._first == np.arange(len(x)))
        # The best so far; a first-ranked row's own number is no match, and its 0.0 no score.
        has_match = (known >= 0) & (known < np.arange(len(x)))
        self._score = np.where(has_match, known_score, np.float32(-np.inf))
        self._index = np.where(has_match, known, len(x))

    def run(self) -> BestMatch:
        changed = self._distinct[self._changed[self._distinct]]
        each = self._x.shape[1] * 8 + 32 * self._threads  # packed, and in one line of a tile
        step = int(np.clip(self._budget // 4 // each, 8, _MOST_CHANGED))
        for begin in range(0, len(changed), step):
            self._compare_with(changed[begin : begin + step])
        return self._result()

    def _compare_with(self, rows: np.ndarray) -> None:
        """Search all rows for these, and these for all other rows."""
        xp = self._xp
        quick = screen_format(xp)
        right = quick.right(self._x[xp.asarray(rows)])
        changed = _Changed(rows, np.flatnonzero(self._fresh[rows]), quick, right)
        # A third, since beside a product there may be its copy for other rows and what is near.
        chunks = row_chunks(
            xp,
            len(self._distinct),
            len(rows),
            self._x.shape[1],
            memory_budget=self._budget // 3,
            threads=self._threads,
        )

        def keep(chunk: slice, found: list[TileBest]) -> None:
            self._keep(found)

        def block(chunk: slice) -> list[TileBest]:
            return self._block(self._distinct[chunk], changed)

        in_threads(block, chunks, self._threads, keep)

    def _block(self, rows: np.ndarray, changed: _Changed) -> list[TileBest]:
        """What some rows, ascending, and the changed rows are to each other."""
        xp = self._xp
        lines = xp.asarray(rows)
        together = rows[-1] - rows[0] + 1 == len(rows)
        part = self._x[int(rows[0]) : int(rows[-1]) + 1] if together else self._x[lines]
        product = changed.right.product(changed.form.operand(part))
        bound = float(changed.right.bound(part, self._deviation).max())
        tiles = TileSearch(self._side, self._side, bound + LIMIT_ROUNDING, self._budget // 8)
        found = []

        fresh = changed.rows[changed.fresh]
        before = slice(0, int(np.searchsorted(fresh, rows[-1])))
        if before.stop:
            columns = xp.asarray(fresh[before])
            same = product[:, xp.asarray(changed.fresh[before])]
            mixed = slice(int(np.searchsorted(fresh, rows[0])), before.stop)
            _exclude(same[:, mixed], columns[None, mixed] > lines[:, None])
            floor = np.where(self._changed[rows], np.float32(np.inf), self._score[rows])
            found.append(tiles.best(same, lines, columns, xp.asarray(floor)))

        after = slice(int(np.searchsorted(changed.rows, rows[0], side="right")), None)
        queries = changed.rows[after]
        if len(queries):
            columns = xp.asarray(queries)
            same = product[:, after].T
            mixed = slice(0, int(np.searchsorted(queries, rows[-1], side="right")))
            _exclude(same[mixed], lines[None, :] >= columns[mixed, None])
            found.append(tiles.best(same, columns, lines, xp.asarray(self._score[queries])))
        return found

    def _keep(self, found: list[TileBest]) -> None:
        """Take what is better: of equal scores the earlier row, whichever was found first."""
        for best in found:
            line, column, score = (to_host(a) for a in (best.line, best.column, best.score))
            held = self._score[line]
            better = (score > held) | ((score == held) & (column < self._index[line]))
            self._score[line[better]] = score[better]
            self._index[line[better]] = column[better]

    def _result(self) -> BestMatch:
        score, index, first = self._score, self._index, self._first
        score[:1] = index[:1] = 0
        # A copy scores 1 with its first appearance, or an earlier row that this scores 1 with.
        copies = np.flatnonzero(first != np.arange(len(first)))
        source = first[copies]
        index[copies] = np.where(score[source] == 1.0, index[source], source)
        score[copies] = 1.0
        return BestMatch(self._xp.asarray(score), self._xp.asarray(index))


def _exclude(tile: Any, pairs: Any) -> None:
    """Leave some pairs of a part of a tile out of the search."""
    tile[pairs] = -np.inf
