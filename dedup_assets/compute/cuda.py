"""CuPy and cuBLAS behind the search on a GPU; CuPy is imported when a backend is made."""

import functools
import importlib
from pathlib import Path
from typing import Any

import numpy as np

_ONE, _ZERO = np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32)
_SHARED_BYTES = 48 * 1024  # what a kernel may use without asking


class CudaBackend:
    """`device_search.Backend` on the current CUDA device."""

    def __init__(self) -> None:
        self.xp = importlib.import_module("cupy")
        self.out_of_memory = self.xp.cuda.memory.OutOfMemoryError

    def multiply(self, later: Any, earlier: Any, out: Any) -> None:
        cuda = self.xp.cuda
        cublas, runtime = cuda.cublas, cuda.runtime
        batch, m, k = later.shape
        n = earlier.shape[1]
        # cuBLAS counts by columns: our (m, n) rows of `out` are its (n, m) matrix.
        cublas.gemmStridedBatchedEx(
            cuda.device.get_cublas_handle(), cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, n, m, k,
            _ONE.ctypes.data,
            earlier.data.ptr, runtime.CUDA_R_16F, k, n * k,
            later.data.ptr, runtime.CUDA_R_16F, k, m * k,
            _ZERO.ctypes.data,
            out.data.ptr, runtime.CUDA_R_32F, n, m * n,
            batch, cublas.CUBLAS_COMPUTE_32F, cublas.CUBLAS_GEMM_DEFAULT,
        )  # fmt: skip

    def launch(
        self, kernel: str, grid: tuple[int, int], threads: int, shared: int, *arguments: Any
    ) -> None:
        function = _module(self.xp.cuda.Device().id).get_function(kernel)
        if shared > _SHARED_BYTES:
            function.max_dynamic_shared_size_bytes = shared
        function(grid, (threads,), arguments, shared_mem=shared)

    def wait(self) -> None:
        self.xp.cuda.get_current_stream().synchronize()

    def free(self) -> None:
        self.xp.get_default_memory_pool().free_all_blocks()


@functools.cache
def _module(device: int) -> Any:
    """The compiled kernels, once for each device."""
    code = Path(__file__).with_name("kernels.cu").read_text()
    options = ("-std=c++17", "--fmad=false")
    return importlib.import_module("cupy").RawModule(code=code, options=options)
