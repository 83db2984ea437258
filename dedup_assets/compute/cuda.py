"""CuPy and cuBLAS behind the search on a GPU. Nothing here is imported where there is no CuPy."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

_ONE, _ZERO = np.ones(1, dtype=np.float32), np.zeros(1, dtype=np.float32)
_SHARED_BYTES = 48 * 1024  # what a kernel may use without asking


class CudaBackend:
    """`device_search.Backend` on the current CUDA device."""

    def __init__(self) -> None:
        import cupy

        self.xp = cupy
        self.out_of_memory = cupy.cuda.memory.OutOfMemoryError

    def multiply(self, later: Any, earlier: Any, out: Any) -> None:
        from cupy.cuda import cublas, device, runtime

        batch, m, k = later.shape
        n = earlier.shape[1]
        # cuBLAS counts by columns: our (m, n) rows of `out` are its (n, m) matrix.
        cublas.gemmStridedBatchedEx(
            device.get_cublas_handle(), cublas.CUBLAS_OP_T, cublas.CUBLAS_OP_N, n, m, k,
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
    import cupy

    code = Path(__file__).with_name("kernels.cu").read_text()
    return cupy.RawModule(code=code, options=("-std=c++17", "--fmad=false"))
