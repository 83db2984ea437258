"""What the machine can do: the rate of products, and of copies."""

import threading
from typing import Any

import numpy as np

from benchmarks.rounds import Contestant, Turns
from dedup_assets.compute.arrays import array_module
from dedup_assets.compute.threads import in_threads, thread_count

COPY = "copy of an array"
PRODUCTS = "float32 products"
TENSOR_CORES = "float16 products on tensor cores"
_COPY_BYTES_HOST, _COPY_BYTES_DEVICE = 1 << 28, 1 << 30
_COPY_PARTS = 64
_STRIP_HOST, _STRIP_DEVICE = 1024, 4096  # rows of one product
_TILE = (512, 1024)
_TENSOR_SIDE = 8192
_TENSOR_REPEAT = 10


def copying(xp: Any) -> Contestant:
    """Copies a large array; in all threads on a CPU."""
    source = xp.ones(_copy_bytes(xp) // 4, dtype=xp.float32)
    target = xp.empty_like(source)
    step = -(-len(source) // _COPY_PARTS)
    parts = [slice(start, start + step) for start in range(0, len(source), step)]

    def copy(part: slice) -> None:
        target[part] = source[part]

    def call() -> None:
        if xp is np:
            in_threads(copy, parts, thread_count(), lambda part, nothing: None)
        else:
            target[:] = source

    return Contestant(COPY, call)


def copy_bandwidth(xp: Any, turns: Turns) -> float:
    """Bytes read and written in a second, from the times of `copying`."""
    return 2 * _copy_bytes(xp) / turns.median


def _copy_bytes(xp: Any) -> int:
    return _COPY_BYTES_HOST if xp is np else _COPY_BYTES_DEVICE


def on_tensor_cores(xp: Any) -> list[Contestant]:
    """Large square products in float16 with sums in float32, stored in float32 and in float16."""
    from dedup_assets.compute.cuda import CudaBackend

    side, backend = _TENSOR_SIDE, CudaBackend()
    a = xp.random.standard_normal((1, side, side), dtype=xp.float32).astype(xp.float16)
    wide = xp.empty((1, side, side), dtype=xp.float32)

    def stored_wide() -> None:
        for _ in range(_TENSOR_REPEAT):
            backend.multiply(a, a, wide)

    contestants = [Contestant(f"{TENSOR_CORES}, stored in float32", stored_wide)]
    try:
        import torch
    except ImportError:
        return contestants
    if torch.cuda.is_available():
        b = torch.from_dlpack(a[0])
        narrow = torch.empty_like(b)

        def stored_narrow() -> None:
            for _ in range(_TENSOR_REPEAT):
                torch.mm(b, b.T, out=narrow)

        contestants.append(Contestant(f"{TENSOR_CORES}, stored in float16", stored_narrow))
    return contestants


def tensor_rate(turns: Turns) -> float:
    """Multiplications and additions in a second, from the times of `on_tensor_cores`."""
    return _TENSOR_REPEAT * 2 * _TENSOR_SIDE**3 / turns.median


def all_products(pairs: list[tuple[Any, Any]]) -> list[Contestant]:
    """Float32 products of all rows of two arrays, for several pairs of them; in two forms.

    In large strips, where the library is to use all threads; and on a CPU also in tiles that each
    thread computes by itself, which is quicker where others use the processor too.
    """
    xp = array_module(pairs[0][0])
    height = _STRIP_HOST if xp is np else _STRIP_DEVICE

    def strips() -> None:
        for rows, columns in pairs:
            out = xp.empty((min(height, len(rows)), len(columns)), dtype=xp.float32)
            for start in range(0, len(rows), height):
                part = rows[start : start + height]
                xp.matmul(part, columns.T, out=out[: len(part)])

    contestants = [Contestant(f"{PRODUCTS}, strips", strips)]
    if xp is np:
        contestants.append(Contestant(f"{PRODUCTS}, tiles", lambda: _tiles(pairs)))
    return contestants


def _tiles(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    own = threading.local()
    height, width = _TILE

    def multiply(task: tuple[np.ndarray, np.ndarray]) -> None:
        rows, columns = task
        if not hasattr(own, "out"):
            own.out = np.empty(height * width, dtype=np.float32)
        out = own.out[: len(rows) * len(columns)].reshape(len(rows), len(columns))
        np.matmul(rows, columns.T, out=out)

    tasks = (
        (rows[top : top + height], columns[left : left + width])
        for rows, columns in pairs
        for top in range(0, len(rows), height)
        for left in range(0, len(columns), width)
    )
    in_threads(multiply, tasks, thread_count(), lambda task, nothing: None)


def quickest(turns: dict[str, Turns], names: list[str]) -> str:
    """The one with the lowest median."""
    return min(names, key=lambda name: turns[name].median)
