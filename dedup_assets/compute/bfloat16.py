"""Products in bfloat16 on a CPU, by NumKong's kernels (AVX512-BF16, AMX, Arm).

Twice the rate of float32 or more. What is rounded away is known exactly, so a bound follows.
"""

import functools
import importlib
import importlib.util
from typing import Any

import numpy as np

from dedup_assets.compute.exact import chunk_rows

_UNITS = ("genoa", "sapphireamx", "graniteamx", "neonbfdot", "svebfdot", "smebf16")


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 natively and NumKong can use it."""
    if importlib.util.find_spec("numkong") is None:
        return False
    capabilities = _numkong().get_capabilities()
    return any(capabilities.get(unit, False) for unit in _UNITS)


def cast(rows: np.ndarray) -> Any:
    """``rows`` of shape (m, d), float32, rounded to bfloat16: the left side of a product."""
    return _numkong().astype(np.ascontiguousarray(rows), "bf16")


def pack(rows: np.ndarray) -> Any:
    """``rows`` of shape (k, d), float32, rounded and laid out as the right side of a product."""
    return _numkong().dots_pack(cast(rows), dtype="bf16")


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
