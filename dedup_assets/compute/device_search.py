"""The search on a GPU: float16 products on tensor cores, one kernel that lists candidates, one
that scores them in float64.

The arithmetic of a backend is behind `Backend`, so that everything but the launches themselves
can be run, and is tested, without a GPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dedup_assets.compute.arrays import DeviceError, to_host
from dedup_assets.compute.bounds import FAST_TOLERANCE, cast_bound
from dedup_assets.compute.plan import Plan
from dedup_assets.compute.settle import settle_by_float64

_SLOTS = 32  # candidates of a row that are listed
_LARGEST_SIDE = 8192  # rows and columns of a product
_USUAL_SIDE = 2048  # below it, launches cost more than the half that larger tiles waste
_SMALLEST_SIDE = 256
_ALIGNED = 8  # float16 numbers in the 16 bytes that tensor cores load best
_UNEVEN = 0.7  # smallest over largest cluster of a batch, since all are padded to the largest
_MATRICES = 65535  # of a grid
_CAST_BYTES = 1 << 28
_SETTLE_ROWS = 1024


class Backend(Protocol):
    """Where the search runs."""

    xp: Any
    out_of_memory: type[BaseException]

    def multiply(self, later: Any, earlier: Any, out: Any) -> None:
        """``out[b] = later[b] @ earlier[b].T`` for float16 operands and float32 sums.

        Shapes are (b, m, k), (b, n, k) and (b, m, n), all contiguous; k is a multiple of 8.
        """
        ...

    def launch(
        self, kernel: str, grid: tuple[int, int], threads: int, shared: int, *arguments: Any
    ) -> None:
        """Run a kernel of ``kernels.cu`` with ``shared`` bytes of dynamic shared memory."""
        ...

    def wait(self) -> None:
        """Return when everything launched has ended."""
        ...

    def free(self) -> None:
        """Give back memory that is kept for later allocations."""
        ...


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


class DeviceSearch:
    """Best earlier matches of distinct rows.

    Args:
        backend: where the arrays are.
        rows: what to search.
        plan: its memory budget is for products and candidates; float16 rows come on top.
    """

    def __init__(self, backend: Backend, rows: Distinct, plan: Plan) -> None:
        xp = backend.xp
        self._backend = backend
        self._rows = rows
        self._bytes = plan.memory_budget
        self._largest = min(_LARGEST_SIDE, plan.largest_tile or _LARGEST_SIDE)
        m = len(rows.original)
        self._half, self._margin = _cast(xp, rows, plan.exact)
        self.score = xp.zeros(m, dtype=xp.float32)
        self.index = xp.zeros(m, dtype=xp.int64)
        self._crowded = xp.zeros(m, dtype=xp.uint8)

    def run(self, on_rows: Callable[[int], None] | None) -> None:
        """Fill ``score`` and ``index``; ``index`` counts within the cluster.

        Raises:
            DeviceError: the device has no room even for the smallest product.
        """
        sizes = np.diff(self._rows.offsets)
        order = np.argsort(-sizes, kind="stable")
        order = order[sizes[order] > 0]
        done = 0
        while done < len(order):
            largest = int(sizes[order[done]])
            if self._fits(largest):
                group = self._group(sizes, order[done:])
                if self._had_room(self._batch, group, sizes[group]):
                    self._report(on_rows, int(sizes[group].sum()))
                    done += len(group)
                continue
            begin = 0
            while begin < largest:
                end = min(begin + self._side(largest), largest)
                if self._had_room(self._strip, int(order[done]), begin, end):
                    self._report(on_rows, end - begin)
                    begin = end
            done += 1
        self._settle_crowded()

    def _had_room(self, work: Callable[..., None], *arguments: Any) -> bool:
        """Do ``work``; where memory runs out, settle for smaller products from now on."""
        try:
            work(*arguments)
        except self._backend.out_of_memory as error:
            self._backend.free()
            if self._bytes < _square_bytes(_SMALLEST_SIDE):
                raise DeviceError(
                    "the GPU has no memory left beside the rows of a cluster; raise n_clusters, "
                    "so that clusters are smaller, or use device=cpu"
                ) from error
            self._bytes = min(self._bytes, _square_bytes(_LARGEST_SIDE)) // 2
            return False
        return True

    def _report(self, on_rows: Callable[[int], None] | None, rows: int) -> None:
        if on_rows is not None:
            self._backend.wait()
            on_rows(rows)

    def _group(self, sizes: np.ndarray, order: np.ndarray) -> np.ndarray:
        """The small clusters, of those in ``order``, that are multiplied together."""
        largest = int(sizes[order[0]])
        like = int((sizes[order] >= _UNEVEN * largest).sum())
        return order[: min(self._bytes // _square_bytes(largest), like, _MATRICES)]

    def _fits(self, size: int) -> bool:
        """Whether all pairs of a cluster make one product."""
        return size <= self._largest and _square_bytes(size) <= self._bytes

    def _side(self, size: int) -> int:
        """Rows of a strip and columns of a tile: small against the cluster, or half is wasted."""
        side = min(self._largest, max(_USUAL_SIDE, size // 16))
        while side > _SMALLEST_SIDE and _square_bytes(side) > self._bytes:
            side //= 2
        return _round_up(side, 64)

    def _strip(self, cluster: int, begin: int, end: int) -> None:
        """Rows begin:end of one large cluster, tile by tile."""
        xp = self._backend.xp
        start = int(self._rows.offsets[cluster])
        side = self._side(int(self._rows.offsets[cluster + 1]) - start)
        unit = _Unit(xp, np.array([start]), np.array([end]), end - begin)
        scratch = xp.empty(side * side, dtype=xp.float32)
        later = self._half[None, start + begin : start + end]
        for left in range(0, end, side):
            right = min(left + side, end)
            product = scratch[: (end - begin) * (right - left)].reshape(1, end - begin, -1)
            self._backend.multiply(later, self._half[None, start + left : start + right], product)
            self._screen(unit, product, begin, left)
        self._settle(unit, begin)

    def _batch(self, group: np.ndarray, sizes: np.ndarray) -> None:
        """Small clusters, padded to the largest, in one product."""
        xp = self._backend.xp
        padded = _round_up(int(sizes.max()), 64)
        starts = self._rows.offsets[group]
        # Padding repeats the last row; neither kernel looks at it.
        rows = starts[:, None] + np.minimum(np.arange(padded)[None, :], sizes[:, None] - 1)
        half = self._half[xp.asarray(rows)]
        product = xp.empty((len(group), padded, padded), dtype=xp.float32)
        self._backend.multiply(half, half, product)
        unit = _Unit(xp, starts, sizes, padded)
        self._screen(unit, product, 0, 0)
        self._settle(unit, 0)

    def _screen(self, unit: "_Unit", product: Any, first_row: int, first_column: int) -> None:
        matrices, rows, columns = product.shape
        self._backend.launch(
            "screen", (rows, matrices), 256 if columns >= 1024 else 128, 0,
            product, np.int64(rows * columns), np.int64(columns),
            np.int32(first_row), np.int32(first_column), np.int32(columns),
            unit.start, unit.size, self._margin,
            unit.best, unit.count, unit.column, unit.value, np.int32(_SLOTS),
        )  # fmt: skip

    def _settle(self, unit: "_Unit", first_row: int) -> None:
        rows, dim = self._rows, self._rows.x.shape[1]
        self._backend.launch(
            "settle", (unit.rows, len(unit.start)), 128, 8 * dim,
            rows.x, np.int32(dim), rows.norms, rows.original, np.int32(first_row),
            unit.start, unit.size, self._margin,
            unit.best, unit.count, unit.column, unit.value, np.int32(_SLOTS),
            self.score, self.index, self._crowded,
        )  # fmt: skip

    def _settle_crowded(self) -> None:
        """Rows with more candidates than slots, by a float64 product."""
        xp = self._backend.xp
        crowded = np.flatnonzero(to_host(self._crowded))
        offsets = self._rows.offsets
        cluster_of = np.searchsorted(offsets, crowded, side="right") - 1
        for cluster in np.unique(cluster_of):
            span = slice(int(offsets[cluster]), int(offsets[cluster + 1]))
            original = self._rows.original[span]
            x, norms = self._rows.x[original], self._rows.norms[original]
            inside = crowded[cluster_of == cluster] - span.start
            for begin in range(0, len(inside), _SETTLE_ROWS):
                part = inside[begin : begin + _SETTLE_ROWS]
                rows = xp.asarray(part)
                columns = max(64, self._bytes // (len(part) * 40))
                score, index = settle_by_float64(x, norms, rows, columns, int(part[-1]))
                self.score[span.start + rows] = score
                self.index[span.start + rows] = index


class _Unit:
    """Rows that are screened and settled together, and their candidates."""

    def __init__(self, xp: Any, start: np.ndarray, size: np.ndarray, rows: int) -> None:
        self.rows = rows
        self.start = xp.asarray(start.astype(np.int64))
        self.size = xp.asarray(size.astype(np.int64))
        shape = (len(start), rows)
        self.best = xp.full(shape, -xp.inf, dtype=xp.float32)
        self.count = xp.zeros(shape, dtype=xp.int32)
        self.column = xp.empty((*shape, _SLOTS), dtype=xp.int32)
        self.value = xp.empty((*shape, _SLOTS), dtype=xp.float32)


def _cast(xp: Any, rows: Distinct, exact: bool) -> tuple[Any, Any]:
    """The rows in float16, padded with zeros; and how far below the best a candidate may lie."""
    m, dim = len(rows.original), rows.x.shape[1]
    half = xp.zeros((m, _round_up(dim, _ALIGNED)), dtype=xp.float16)
    residual = xp.empty(m, dtype=xp.float32)
    step = max(1, _CAST_BYTES // (4 * max(dim, 1)))
    for begin in range(0, m, step):
        part = slice(begin, begin + step)
        values = rows.x[rows.original[part]]
        half[part, :dim] = values
        values -= half[part, :dim]
        residual[part] = xp.sqrt((values * values).sum(axis=1))
    # The sum of squares errs by less than d units of float32, and so does twice its root.
    residual *= 1 + dim * 2.0**-23
    largest = float(residual.max()) if m else 0.0
    bound = cast_bound(dim, rows.deviation, residual.astype(xp.float64), largest)
    margin = 2 * bound + 2.0**-22  # the threshold itself is rounded to float32
    if not exact:
        margin = xp.maximum(margin - FAST_TOLERANCE, 0.0)
    return half, margin.astype(xp.float32)


def _square_bytes(side: int) -> int:
    """A product of ``side`` rows with as many, and their candidates."""
    padded = _round_up(side, 64)
    return padded * padded * 4 + padded * _SLOTS * 8


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
