"""Products of many rows with few centroids, as quick as the processor or GPU allows."""

from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from dedup_assets.compute import bfloat16
from dedup_assets.compute.arrays import array_module
from dedup_assets.compute.bounds import cast_bound, screen_bound
from dedup_assets.compute.threads import in_threads, thread_count

_PRODUCT_ON_HOST = 1 << 18  # elements of a product: it stays in the cache
_PRODUCT_ON_DEVICE = 1 << 27
_FEWEST_ROWS, _MOST_ROWS = 64, 4096
_ALIGNED = 8  # numbers in what tensor cores load and store best


class Products(Protocol):
    """Products of unit rows with some centroids."""

    def set_centroids(self, centroids: Any) -> None:
        """Multiply with these from now on; of shape (k, d), float32, unit rows."""
        ...

    def operand(self, rows: Any) -> Any:
        """``rows`` of shape (m, d), float32, in the form that `product` takes."""
        ...

    def product(self, operand: Any) -> Any:
        """Cosines up to `bound`, of shape (m, k), float32."""
        ...

    def bound(self, rows: Any, deviation: float) -> Any:
        """How far a product of each row may lie from the rounded cosine.

        Args:
            rows: of shape (m, d), float32.
            deviation: the most that a squared length of a row or centroid differs from 1.

        Returns:
            (m,) float64.
        """
        ...


def products(xp: ModuleType, *, narrow: bool = True) -> Products:
    """The quickest products on a device; ``narrow=False`` keeps to float32."""
    if narrow and xp is not np:
        return _Float16Products()
    return _BFloat16Products() if narrow and bfloat16.has_bfloat16() else _Float32Products()


def row_chunks(
    xp: ModuleType,
    rows: int,
    centroids: int,
    dim: int,
    *,
    memory_budget: int,
    threads: int | None = None,
) -> list[slice]:
    """Ranges of rows whose product with all centroids is computed at once.

    ``threads`` is how many do so on a host; as many as the process was given if it is not said.
    """
    if xp is np:
        threads = threads or thread_count()
        step = int(np.clip(_PRODUCT_ON_HOST // centroids, _FEWEST_ROWS, _MOST_ROWS))
    else:
        threads = 1
        step = _PRODUCT_ON_DEVICE // centroids
    each = threads * (centroids * 8 + dim * 40)  # a product and its mask; rows in float64
    step = max(1, min(step, memory_budget // each))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def for_each(xp: ModuleType, work: Callable[[slice], None], chunks: list[slice]) -> None:
    """Call ``work`` on each range of rows: on a CPU in all threads that the process was given."""
    threads = thread_count() if xp is np and len(chunks) > 1 else 1
    in_threads(work, chunks, threads, lambda chunk, nothing: None)


class _Float32Products:
    def set_centroids(self, centroids: Any) -> None:
        self._centroids = centroids

    def operand(self, rows: Any) -> Any:
        return rows

    def product(self, operand: Any) -> Any:
        return operand @ self._centroids.T

    def bound(self, rows: Any, deviation: float) -> Any:
        return array_module(rows).full(len(rows), screen_bound(rows.shape[1], deviation))


class _BFloat16Products:
    def set_centroids(self, centroids: np.ndarray) -> None:
        self._count = len(centroids)
        self._packed = bfloat16.pack(centroids)
        self._residual = float(bfloat16.residuals(centroids).max(initial=0.0))

    def operand(self, rows: np.ndarray) -> Any:
        return bfloat16.cast(rows)

    def product(self, operand: Any) -> np.ndarray:
        out = np.empty((operand.shape[0], self._count), dtype=np.float32)
        bfloat16.multiply(operand, self._packed, out)
        return out

    def bound(self, rows: np.ndarray, deviation: float) -> np.ndarray:
        residual = bfloat16.residuals(rows).astype(np.float64)
        return cast_bound(rows.shape[1], deviation, residual, self._residual)


class _Float16Products:
    """Tensor cores, whose rounding is known; CuPy's float32 product depends on CUPY_TF32."""

    def __init__(self) -> None:
        from dedup_assets.compute.cuda import CudaBackend

        self._backend = CudaBackend()

    def set_centroids(self, centroids: Any) -> None:
        self._centroids = self.operand(centroids)
        self._residual = float(self._residuals(centroids).max())

    def operand(self, rows: Any) -> Any:
        xp = self._backend.xp
        half = xp.zeros((len(rows), _aligned(rows.shape[1])), dtype=xp.float16)
        half[:, : rows.shape[1]] = rows
        return half

    def product(self, operand: Any) -> Any:
        xp = self._backend.xp
        count = len(self._centroids)
        out = xp.empty((1, len(operand), _aligned(count)), dtype=xp.float32)[:, :, :count]
        self._backend.multiply(operand[None], self._centroids[None], out)
        return out[0]

    def bound(self, rows: Any, deviation: float) -> Any:
        residual = self._residuals(rows).astype(self._backend.xp.float64)
        return cast_bound(rows.shape[1], deviation, residual, self._residual)

    def _residuals(self, rows: Any) -> Any:
        xp = self._backend.xp
        error = rows - rows.astype(xp.float16)
        return xp.sqrt((error * error).sum(axis=1)) * (1 + rows.shape[1] * 2.0**-23)


def _aligned(number: int) -> int:
    return -(-number // _ALIGNED) * _ALIGNED
