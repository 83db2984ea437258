"""Quick products of rows on the CPU, each with a bound of its error."""

from typing import Any, Protocol

import numpy as np

from dedup_assets.compute.bfloat16 import cast, multiply, pack
from dedup_assets.compute.bounds import cast_bound, screen_bound


class Screen(Protocol):
    """Products of some unit rows, of shape (n, d), in one number format."""

    def bound(self, rows: slice | np.ndarray) -> np.ndarray:
        """How far a product of each of ``rows`` may lie from the cosine; (m,) float32."""
        ...

    def operand(self, rows: slice | np.ndarray) -> Any:
        """``rows`` in the form that `product` takes on its left side."""
        ...

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
        ...


class Float32Screen:
    """BLAS in float32: any processor, and the smallest bound."""

    def __init__(self, x: np.ndarray, deviation: float) -> None:
        self._x = x
        self._bound = screen_bound(x.shape[1], deviation)

    def bound(self, rows: slice | np.ndarray) -> np.ndarray:
        return np.full(len(self._x[rows]), self._bound, dtype=np.float32)

    def operand(self, rows: slice | np.ndarray) -> np.ndarray:
        return self._x[rows]

    def product(
        self, operand: np.ndarray, left: int, right: int, scratch: np.ndarray
    ) -> np.ndarray:
        shape = (1, len(operand), right - left)
        out = scratch[: shape[1] * shape[2]].reshape(shape)
        np.matmul(operand, self._x[left:right].T, out=out[0])
        return out


class BFloat16Screen:
    """NumKong's bfloat16 kernels (AVX512-BF16, AMX, Arm): twice the rate of float32 or more.

    Args:
        x: of shape (n, d), float32, unit rows.
        deviation: the most that a squared length differs from 1.
        residuals: of shape (n,), as `bfloat16.residuals` gives them.
        width: columns of a block.
        packed_bytes: memory for packed blocks that are kept; others are packed at each use.
    """

    def __init__(
        self,
        x: np.ndarray,
        deviation: float,
        residuals: np.ndarray,
        width: int,
        packed_bytes: int,
    ) -> None:
        self._x = x
        self._width = width
        dim = x.shape[1]
        largest = float(residuals.max(initial=0.0))
        bound = cast_bound(dim, deviation, residuals.astype(np.float64), largest)
        self._bound = np.nextafter(bound.astype(np.float32), np.float32(np.inf))
        self._kept = packed_bytes // (2 * max(dim, 1) * width)
        self._packed: dict[int, Any] = {}

    def bound(self, rows: slice | np.ndarray) -> np.ndarray:
        return self._bound[rows]

    def operand(self, rows: slice | np.ndarray) -> Any:
        return cast(self._x[rows])

    def product(self, operand: Any, left: int, right: int, scratch: np.ndarray) -> np.ndarray:
        first, last = left // self._width, -(-right // self._width)
        shape = (last - first, operand.shape[0], self._width)
        out = scratch[: shape[0] * shape[1] * shape[2]].reshape(shape)
        for block in range(first, last):
            multiply(operand, self._block(block), out[block - first])
        return out

    def _block(self, block: int) -> Any:
        packed = self._packed.get(block)
        if packed is None:
            rows = self._x[block * self._width : (block + 1) * self._width]
            if len(rows) < self._width:
                rows = np.concatenate(
                    [rows, np.zeros((self._width - len(rows), rows.shape[1]), rows.dtype)]
                )
            packed = pack(rows)
            if block < self._kept:
                self._packed[block] = packed  # two threads may both do so: the same content
        return packed
