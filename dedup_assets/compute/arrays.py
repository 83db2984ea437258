"""The array module of some data, and the device a user asked for."""

import functools
import importlib.util
import sys
from types import ModuleType
from typing import Any, Literal

import numpy as np

Device = Literal["auto", "cpu", "cuda"]

DEFAULT_MEMORY_BUDGET = 1 << 30
"""Bytes that one computation may hold beside its inputs."""


class DeviceError(RuntimeError):
    """The device that was asked for is not there."""


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


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """Turn ``auto`` into what this machine has.

    Raises:
        DeviceError: ``cuda`` was asked for and CuPy or a CUDA device is missing.
    """
    if device == "cpu":
        return "cpu"
    missing = _missing_for_cuda()
    if missing is None:
        return "cuda"
    if device == "cuda":
        raise DeviceError(
            f"device=cuda needs a CUDA device and CuPy, and {missing}; install the extra "
            "gpu-cu12 or gpu-cu13 on a machine with an NVIDIA GPU, or use device=auto or cpu"
        )
    return "cpu"


def device_array_module(device: Literal["cpu", "cuda"]) -> ModuleType:
    """The array module that computes on ``device`` (see `resolve_device`)."""
    return importlib.import_module("cupy") if device == "cuda" else np


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
