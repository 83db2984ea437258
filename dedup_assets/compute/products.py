"""Quick products of unit rows, in the number format that a processor or GPU multiplies fastest.

A product may be off the cosine; a bound says how far. What is close to a decision within that
bound is computed again in float64 (`dedup_assets.compute.rescore`, `exact`).
"""

import functools
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from dedup_assets.compute import bfloat16
from dedup_assets.compute.arrays import array_module
from dedup_assets.compute.bounds import cast_bound, screen_bound
from dedup_assets.compute.threads import in_threads, one_blas_thread, thread_count

_PRODUCT_ON_HOST = 1 << 18  # elements of a product: it stays in the cache
_PRODUCT_ON_DEVICE = 1 << 27
_FEWEST_ROWS, _MOST_ROWS = 64, 4096
_TRIED = (128, 508, 768)  # rows, columns and dimensions of a product that is timed: a millisecond
_TRIES = 5


class RightSide(Protocol):
    """Some unit rows, of shape (k, d), as the right side of products."""

    def product(self, operand: Any, out: Any = None) -> Any:
        """Cosines up to `bound`, of shape (m, k), float32.

        Args:
            operand: m rows, from `Format.operand`.
            out: where to write them, contiguous; a new array if it is not given, whose lines may
                lie apart.
        """
        ...

    def bound(self, rows: Any, deviation: float) -> Any:
        """How far a product of each row may lie from the rounded cosine.

        Args:
            rows: of shape (m, d), float32.
            deviation: the most that a squared length of a row on either side differs from 1.

        Returns:
            (m,) float64.
        """
        ...


class Format(Protocol):
    """A number format to multiply in; ``packs``: whether making a right side takes its time."""

    packs: bool

    def operand(self, rows: Any) -> Any:
        """``rows`` of shape (m, d), float32, as the left side of products."""
        ...

    def right(self, rows: Any) -> RightSide:
        """``rows`` of shape (k, d), float32, as the right side of products."""
        ...


def screen_format(xp: ModuleType) -> Format:
    """The quickest format on a device, for what is the same in any: on a host it is measured."""
    return _narrow(xp, bfloat16_is_quicker)


def fit_format(xp: ModuleType, *, narrow: bool = True) -> Format:
    """The format that k-means multiplies in; ``narrow=False`` keeps to float32.

    Centroids show which one it was, and one seed is to give the same on one device. So it goes by
    the kind of the processor, and not by a measurement, which may come out differently.
    """
    return _narrow(xp, bfloat16.should_be_quicker) if narrow else Float32()


def _narrow(xp: ModuleType, on_host: Callable[[], bool]) -> Format:
    if xp is not np:
        from dedup_assets.compute.float16 import Float16

        return Float16()
    return BFloat16() if on_host() else Float32()


@functools.cache
def bfloat16_is_quicker() -> bool:
    """Whether this host multiplies in bfloat16 quicker than in float32.

    Both are tried in turns on one thread, for some milliseconds once a process, since what units
    a processor has says little: those of some are half as quick as their float32.
    """
    if not bfloat16.has_bfloat16():
        return False
    rows, columns, dim = _TRIED
    x = np.random.default_rng(0).standard_normal((rows + columns, dim), dtype=np.float32)
    out = np.empty((rows, columns), dtype=np.float32)
    formats: list[Format] = [BFloat16(), Float32()]
    sides = [(form.operand(x[:rows]), form.right(x[rows:])) for form in formats]
    seconds = np.empty((_TRIES, len(sides)))
    with one_blas_thread():
        for turn in range(_TRIES):
            for number, (operand, right) in enumerate(sides):
                began = time.perf_counter()
                right.product(operand, out)
                seconds[turn, number] = time.perf_counter() - began
    narrow, wide = seconds.min(axis=0)
    return bool(narrow < wide)


