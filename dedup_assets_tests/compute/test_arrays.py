"""The compute layer stands on NumPy alone."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dedup_assets.compute import arrays
from dedup_assets.compute.arrays import (
    DeviceError,
    array_module,
    device_array_module,
    resolve_device,
    to_host,
)


def test_compute_imports_without_dagster_cupy_and_arrow():
    modules = sorted(p.stem for p in Path(arrays.__file__).parent.glob("*.py"))
    code = (
        "import sys; absent = 'dagster cupy pyarrow fsspec numkong'.split()\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
        f"for m in {modules!r}: __import__(f'dedup_assets.compute.{{m}}')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numpy_arrays_are_computed_with_numpy():
    x = np.ones(2)
    assert array_module(x) is np
    assert to_host(x) is x


def test_auto_falls_back_to_the_cpu_and_cuda_says_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arrays, "_missing_for_cuda", lambda: "CuPy is not installed")
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(DeviceError, match=r"device=cuda needs .* CuPy is not installed; install"):
        resolve_device("cuda")


def test_auto_takes_a_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arrays, "_missing_for_cuda", lambda: None)
    monkeypatch.setattr(arrays, "_passes_self_test", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
    assert resolve_device("cpu") == "cpu"


def test_a_gpu_by_its_number(monkeypatch: pytest.MonkeyPatch):
    used: list[int] = []
    runtime = SimpleNamespace(getDeviceCount=lambda: 2)

    class Device:
        def __init__(self, number: int) -> None:
            self.number = number

        def use(self) -> None:
            used.append(self.number)

    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=Device), ndarray=list)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(arrays, "_missing_for_cuda", lambda: None)
    assert device_array_module(resolve_device("cuda:1")) is cupy
    assert device_array_module(resolve_device("cuda")) is cupy
    assert used == [1]
    with pytest.raises(DeviceError, match=r"device=cuda:2 is not there: the last one is cuda:1"):
        resolve_device("cuda:2")
