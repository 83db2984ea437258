"""Rows for tests, where nothing but NumPy is installed."""

from typing import Any

import numpy as np


def unit(x: Any) -> np.ndarray:
    """Float32 rows of length one."""
    wide = np.asarray(x, dtype=np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


def with_duplicates(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Unit rows, of which some are copies of others and some almost are."""
    x = unit(rng.normal(size=(n, dim)))
    x[n // 2 :: 5] = x[: len(x[n // 2 :: 5])]
    x[1::7] = unit(x[::7][: len(x[1::7])] + 1e-4 * rng.normal(size=x[1::7].shape))
    return x
