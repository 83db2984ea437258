"""The backend of the GPU search on a CPU: the real kernels, compiled by a C++ compiler."""

import ctypes
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dedup_assets.compute import device_search

HERE = Path(__file__).parent
KERNELS = Path(device_search.__file__).with_name("kernels.cu")
COMPILER = shutil.which("g++") or shutil.which("clang++")
_DYNAMIC = "extern __shared__ double terms[];"
_SHARED = 4096  # doubles of dynamic shared memory
_THREADS = 64  # of a block; two warps, unless a test wants those that were asked for
_WITHOUT_BARRIERS = ("add_rows", "widen", "narrow")  # whose threads cover what there is to do


def compile_kernels(folder: Path) -> ctypes.CDLL:
    """Build ``kernels.cu`` for this processor."""
    assert COMPILER is not None
    source = KERNELS.read_text()
    assert source.count(_DYNAMIC) == 1
    (folder / "kernels_on_cpu.cu").write_text(
        source.replace(_DYNAMIC, f"static double terms[{_SHARED}];")
    )
    library = folder / "kernels.so"
    subprocess.run(
        [
            *(COMPILER, "-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC"),
            *("-Wall", "-Wno-unknown-pragmas", "-Wno-unused", f"-I{folder}", f"-I{HERE}"),
            *("-o", str(library), str(HERE / "on_cpu.cpp")),
        ],
        check=True,
    )
    return ctypes.CDLL(str(library))


class EmulatedBackend:
    """`device_search.Backend` with arrays in host memory.

    Attributes:
        xp: NumPy, or something stricter.
        launches: names of the kernels that were run.
        shapes: of the products so far.
        room: elements of the largest product that fits.
        all_threads: whether blocks have the threads that were asked for, which takes longer.
    """

    def __init__(self, library: ctypes.CDLL, xp: ModuleType = np) -> None:
        self._library = library
        self.xp: Any = xp
        self.launches: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self.room = 1 << 40
        self.all_threads = False

    def multiply(self, later: np.ndarray, earlier: np.ndarray, out: np.ndarray) -> None:
        assert later.dtype == earlier.dtype == np.float16
        assert out.dtype == np.float32
        for array in (later, earlier, out):
            assert array.strides[2] == array.itemsize
            assert array.strides[1] % 16 == 0
            assert len(array) == 1 or array.strides[0] % 16 == 0
        assert later.shape[2] == earlier.shape[2]
        assert later.shape[2] % 8 == 0
        assert out.shape == (len(later), later.shape[1], earlier.shape[1])
        if out.size > self.room:
            raise MemoryError
        self.shapes.append(out.shape)
        for b in range(len(later)):
            out[b] = later[b].astype(np.float32) @ earlier[b].astype(np.float32).T

    def launch(
        self, kernel: str, grid: tuple[int, int], threads: int, shared: int, *arguments: Any
    ) -> None:
        assert threads % 32 == 0
        assert threads <= 1024
        assert 0 < grid[0] < 2**31
        assert 0 < grid[1] <= 65535
        assert shared <= 8 * _SHARED
        self.launches.append(kernel)
        if not (self.all_threads or kernel in _WITHOUT_BARRIERS):
            threads = _THREADS
        passed = [ctypes.c_uint(value) for value in (*grid, threads)]
        passed += [_passed(argument) for argument in arguments]
        getattr(self._library, f"run_{kernel}")(*passed)

    def wait(self) -> None:
        pass

    def free(self) -> None:
        pass


def _passed(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return ctypes.c_void_p(argument.ctypes.data)
    return {np.int32: ctypes.c_int, np.int64: ctypes.c_longlong}[type(argument)](int(argument))
