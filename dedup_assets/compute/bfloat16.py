"""Products in bfloat16 on a CPU, by NumKong's kernels (AVX512-BF16, AMX, Arm).

What is rounded away is known exactly, so a bound follows. Up to twice the rate of float32 or more,
but on Intel's processors without AMX two thirds of it (``benchmarks.decisions``).
"""

import functools
import importlib
import importlib.util
from typing import Any

import numpy as np

from dedup_assets.compute.exact import chunk_rows

_TILED = ("sapphireamx", "graniteamx", "smebf16")
_UNITS = ("genoa", "neonbfdot", "svebfdot", *_TILED)
_SLOW = ("sapphire",)  # Intel's: what has AVX512-FP16 has AVX512-BF16 that is slower than float32
_FEWEST_PADDED = 128


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 natively and NumKong can use it."""
    return _has_one_of(_UNITS)


def should_be_quicker() -> bool:
    """Whether processors of this kind multiply bfloat16 quicker than float32."""
    return has_bfloat16() and (_has_one_of(_TILED) or not _has_one_of(_SLOW))


def quick_width(columns: int) -> int:
    """The least width of a right side, from ``columns`` on, that is multiplied at the full rate.

    Without matrix units NumKong takes a kernel of 1 x 8 for a multiple of 8 columns, which is
    slower than its kernel of 4 x 4 (``benchmarks.decisions`` says by how much). Both add in the
    same order.
    """
    if columns < _FEWEST_PADDED or _has_one_of(_TILED):
        return columns
    return columns + (4 - columns) % 8


@functools.cache
def _has_one_of(units: tuple[str, ...]) -> bool:
    if importlib.util.find_spec("numkong") is None:
        return False
    capabilities = _numkong().get_capabilities()
    return any(capabilities.get(unit, False) for unit in units)


def cast(rows: np.ndarray) -> Any:
    """``rows`` of shape (m, d), float32, rounded to bfloat16: the left side of a product."""
    return _numkong().astype(np.ascontiguousarray(rows), "bf16")


def pack(rows: np.ndarray, width: int) -> Any:
    """``rows`` of shape (k, d), float32, rounded and laid out as the right side of a product.

    Rows of zeros are added up to ``width``.
    """
    right = cast(rows)
    if width > len(rows):
        padded = np.zeros((width, rows.shape[1]), dtype=np.uint16)
        padded[: len(rows)] = np.asarray(right)
        right = _numkong().from_pointer(padded.ctypes.data, padded.shape, "bf16", owner=padded)
    return _numkong().dots_pack(right, dtype="bf16")


def multiply(operand: Any, packed: Any, out: np.ndarray) -> None:
    """Write all dot products, summed in float32, to ``out`` of shape (m, k), contiguous."""
    tensor = _numkong().from_pointer(out.ctypes.data, out.shape, "float32", owner=out)
    _numkong().dots_packed(operand, packed, out=tensor)


def residuals(x: np.ndarray) -> np.ndarray:
    """Length of the rounding error of each row of ``x``; (n,) float32, rounded up."""
    step = chunk_rows(np, x.shape[1])
    out = np.empty(len(x), dtype=np.float32)
    for start in range(0, len(x), step):
        rows = np.ascontiguousarray(x[start : start + step])
        error = rows - np.asarray(_numkong().astype(cast(rows), "f32"))
        out[start : start + step] = np.einsum("ij,ij->i", error, error)
    # The sum of squares errs by less than d units of float32, and so does twice its root.
    return np.sqrt(out) * np.float32(1 + x.shape[1] * 2.0**-23)


@functools.cache
def _numkong() -> Any:
    return importlib.import_module("numkong")
