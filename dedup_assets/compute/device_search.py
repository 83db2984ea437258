"""The search on a GPU: float16 products on tensor cores, one kernel that lists candidates, one
that scores them in float64.

The arithmetic of a backend is behind `Backend`, so that everything but the launches themselves
can be run, and is tested, without a GPU.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import is_out_of_memory, to_host
from dedup_assets.compute.bounds import FAST_TOLERANCE, LIMIT_ROUNDING, cast_bound
from dedup_assets.compute.cuda import Backend
from dedup_assets.compute.float16 import ALIGNED, halve
from dedup_assets.compute.plan import Plan
from dedup_assets.compute.rescore import Rows, best_earlier_in_float64

_FEWEST_SLOTS, _MOST_SLOTS = 64, 1024  # candidates of a row that are listed
_ROWS_A_SLOT = 16  # of a cluster: a static scene is many rows that are all but equal
_MOST_ROWS, _FEWEST_ROWS = 2048, 128  # of a strip: more waste its half above the diagonal
_STRIPS_ALONE, _STRIPS_TOGETHER = 4, 8  # of a cluster, since many together cost fewer launches
_PRODUCT = 1 << 26  # elements of a product, from which on larger ones are no quicker
_TOGETHER = 4096  # rows of the largest cluster that is multiplied together with others
_UNEVEN = 0.7  # smallest over largest cluster of a batch, since all are padded to the largest
_MATRICES = 65535  # of a grid
_THREADS = 64  # of a block that sums products of rows: many blocks at once, which wait a lot
_WIDE_ROW = 2048  # products of a row, beyond which more threads look at them
_RESCORED_ROWS = 1024
_REPORT_S = 0.2  # between reports of progress, since each waits for the device


@dataclass(frozen=True)
class Distinct:
    """Rows to search, on the device: of identical ones in a cluster only the first.

    Attributes:
        x: of shape (n, d), float32, all rows, contiguous.
        norms: of shape (n,), float64, their squared lengths.
        deviation: the most that one of these differs from 1.
        original: of shape (m,), int64, the distinct rows.
        offsets: of shape (c + 1,), int64, host: where the distinct rows of each cluster begin.
    """

    x: Any
    norms: Any
    deviation: float
    original: Any
    offsets: np.ndarray

    def taken(self, begin: int, stop: int) -> Rows:
        """Distinct rows begin:stop; a copy only if some were left out."""
        first, last = int(self.original[begin]), int(self.original[stop - 1])
        if last - first == stop - 1 - begin:
            return Rows(self.x[first : last + 1], self.norms[first : last + 1])
        original = self.original[begin:stop]
        return Rows(self.x[original], self.norms[original])


class DeviceSearch:
    """Best earlier matches of distinct rows.

    Args:
        backend: where the arrays are.
        rows: what to search.
        plan: its memory budget is for products and candidates; float16 rows come on top.

    Raises:
        MemoryError: the device has no room for these.
    """

    def __init__(self, backend: Backend, rows: Distinct, plan: Plan) -> None:
        xp = backend.xp
        self._backend = backend
        self._rows = rows
        self._bytes = plan.memory_budget
        self._largest = _round_up(plan.largest_tile or 1 << 20, 64)
        m = len(rows.original)
        self._half, self._margin = _cast(backend, rows, plan.exact)
        self.score = xp.zeros(m, dtype=xp.float32)
        self.index = xp.zeros(m, dtype=xp.int64)
        self._overflow = xp.zeros(m, dtype=xp.uint8)
        self._unreported = 0
        self._reported = time.monotonic()

    def run(self, on_rows: Callable[[int], None] | None) -> None:
        """Fill ``score`` and ``index``; ``index`` counts within the cluster.

        Raises:
            MemoryError: the device has no room even for the smallest product.
        """
        sizes = np.diff(self._rows.offsets)
        order = np.argsort(-sizes, kind="stable")
        order = order[sizes[order] > 1]
        done = 0
        while done < len(order):
            group = self._group(sizes, order[done:])
            if len(group) == 1:
                self._alone(int(group[0]), on_rows)
            elif self._had_room(self._batch, group):
                self._report(on_rows, int(sizes[group].sum()))
            else:
                continue
            done += len(group)
        self._rescore_overflow()
        self._report(on_rows, int((sizes == 1).sum()), last=True)

    def _had_room(self, work: Callable[..., None], *arguments: Any) -> bool:
        """Do ``work``; where memory runs out, settle for smaller products from now on."""
        try:
            work(*arguments)
            return True
        except Exception as error:
            least = _strip_bytes(_FEWEST_ROWS, _FEWEST_ROWS, _FEWEST_SLOTS)
            if not is_out_of_memory(error) or self._bytes < least:
                raise
        # Only now is free what the error held.
        self._backend.free()
        self._bytes = min(self._bytes, 8 * _PRODUCT) // 2
        return False

    def _report(
        self, on_rows: Callable[[int], None] | None, rows: int, *, last: bool = False
    ) -> None:
        if on_rows is None:
            return
        self._unreported += rows
        if last or time.monotonic() - self._reported >= _REPORT_S:
            self._backend.wait()
            on_rows(self._unreported)
            self._unreported, self._reported = 0, time.monotonic()

    def _group(self, sizes: np.ndarray, order: np.ndarray) -> np.ndarray:
        """The clusters, of those in ``order``, that are multiplied together."""
        largest = int(sizes[order[0]])
        if largest > min(_TOGETHER, self._largest):
            return order[:1]
        padded = _round_up(largest, ALIGNED)
        strip = self._tile(largest, _STRIPS_TOGETHER)[0]
        each = _strip_bytes(strip, padded, _slots(largest)) + 2 * padded * self._half.shape[1]
        like = int((sizes[order] >= _UNEVEN * largest).sum())
        return order[: max(1, min(self._bytes // each, like, _MATRICES))]

    def _tile(self, size: int, strips: int) -> tuple[int, int]:
        """Rows of a strip and columns of a tile of a cluster."""
        rows = min(max(_round_up(size // strips, 64), _FEWEST_ROWS), _MOST_ROWS, self._largest)
        slots = _slots(size)
        while rows > 64 and _strip_bytes(rows, rows, slots) > self._bytes:
            rows = _round_up(rows // 2, 64)
        columns = min((self._bytes - _strip_bytes(rows, 0, slots)) // (4 * rows), _PRODUCT // rows)
        return rows, min(max(columns // 64 * 64, 64), self._largest)

    def _alone(self, cluster: int, on_rows: Callable[[int], None] | None) -> None:
        """One cluster, strip by strip, tile by tile."""
        begin, stop = (int(row) for row in self._rows.offsets[cluster : cluster + 2])
        half = self._half[None, begin:stop]
        spans = _Spans(self._backend.xp, np.array([begin]), np.array([stop - begin]))
        row = 0
        while row < stop - begin:
            rows, columns = self._tile(stop - begin, _STRIPS_ALONE)
            end = min(row + rows, stop - begin)
            if self._had_room(self._strip, half, spans, row, end, columns):
                self._report(on_rows, end - row)
                row = end

    def _batch(self, group: np.ndarray) -> None:
        """Clusters of like sizes, padded to the largest."""
        xp = self._backend.xp
        starts = self._rows.offsets[group]
        sizes = self._rows.offsets[group + 1] - starts
        spans = _Spans(xp, starts, sizes)
        padded = _round_up(int(sizes.max()), ALIGNED)
        # Padding repeats the last row; neither kernel looks at it.
        inside = xp.minimum(xp.arange(padded)[None, :], spans.size[:, None] - 1)
        half = self._half[spans.start[:, None] + inside]
        rows, _ = self._tile(int(sizes.max()), _STRIPS_TOGETHER)
        for row in range(0, padded, rows):
            self._strip(half, spans, row, min(row + rows, padded), padded)

    def _strip(self, half: Any, spans: "_Spans", begin: int, end: int, columns: int) -> None:
        """Rows begin:end of each matrix of ``half``, of shape (b, rows, k), with all before."""
        xp = self._backend.xp
        matrices, rows, slots = len(half), end - begin, _slots(spans.largest)
        best = xp.empty((matrices, rows), dtype=xp.float32)
        count = xp.empty((matrices, rows), dtype=xp.int32)
        column = xp.empty((matrices, rows, slots), dtype=xp.int32)
        value = xp.empty((matrices, rows, slots), dtype=xp.float32)
        widest = _round_up(min(columns, end), ALIGNED)
        scratch = xp.empty(matrices * rows * widest, dtype=xp.float32)
        for left in range(0, end, columns):
            right = min(left + columns, end)
            stride = _round_up(right - left, ALIGNED)
            product = scratch[: matrices * rows * stride].reshape(matrices, rows, stride)
            self._backend.multiply(
                half[:, begin:end], half[:, left:right], product[:, :, : right - left]
            )
            self._backend.launch(
                "screen", (rows, matrices), 128 if stride <= _WIDE_ROW else 256, 0,
                product, np.int64(rows * stride), np.int64(stride),
                np.int32(begin), np.int32(left), np.int32(right - left),
                spans.start, spans.size, self._margin,
                best, count, column, value, np.int32(slots),
            )  # fmt: skip
        x, dim = self._rows.x, self._rows.x.shape[1]
        self._backend.launch(
            "rescore", (rows, matrices), _THREADS, _dot_bytes(dim),
            x, np.int32(dim), self._rows.norms, self._rows.original, np.int32(begin),
            spans.start, spans.size, self._margin,
            best, count, column, value, np.int32(slots),
            self.score, self.index, self._overflow,
        )  # fmt: skip

    def _rescore_overflow(self) -> None:
        """Rows with more candidates than slots, by a float64 product."""
        xp = self._backend.xp
        overflow = to_host(xp.flatnonzero(self._overflow))
        offsets = self._rows.offsets
        cluster_of = np.searchsorted(offsets, overflow, side="right") - 1
        clusters, first_of = np.unique(cluster_of, return_index=True)
        for cluster, lines in zip(clusters, np.split(overflow, first_of[1:]), strict=False):
            begin, stop = int(offsets[cluster]), int(offsets[cluster + 1])
            own = self._rows.taken(begin, stop)
            inside = lines - begin
            for first in range(0, len(inside), _RESCORED_ROWS):
                part = inside[first : first + _RESCORED_ROWS]
                rows = xp.asarray(part)
                columns = max(64, self._bytes // (len(part) * 48 + own.x.shape[1] * 12))
                score, index = best_earlier_in_float64(own, rows, int(part[-1]), columns)
                self.score[begin + rows] = score
                self.index[begin + rows] = index


class _Spans:
    """Where the clusters of a batch begin among the distinct rows, and their sizes: int64.

    Attributes:
        largest: the greatest of the sizes.
    """

    def __init__(self, xp: Any, start: np.ndarray, size: np.ndarray) -> None:
        self.start = xp.asarray(start.astype(np.int64))
        self.size = xp.asarray(size.astype(np.int64))
        self.largest = int(size.max())


def squared_lengths(backend: Backend, x: Any) -> Any:
    """As `exact.squared_norms` of contiguous rows on the device, in one pass over them."""
    norms = backend.xp.empty(len(x), dtype=backend.xp.float64)
    if len(x):
        dim = x.shape[1]
        backend.launch("square", (len(x), 1), _THREADS, _dot_bytes(dim), x, np.int32(dim), norms)
    return norms


def _cast(backend: Backend, rows: Distinct, exact: bool) -> tuple[Any, Any]:
    """The rows in float16, padded with zeros; and how far below the best a candidate may lie."""
    xp = backend.xp
    half, residual = halve(backend, rows.x, rows.original)
    largest = float(residual.max()) if len(residual) else 0.0
    bound = cast_bound(rows.x.shape[1], rows.deviation, residual.astype(xp.float64), largest)
    margin = 2 * bound + LIMIT_ROUNDING
    if not exact:
        margin = xp.maximum(margin - FAST_TOLERANCE, 0.0)
    return half, margin.astype(xp.float32)


def _dot_bytes(dim: int) -> int:
    """Shared memory of a kernel that sums the products of two rows."""
    return 8 * ((dim + 1) // 2)


def _slots(size: int) -> int:
    """How many candidates of a row are listed in a cluster of so many rows."""
    return min(max(size // _ROWS_A_SLOT, _FEWEST_SLOTS), _MOST_SLOTS)


def _strip_bytes(rows: int, columns: int, slots: int) -> int:
    """A product and the candidates of its rows."""
    return rows * columns * 4 + rows * (8 * slots + 8)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
