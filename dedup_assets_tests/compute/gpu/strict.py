"""NumPy with the manners of CuPy, so that what CuPy would refuse fails on a machine without it.

Arrays of the two worlds do not mix, not in an operation, an index or an assignment; only
``asarray`` and ``get`` move them. What this module does not have, the code on a device may not
use: before adding a name, see that CuPy has it, for these arguments and dtypes.
"""

import sys
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

FUNCTIONS = (
    *("abs", "arange", "argsort", "bincount", "concatenate", "count_nonzero", "cumsum", "empty"),
    *("empty_like", "flatnonzero", "frexp", "full", "isfinite", "ldexp", "lexsort", "maximum"),
    *("minimum", "nonzero", "ones", "searchsorted", "sqrt", "stack", "unique", "where", "zeros"),
)
TYPES = ("float16", "float32", "float64", "int32", "int64", "uint8")
CONSTANTS = ("inf",)
FREE_BYTES = 1 << 30


class DeviceArray(np.ndarray):
    """An array that only code for a device may touch."""

    def get(self) -> np.ndarray:
        return np.array(self.view(np.ndarray))

    @property
    def device(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """As CuPy's: it is the current one within the block."""
        return nullcontext()

    def set(self, array: np.ndarray) -> None:
        assert type(array) is np.ndarray
        assert (array.dtype, array.shape) == (self.dtype, self.shape)
        assert self.flags.c_contiguous
        self.view(np.ndarray)[...] = array

    def astype(self, dtype: Any, **options: Any) -> Any:
        plain = self.view(np.ndarray)
        if {self.dtype, np.dtype(dtype)} == {np.dtype(np.float32), np.dtype(np.float64)}:
            plain = _flushed(plain)
        return _device(plain.astype(dtype, **options))

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        """Without the ``initial`` of NumPy."""
        return np.maximum.reduce(self, axis=axis, out=out, keepdims=keepdims)

    def mean(self, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
        return _device(self.view(np.ndarray).mean(axis=axis, dtype=dtype))

    def argmax(self, axis: Any = None, out: Any = None, dtype: Any = None) -> Any:
        return _device(self.view(np.ndarray).argmax(axis=axis))

    def __getitem__(self, key: Any) -> Any:
        return _device(self.view(np.ndarray)[_host(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.view(np.ndarray)[_host(key)] = _host(value)

    def __array_function__(self, func: Any, *_: Any) -> Any:
        raise TypeError(f"numpy.{func.__name__} of an array on a device")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.pop("out", (None,))
        kinds = {a.dtype for a in inputs if isinstance(a, DeviceArray)}
        if {np.dtype(np.float32), np.dtype(np.float64)} <= kinds:
            inputs = tuple(_widened(a) for a in inputs)
        options = {name: _host(option) for name, option in options.items()}
        if out[0] is not None:
            options["out"] = tuple(_host(array) for array in out)
        result = getattr(ufunc, method)(*_host(inputs), **options)
        return _device(result) if out[0] is None else out[0]


def _flushed(plain: np.ndarray) -> np.ndarray:
    """As CuPy's compiler has it, which casts float32 numbers below their normal range to zero."""
    return np.where(np.abs(plain) < np.finfo(np.float32).tiny, plain.dtype.type(0), plain)


def _widened(value: Any) -> Any:
    """An operand of an operation in float64."""
    if isinstance(value, DeviceArray) and value.dtype == np.float32:
        return value.astype(np.float64)
    return value


def _host(value: Any) -> Any:
    """Arrays of the device as NumPy sees them; arrays of the host are refused."""
    if isinstance(value, tuple | list):
        return type(value)(_host(item) for item in value)
    if isinstance(value, DeviceArray):
        return value.view(np.ndarray)
    if isinstance(value, np.ndarray):
        raise TypeError(f"an array on the host, of shape {value.shape}, among those on a device")
    return value


def _device(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_device(item) for item in value)
    return np.asarray(value).view(DeviceArray)


def _wrapped(name: str) -> Any:
    def function(*arguments: Any, **options: Any) -> Any:
        plain = _host(arguments)
        if name == "lexsort":
            assert isinstance(arguments[0], DeviceArray), "CuPy sorts by one array of keys"
        return _device(getattr(np, name)(*plain, **{k: _host(v) for k, v in options.items()}))

    return function


def strict_cupy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module for the name ``cupy``, in place until the test ends."""
    module = ModuleType("cupy")
    contents: dict[str, Any] = {name: _wrapped(name) for name in FUNCTIONS}
    contents |= {name: getattr(np, name) for name in (*TYPES, *CONSTANTS)}
    contents["ndarray"] = DeviceArray
    contents["cuda"] = SimpleNamespace(
        get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None),
        runtime=SimpleNamespace(memGetInfo=lambda: (FREE_BYTES, FREE_BYTES)),
    )
    contents["get_default_memory_pool"] = lambda: SimpleNamespace(free_bytes=lambda: 0)
    contents["asarray"] = lambda array, dtype=None: _device(np.array(array, dtype=dtype))
    contents["ascontiguousarray"] = lambda array: _device(np.ascontiguousarray(_host(array)))
    module.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module
