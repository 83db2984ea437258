"""For every row, the most similar row that is ranked before it: the product's one primitive.

Screen, bound, rescore. A quick product (bfloat16 or float32 on a CPU, float16 on a GPU) names
candidates: every pair that its rounding bound does not exclude from the row's maximum. Candidates
are scored again in float64, in a fixed order of summation (`dedup_assets.compute.exact`), so the
result is a function of the rows alone. Only tiles on or below the diagonal are computed. Memory is
a few tiles, never n x n.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dedup_assets.compute.arrays import (
    DEFAULT_MEMORY_BUDGET,
    array_module,
    device_memory,
    to_host,
)
from dedup_assets.compute.bfloat16 import residuals as bfloat16_residuals
from dedup_assets.compute.bounds import cast_bound, screen_bound
from dedup_assets.compute.cuda import Backend
from dedup_assets.compute.device_search import (
    DeviceSearch,
    Distinct,
    squared_lengths,
)
from dedup_assets.compute.exact import chunk_rows, squared_norms
from dedup_assets.compute.plan import Plan
from dedup_assets.compute.products import BFloat16, Blocks, Float32, bfloat16_is_quicker
from dedup_assets.compute.threads import in_threads, thread_count
from dedup_assets.compute.triangle import Triangle, block_sizes

__all__ = ["PRECISIONS", "BestMatch", "best_earlier_match", "best_earlier_matches", "screen_bound"]

Precision = Literal["exact", "fast"]
PRECISIONS = ("exact", "fast")

_UNIT_TOLERANCE = 1e-3
_ONE_THREAD_BELOW = 512  # rows in all that are not worth starting threads for


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
            is that cosine for the named pair, which may be up to 1e-3 below the maximum.
        memory_budget: bytes the call may hold beside ``x`` and its result; where rows repeat,
            also beside a copy of the distinct ones, and on a GPU beside ``x`` in float16 and some
            100 bytes a row.
        on_rows: called in this thread with how many more rows are done; copies of rows are not
            reported.

    Returns:
        BestMatch, on the device of ``x``.

    Raises:
        ValueError: ``x`` is not two-dimensional float32, or a row is not of length one.
        DeviceError: ``x`` is on a GPU that has no memory left for the search.
    """
    return best_earlier_matches(
        x, [0, len(x)], precision=precision, memory_budget=memory_budget, on_rows=on_rows
    )


