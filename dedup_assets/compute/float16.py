"""Products in float16 on a GPU, by tensor cores; what is rounded away is known, so a bound follows.

Their rounding is known too, where CuPy's float32 product depends on CUPY_TF32.
"""

import functools
from typing import Any

import numpy as np

from dedup_assets.compute import cuda
from dedup_assets.compute.bounds import cast_bound
from dedup_assets.compute.cuda import Backend

ALIGNED = 8
"""Numbers that tensor cores load and store best together."""

_THREADS = 64


def halve(backend: Backend, x: Any, rows: Any) -> tuple[Any, Any]:
    """Some rows in float16, and the length of the rounding error of each.

    Args:
        x: of shape (n, d), float32, contiguous.
        rows: of shape (m,), int64, row numbers.

    Returns:
        (m, k) float16, k the next multiple of `ALIGNED`, padded with zeros; (m,) float32, rounded
        up. Both on the device.
    """
    xp = backend.xp
    m, dim = len(rows), x.shape[1]
    padded = aligned(dim)
    half = xp.empty((m, padded), dtype=xp.float16)
    residual = xp.empty(m, dtype=xp.float32)
    if m:
        arguments = (x, np.int32(dim), rows, half, np.int32(padded), residual)
        backend.launch("halve", (m, 1), _THREADS, 0, *arguments)
    # The sum of squares errs by less than d units of float32, and so does twice its root.
    residual *= 1 + dim * 2.0**-23
    return half, residual


def aligned(number: int) -> int:
    return -(-number // ALIGNED) * ALIGNED


class Float16:
    """`products.Format` on the current CUDA device."""

    packs = True

    def __init__(self) -> None:
        self._backend = cuda.CudaBackend()

    def operand(self, rows: Any) -> Any:
        return _all(self._backend, rows)[0]

    def right(self, rows: Any) -> "_Float16Right":
        return _Float16Right(self._backend, rows)


class _Float16Right:
    def __init__(self, backend: Backend, rows: Any) -> None:
        self._backend = backend
        self._half, self._residual = _all(backend, rows)

    def product(self, operand: Any, out: Any = None) -> Any:
        xp = self._backend.xp
        count = len(self._half)
        if out is None:
            out = xp.empty((len(operand), aligned(count)), dtype=xp.float32)[:, :count]
        self._backend.multiply(operand[None], self._half[None], out[None])
        return out

    def bound(self, rows: Any, deviation: float) -> Any:
        residual = _all(self._backend, rows)[1].astype(self._backend.xp.float64)
        return cast_bound(rows.shape[1], deviation, residual, self._largest_residual)

    @functools.cached_property
    def _largest_residual(self) -> float:
        return float(self._residual.max())


def _all(backend: Backend, rows: Any) -> tuple[Any, Any]:
    xp = backend.xp
    return halve(backend, xp.ascontiguousarray(rows), xp.arange(len(rows)))
