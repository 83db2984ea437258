"""The array module of some data, and the device a user asked for."""

import functools
import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

DEFAULT_MEMORY_BUDGET = 1 << 30
"""Bytes that one computation may hold beside its inputs."""


_NO_MEMORY = {"CUBLASError": (1, 3), "CUDARuntimeError": (2,), "CUDADriverError": (2,)}
"""Codes that a library answers with where memory ran out. cuBLAS says 1 of its handle."""

_log = logging.getLogger(__name__)


class DeviceError(RuntimeError):
    """The device that was asked for is not there, or has no memory left."""


def array_module(*arrays: Any) -> ModuleType:
    """Return ``cupy`` if any of ``arrays`` lives on a GPU, else ``numpy``.

    CuPy is never imported here: an array of its type can only exist once it has been.
    """
    cupy = sys.modules.get("cupy")
    if cupy is not None and any(isinstance(a, cupy.ndarray) for a in arrays):
        return cupy
    return np


def to_host(array: Any) -> np.ndarray:
    """Return ``array`` as a NumPy array (a copy only if it lives on a device)."""
    return array.get() if hasattr(array, "get") else array


def to_device(xp: ModuleType, array: np.ndarray) -> Any:
    """``array`` as one of ``xp``: itself for NumPy, else a copy on the current device.

    ``cupy.asarray`` would copy it to pinned memory first, rounded up to a power of two, and keep
    that for ever.

    Raises:
        DeviceError: the device has no room for it.
    """
    if xp is np:
        return array
    with device_memory(xp, f"for {array.nbytes:,} bytes of rows"):
        out = xp.empty(array.shape, dtype=array.dtype)
    copy_to(out, array)
    return out


def copy_to(out: Any, array: np.ndarray) -> None:
    """Fill ``out``, contiguous and on a device, from the host; ``array`` is free afterwards."""
    with out.device:  # each thread has a current one of its own
        out.set(array)
        sys.modules["cupy"].cuda.get_current_stream().synchronize()


@contextmanager
def device_memory(xp: ModuleType, what: str, advice: str = "use device=cpu") -> Iterator[None]:
    """Turn an error about memory of the device into one line.

    Raises:
        DeviceError: there is no memory left.
    """
    try:
        yield
    except Exception as error:
        if xp is np or not is_out_of_memory(error):
            raise
        raise DeviceError(f"the GPU has no memory left {what}; {advice}") from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device refused memory: to CuPy, to cuBLAS (its handle, too) or to the runtime."""
    if isinstance(error, MemoryError):  # so is CuPy's own
        return True
    return getattr(error, "status", None) in _NO_MEMORY.get(type(error).__name__, ())


def resolve_device(device: str) -> str:
    """Turn ``auto`` into what this machine has, and what computes right there.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, or a GPU by its number, such as ``cuda:1``.

    Raises:
        DeviceError: a GPU was asked for, and CuPy, a CUDA device or that one is missing.
    """
    if device == "cpu":
        return "cpu"
    missing = _missing_for_cuda()
    if device == "auto":
        return "cuda" if missing is None and _passes_self_test() else "cpu"
    if missing is not None:
        raise DeviceError(
            f"device={device} needs a CUDA device and CuPy, and {missing}; install the extra "
            "gpu-cu12 or gpu-cu13 on a machine with an NVIDIA GPU, or use device=auto or cpu"
        )
    number = _number(device)
    if number is not None:
        count = importlib.import_module("cupy").cuda.runtime.getDeviceCount()
        if number >= count:
            raise DeviceError(f"device={device} is not there: the last one is cuda:{count - 1}")
    return device


def device_array_module(device: str) -> ModuleType:
    """The array module that computes on ``device`` (see `resolve_device`).

    A GPU that is named by its number becomes the current one of the calling thread.
    """
    if device == "cpu":
        return np
    cupy = importlib.import_module("cupy")
    number = _number(device)
    if number is not None:
        cupy.cuda.Device(number).use()
    return cupy


def _number(device: str) -> int | None:
    _, named, number = device.partition(":")
    return int(number) if named else None


@functools.cache
def _passes_self_test() -> bool:
    """Whether a small search on the GPU equals that on the CPU; where not, one line says so."""
    from dedup_assets.compute.self_test import failure

    found = failure()
    if found is not None:
        _log.warning("device=auto computes on the CPU, since the GPU failed a self-test: %s", found)
    return found is None


@functools.cache
def _missing_for_cuda() -> str | None:
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"the CUDA runtime answered: {error}"
    return None if count > 0 else "no CUDA device is visible"
