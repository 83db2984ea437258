"""Float64 arithmetic over pairs of rows in one fixed order of summation.

A library's dot product may add its terms in an order that depends on the shape of the batch,
the number of threads or the device. These functions fold the products of a row in halves, an
order that depends on the dimension alone, with plain IEEE additions. The product of two
float32 numbers is exact in float64, so a fused multiply-add changes nothing either. Hence every
result is the same to the last bit for any batch, thread count, processor or GPU.

CuPy compiles its own expressions to take float32 numbers below 1.2e-38 for zero. `widened` and
`narrowed` do not; but scores that small compare as equal on a GPU.
"""

from typing import Any

import numpy as np

from dedup_assets.compute import cuda
from dedup_assets.compute.arrays import array_module

_CHUNK_BYTES_HOST = 1 << 20  # the products of one chunk stay in the processor's cache
_CHUNK_BYTES_DEVICE = 1 << 26  # larger ones are no quicker, and a few copies are held


def chunk_rows(xp: Any, dim: int) -> int:
    """Rows whose float64 terms make one chunk."""
    budget = _CHUNK_BYTES_HOST if xp.__name__ == "numpy" else _CHUNK_BYTES_DEVICE
    return max(1, budget // (8 * max(dim, 1)))


def widened(x: Any) -> Any:
    """``x``, float32, in float64, on its device."""
    if array_module(x) is np:
        return x.astype(np.float64)
    return cuda.cast(cuda.CudaBackend(), "widen", x, np.float64)


def narrowed(x: Any) -> Any:
    """``x``, float64, rounded to float32, on its device."""
    if array_module(x) is np:
        return x.astype(np.float32)
    return cuda.cast(cuda.CudaBackend(), "narrow", x, np.float32)


def _operand(x: Any) -> Any:
    """``x``, float32, to be combined with float64: NumPy widens it on the way, without a copy."""
    return x if array_module(x) is np else widened(x)


def fold(terms: Any) -> Any:
    """Sum each row of ``terms`` of shape (m, d), float64, in a fixed order; ``terms`` is scratch.

    Returns an array of shape (m,), float64.
    """
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        width = half
    return terms[:, 0].copy()


def squared_norms(x: Any) -> Any:
    """Squared length of each row of ``x`` of shape (n, d). Returns (n,) float64."""
    xp = array_module(x)
    out = xp.empty(len(x), dtype=xp.float64)
    step = chunk_rows(xp, x.shape[1])
    for start in range(0, len(x), step):
        rows = widened(x[start : start + step])
        rows *= rows
        out[start : start + step] = fold(rows)
    return out


def pair_dots(a: Any, a_rows: Any, b: Any, b_rows: Any) -> Any:
    """Dot products of ``a[a_rows[k]]`` and ``b[b_rows[k]]`` for each k.

    Args:
        a: of shape (n, d), float32.
        a_rows: of shape (m,), integer row numbers of ``a``.
        b: of shape (k, d), float32, on the device of ``a``.
        b_rows: of shape (m,), integer row numbers of ``b``.

    Returns:
        Array of shape (m,), float64, on the same device.
    """
    xp = array_module(a, b)
    out = xp.empty(len(a_rows), dtype=xp.float64)
    step = chunk_rows(xp, a.shape[1])
    for start in range(0, len(a_rows), step):
        part = slice(start, start + step)
        terms = widened(a[a_rows[part]])
        terms *= _operand(b[b_rows[part]])
        out[part] = fold(terms)
    return out


def pair_squared_distances(a: Any, b: Any, b_rows: Any) -> Any:
    """Squared Euclidean distances of ``a[k]`` and ``b[b_rows[k]]``; shapes as in `pair_dots`."""
    xp = array_module(a, b)
    out = xp.empty(len(a), dtype=xp.float64)
    step = chunk_rows(xp, a.shape[1])
    for start in range(0, len(a), step):
        part = slice(start, start + step)
        terms = widened(a[part])
        terms -= _operand(b[b_rows[part]])
        terms *= terms
        out[part] = fold(terms)
    return out
