"""CuPy and cuBLAS behind the search on a GPU; CuPy is imported when a backend is made."""

import functools
import importlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dedup_assets.compute.arrays import DeviceError

_ONE, _ZERO = np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32)
_CAST_THREADS = 256
_SHARED_BYTES = 48 * 1024  # what a kernel may use without asking


class Backend(Protocol):
    """A GPU, so narrow that everything but the launches themselves is tested without one."""

    xp: Any

    def multiply(self, later: Any, earlier: Any, out: Any) -> None:
        """``out[b] = later[b] @ earlier[b].T`` for float16 operands and float32 sums.

        Shapes are (b, m, k), (b, n, k) and (b, m, n); k is a multiple of 8, its numbers lie next
        to each other, and so do the n of ``out``.
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


class CudaBackend:
    """`Backend` on the current CUDA device."""

    def __init__(self) -> None:
        self.xp = importlib.import_module("cupy")

    def multiply(self, later: Any, earlier: Any, out: Any) -> None:
        cublas, runtime = self.xp.cuda.cublas, self.xp.cuda.runtime
        batch, m, k = later.shape
        n = earlier.shape[1]
        half, single = runtime.CUDA_R_16F, runtime.CUDA_R_32F
        # cuBLAS counts by columns: our (m, n) rows of `out` are its (n, m) matrix.
        left: tuple[Any, ...] = (earlier.data.ptr, half, earlier.strides[1] // 2)
        right: tuple[Any, ...] = (later.data.ptr, half, later.strides[1] // 2)
        result: tuple[Any, ...] = (out.data.ptr, single, out.strides[1] // 4)
        call = (
            self.xp.cuda.device.get_cublas_handle(),
            *(cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, n, m, k),
        )
        one, zero = _ONE.ctypes.data, _ZERO.ctypes.data
        # Sums and result are both float32, so nothing shorter is rounded to in between.
        how = (cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT)
        if batch == 1:
            cublas.gemmEx(*call, one, *left, *right, zero, *result, *how)
            return
        left = (*left, earlier.strides[0] // 2)
        right = (*right, later.strides[0] // 2)
        result = (*result, out.strides[0] // 4)
        cublas.gemmStridedBatchedEx(*call, one, *left, *right, zero, *result, batch, *how)

    def launch(
        self, kernel: str, grid: tuple[int, int], threads: int, shared: int, *arguments: Any
    ) -> None:
        function = _kernel(kernel)
        if shared > _SHARED_BYTES:
            limit = self.xp.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]
            if shared > limit:
                raise DeviceError(
                    f"rows of this dimension need {shared} bytes of shared memory, and the GPU "
                    f"has {limit}; use device=cpu"
                )
            function.max_dynamic_shared_size_bytes = shared
        function(grid, (threads,), arguments, shared_mem=shared)

    def wait(self) -> None:
        self.xp.cuda.get_current_stream().synchronize()

    def free(self) -> None:
        self.xp.get_default_memory_pool().free_all_blocks()


def cast(backend: Backend, kernel: str, x: Any, dtype: Any) -> Any:
    """``x`` in another format by a kernel that has no flush to zero; CuPy's own casts have one."""
    xp = backend.xp
    x = xp.ascontiguousarray(x)
    out = xp.empty(x.shape, dtype=dtype)
    if x.size:
        blocks = -(-x.size // _CAST_THREADS)
        backend.launch(kernel, (blocks, 1), _CAST_THREADS, 0, x, out, np.int64(x.size))
    return out


@functools.cache
def _kernel(name: str) -> Any:
    """A compiled kernel, on whichever device is current."""
    return _module().get_function(name)


@functools.cache
def _module() -> Any:
    code = Path(__file__).with_name("kernels.cu").read_text()
    options = ("-std=c++17", "--fmad=false")
    return importlib.import_module("cupy").RawModule(code=code, options=options)