def best_earlier_matches(
    x: Any,
    offsets: Sequence[int],
    *,
    precision: Precision = "exact",
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    largest_tile: int | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> BestMatch:
    """Do what `best_earlier_match` does for several clusters in one call.

    Many small clusters take no more than one large one of as much work.

    Args:
        x: the rows of the clusters one after another; otherwise as in `best_earlier_match`.
        offsets: c + 1 ascending row numbers from 0 to n; cluster i is
            ``x[offsets[i]:offsets[i + 1]]``.
        precision, memory_budget, on_rows: as in `best_earlier_match`.
        largest_tile: most rows and columns of a tile; it changes no result.

    Returns:
        BestMatch, where `index` counts from the first row of the cluster.
    """
    xp = array_module(x)
    if x.ndim != 2 or x.dtype != xp.float32:
        raise ValueError(
            f"x must be a float32 array of shape (n, d), got {x.dtype} of shape {x.shape}"
        )
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    bounds = np.asarray(offsets, dtype=np.int64)
    if bounds[0] != 0 or bounds[-1] != len(x) or (np.diff(bounds) < 0).any():
        raise ValueError(f"offsets must ascend from 0 to {len(x)}, got {list(offsets)[:10]}")
    plan = Plan(precision == "exact", memory_budget, largest_tile)
    if xp is np:
        return _on_host(np.ascontiguousarray(x), bounds, plan, on_rows, bfloat16_is_quicker())
    from dedup_assets.compute.cuda import CudaBackend

    advice = "raise n_clusters, so that clusters are smaller, or use device=cpu"
    with device_memory(xp, f"beside {len(x)} rows", advice):
        return _on_device(CudaBackend(), xp.ascontiguousarray(x), bounds, plan, on_rows)


def _on_host(
    x: np.ndarray,
    offsets: np.ndarray,
    plan: Plan,
    on_rows: Callable[[int], None] | None,
    bfloat16: bool,
) -> BestMatch:
    """As `best_earlier_matches`, for checked arguments; ``bfloat16``: whether to screen in it."""
    threads = thread_count() if len(x) >= _ONE_THREAD_BELOW else 1
    rows = _Rows(x, *lengths(x, bfloat16, threads))
    deviation = check_unit_length(rows.norms)
    found = BestMatch(np.zeros(len(x), np.float32), np.zeros(len(x), np.int64))
    together = min(len(offsets) - 1, 2 * threads + 1)  # clusters in the works at one time
    packed_bytes = plan.memory_budget // 2 // max(1, together)

    def tasks() -> Iterator[tuple[_Cluster, int, int]]:
        sizes = np.diff(offsets)
        for cluster in np.argsort(-sizes, kind="stable"):
            if sizes[cluster] < 2:
                break
            span = slice(int(offsets[cluster]), int(offsets[cluster + 1]))
            work = _Cluster(rows, span, found, deviation)
            yield from work.blocks(plan, threads, packed_bytes)

    def done(task: tuple[_Cluster, int, int], result: tuple[np.ndarray, np.ndarray]) -> None:
        work, begin, end = task
        work.put(begin, end, *result)
        if on_rows is not None:
            on_rows(end - begin)

    in_threads(lambda task: task[0].triangle.block(*task[1:]), tasks(), threads, done)
    if on_rows is not None:
        on_rows(int((np.diff(offsets) == 1).sum()))
    return found


def _on_device(
    backend: Backend,
    x: Any,
    offsets: np.ndarray,
    plan: Plan,
    on_rows: Callable[[int], None] | None,
) -> BestMatch:
    """As `best_earlier_matches`, for checked arguments on a device."""
    xp = backend.xp
    norms = squared_lengths(backend, x)
    deviation = check_unit_length(norms)
    rows, begins = xp.arange(len(x)), xp.asarray(offsets)
    cluster = xp.searchsorted(begins, rows, side="right") - 1
    first = first_identical(x, norms, cluster if len(offsets) > 2 else None)
    distinct = xp.flatnonzero(first == rows)
    kept = xp.searchsorted(distinct, begins)
    search = DeviceSearch(backend, Distinct(x, norms, deviation, distinct, to_host(kept)), plan)
    search.run(on_rows)
    # From here on rows count over all clusters, and at last within their own again.
    begin = kept[cluster[distinct]]
    found = spread(first, distinct, BestMatch(search.score, search.index + begin))
    return BestMatch(found.score, found.index - begins[cluster])


@dataclass(frozen=True)
class _Rows:
    """Rows with their squared lengths and, if they are screened in bfloat16, its residuals."""

    x: np.ndarray
    norms: np.ndarray
    residuals: np.ndarray | None

    def __getitem__(self, rows: slice | np.ndarray) -> "_Rows":
        residuals = None if self.residuals is None else self.residuals[rows]
        return _Rows(self.x[rows], self.norms[rows], residuals)


def lengths(x: np.ndarray, bfloat16: bool, threads: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Squared length of each row, float64, and of its rounding error in bfloat16, float32."""
    norms = np.empty(len(x), dtype=np.float64)
    residuals = np.empty(len(x), dtype=np.float32) if bfloat16 else None

    def measure(part: slice) -> None:
        norms[part] = squared_norms(x[part])
        if residuals is not None:
            residuals[part] = bfloat16_residuals(x[part])

    step = 8 * chunk_rows(np, x.shape[1])
    parts = (slice(start, start + step) for start in range(0, len(x), step))
    in_threads(measure, parts, threads, lambda part, nothing: None)
    return norms, residuals


def check_unit_length(norms: Any) -> float:
    """The most that a squared length differs from 1.

    Raises:
        ValueError: it is more than rounding explains, or a row is not finite.
    """
    deviation = float(abs(norms - 1.0).max()) if len(norms) else 0.0
    if not deviation <= _UNIT_TOLERANCE:
        raise ValueError(
            f"rows must have length 1, but a squared length is off by {deviation:g}; "
            "normalise them with compute.normalize.unit_rows"
        )
    return deviation


class _Cluster:
    """The rows of one cluster, searched block by block; of identical rows only the first."""

    def __init__(self, rows: _Rows, span: slice, found: BestMatch, deviation: float) -> None:
        rows = rows[span]
        self._found = BestMatch(found.score[span], found.index[span])
        self._first = first_identical(rows.x, rows.norms)
        self._distinct = np.flatnonzero(self._first == np.arange(len(rows.x)))
        self._copies = len(self._distinct) < len(rows.x)
        self._rows = rows[self._distinct] if self._copies else rows
        self._deviation = deviation
        n = len(self._distinct)
        self._own = BestMatch(np.zeros(n, np.float32), np.zeros(n, np.int64))
        self._left = n

    def blocks(
        self, plan: Plan, threads: int, packed_bytes: int
    ) -> Iterator[tuple["_Cluster", int, int]]:
        """Ranges of rows, the last and largest first, so that threads end together."""
        x, residuals = self._rows.x, self._rows.residuals
        step, columns = block_sizes(len(x), x.shape[1], threads, plan)
        dim = x.shape[1]
        bound = np.full(len(x), screen_bound(dim, self._deviation), dtype=np.float32)
        screens = [Blocks(Float32(), x, bound)]
        if residuals is not None:
            wide = residuals.astype(np.float64)
            bound = cast_bound(dim, self._deviation, wide, float(residuals.max(initial=0.0)))
            bound = np.nextafter(bound.astype(np.float32), np.float32(np.inf))
            kept = packed_bytes // (2 * max(dim, 1) * step)
            screens.insert(0, Blocks(BFloat16(), x, bound, step, kept))
        self.triangle = Triangle(x, self._rows.norms, self._deviation, screens, plan.exact, columns)
        for begin in reversed(range(0, len(x), step)):
            yield self, begin, min(begin + step, len(x))

    def put(self, begin: int, end: int, score: np.ndarray, index: np.ndarray) -> None:
        self._own.score[begin:end] = score
        self._own.index[begin:end] = index
        self._left -= end - begin
        if self._left == 0:
            whole = spread(self._first, self._distinct, self._own) if self._copies else self._own
            self._found.score[:] = whole.score
            self._found.index[:] = whole.index


def first_identical(x: Any, norms: Any, cluster: Any = None) -> Any:
    """For each row, the first row of its cluster with the same bytes, as far as one pass finds it.

    Rows that are missed are only compared like any other.

    Args:
        x: of shape (n, d), float32.
        norms: of shape (n,), float64, squared lengths.
        cluster: of shape (n,), integers, on the device of ``x``; none if there is only one.
    """
    xp = array_module(x)
    rows = xp.arange(len(x))
    if len(x) == 0:
        return rows
    order = xp.argsort(norms, kind="stable")  # so of equal rows the first comes first
    if cluster is not None:
        order = order[xp.argsort(cluster[order], kind="stable")]
    begins = xp.ones(len(x), dtype=bool)
    begins[1:] = norms[order[1:]] != norms[order[:-1]]
    if cluster is not None:
        begins[1:] |= cluster[order[1:]] != cluster[order[:-1]]
    run = xp.cumsum(begins) - 1
    first = xp.empty_like(rows)
    first[order] = order[xp.flatnonzero(begins)][run]
    same = xp.flatnonzero(first != rows)
    step = max(1, (1 << 24) // max(1, 4 * x.shape[1]))
    for begin in range(0, len(same), step):
        part = same[begin : begin + step]
        differs = (x[part] != x[first[part]]).any(axis=1)
        first[part[differs]] = part[differs]
    return first


def spread(first: Any, distinct: Any, found: BestMatch) -> BestMatch:
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
    at_one = found.score == 1.0  # so it has an earlier match: the first row of all scores 0
    earliest_at_one[distinct[at_one]] = distinct[found.index[at_one]]
    index = earliest_at_one[first]
    score[distinct] = found.score
    index[distinct] = distinct[found.index]
    return BestMatch(score, index)