def row_chunks(
    xp: ModuleType,
    rows: int,
    columns: int,
    dim: int,
    *,
    memory_budget: int,
    threads: int | None = None,
) -> list[slice]:
    """Ranges of rows whose product with all of the right side is computed at once.

    ``threads`` is how many do so on a host; as many as the process was given if it is not said.
    """
    if xp is np:
        threads = threads or thread_count()
        step = int(np.clip(_PRODUCT_ON_HOST // columns, _FEWEST_ROWS, _MOST_ROWS)) // 64 * 64
    else:
        threads = 1
        step = _PRODUCT_ON_DEVICE // columns
    each = threads * (columns * 8 + dim * 40)  # a product and its mask; rows in float64
    step = max(1, min(step, memory_budget // each))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def for_each(xp: ModuleType, work: Callable[[slice], None], chunks: list[slice]) -> None:
    """Call ``work`` on each range of rows: on a CPU in all threads that the process was given."""
    threads = thread_count() if xp is np and len(chunks) > 1 else 1
    in_threads(work, chunks, threads, lambda chunk, nothing: None)


class Float32:
    """BLAS: any processor, and the smallest bound."""

    packs = False

    def operand(self, rows: Any) -> Any:
        return rows

    def right(self, rows: Any) -> RightSide:
        return _Float32Right(rows)


class _Float32Right:
    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def product(self, operand: Any, out: Any = None) -> Any:
        return operand @ self._rows.T if out is None else np.matmul(operand, self._rows.T, out=out)

    def bound(self, rows: Any, deviation: float) -> Any:
        return array_module(rows).full(len(rows), screen_bound(rows.shape[1], deviation))


class BFloat16:
    """NumKong's kernels (AVX512-BF16, AMX, Arm): up to twice the rate of float32, or more."""

    packs = True

    def operand(self, rows: np.ndarray) -> Any:
        return bfloat16.cast(rows)

    def right(self, rows: np.ndarray) -> RightSide:
        return _BFloat16Right(rows)


class _BFloat16Right:
    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self._width = bfloat16.quick_width(len(rows))
        self._packed = bfloat16.pack(rows, self._width)

    def product(self, operand: Any, out: np.ndarray | None = None) -> np.ndarray:
        columns = len(self._rows)
        if out is None or self._width > columns:
            whole = np.empty((operand.shape[0], self._width), dtype=np.float32)
            bfloat16.multiply(operand, self._packed, whole)
            if out is None:
                return whole[:, :columns]
            out[:] = whole[:, :columns]
        else:
            bfloat16.multiply(operand, self._packed, out)
        return out

    def bound(self, rows: np.ndarray, deviation: float) -> np.ndarray:
        residual = bfloat16.residuals(rows).astype(np.float64)
        return cast_bound(rows.shape[1], deviation, residual, self._largest_residual)

    @functools.cached_property
    def _largest_residual(self) -> float:
        return float(bfloat16.residuals(self._rows).max(initial=0.0))


class Blocks:
    """Products of some rows with each other, block of columns by block of columns, on the CPU.

    Args:
        form: what to multiply in.
        x: of shape (n, d), float32, unit rows.
        bound: of shape (n,), float32: how far a product of each may lie from the cosine.
        width: columns of a block, where the format packs.
        kept: how many packed blocks are kept; others are packed at each use.
    """

    def __init__(
        self, form: Format, x: np.ndarray, bound: np.ndarray, width: int = 0, kept: int = 0
    ) -> None:
        self._form, self._x, self.bound = form, x, bound
        self._width, self._kept = width, kept
        self._packed: dict[int, RightSide] = {}

    def operand(self, rows: slice | np.ndarray) -> Any:
        """``rows`` as `product` takes them on its left side."""
        return self._form.operand(self._x[rows])

    def product(self, operand: Any, left: int, right: int, scratch: np.ndarray) -> np.ndarray:
        """Products with the rows left:right, as blocks of columns one after another.

        Args:
            operand: m rows, from `operand`.
            left: first row of the right side, a multiple of the width of a block.
            right: end of the rows asked for; the last block may hold more columns than that,
                whose values mean nothing.
            scratch: float32, room for the result.

        Returns:
            A view of ``scratch`` of shape (blocks, m, width).
        """
        m = operand.shape[0]
        if not self._form.packs:
            out = scratch[: m * (right - left)].reshape(1, m, right - left)
            self._form.right(self._x[left:right]).product(operand, out[0])
            return out
        first, last = left // self._width, -(-right // self._width)
        out = scratch[: (last - first) * m * self._width].reshape(last - first, m, self._width)
        for block in range(first, last):
            self._block(block).product(operand, out[block - first])
        return out

    def _block(self, block: int) -> RightSide:
        packed = self._packed.get(block)
        if packed is None:
            rows = self._x[block * self._width : (block + 1) * self._width]
            if len(rows) < self._width:
                rows = np.concatenate(
                    [rows, np.zeros((self._width - len(rows), rows.shape[1]), rows.dtype)]
                )
            packed = self._form.right(rows)
            if block < self._kept:
                self._packed[block] = packed  # two threads may both do so: the same content
        return packed
