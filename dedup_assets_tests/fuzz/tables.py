"""Parquet, JSON lines and ``.npy`` files from a seed, mostly damaged."""

import io
import json
import pickle
import random
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dedup_assets_tests.fuzz.made import (
    DIM,
    Files,
    Made,
    Row,
    expected_of,
    make_rows,
    mutated,
    npy_rows,
    write_files,
)


def make_parquet(rng: random.Random, folder: Path, damaged: bool) -> Made:
    rows = make_rows(rng)
    files = parquet_files(rng, rows)
    if damaged:
        name = rng.choice(sorted(files))
        data = files[name]
        # The footer is where most can go wrong.
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little") if rng.random() < 0.5 else 0
        files[name] = data[:start] + mutated(rng, data[start:])
    path = folder / "in"
    write_files(path, files)
    if damaged:
        return Made("parquet, damaged", path)
    return Made("parquet", path, expected_of(rows), must_read=True)


def make_jsonl(rng: random.Random, folder: Path, damaged: bool) -> Made:
    rows = make_rows(rng)
    lines = [json_line(rng, row) for row in rows]
    end = rng.choice([b"\n", b"\r\n", b"\n\n", b"\n  \n"])
    data = end.join(lines) + rng.choice([b"", end])
    if rng.random() < 0.2:
        data = b"\xef\xbb\xbf" + data
    path = folder / "in"
    if not damaged:
        write_files(path, {"rows.jsonl": data})
        return Made("jsonl", path, expected_of(rows), must_read=True)
    if rng.random() < 0.5:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(_ODD_LINES)(rng))
        data = b"\n".join(lines)
    else:
        data = mutated(rng, data)
    write_files(path, {"rows.jsonl": data})
    return Made("jsonl, damaged", path, _expected_json(data))


def make_npy(rng: random.Random, folder: Path, damaged: bool) -> Made:
    rows = npy_rows(rng)
    files = {f"{id_}.npy": npy_bytes(rng, vector) for id_, vector in rows}
    path = folder / rng.choice(["in", "iv2_embd"])
    if not damaged:
        write_files(path, files)
        return Made("npy", path, expected_of(rows), must_read=True)
    name = rng.choice(sorted(files))
    if rng.random() < 0.4:
        files[name] = rng.choice(_ODD_ARRAYS)(rng)
    elif rng.random() < 0.2:
        files[f"x{rng.choice(['.pickle', '.pkl'])}"] = pickle.dumps([1.0])
    else:
        files[name] = mutated(rng, files[name])
    write_files(path, files)
    return Made("npy, damaged", path, _expected_npy(files))


def parquet_files(rng: random.Random, rows: list[Row]) -> Files:
    type_ = rng.choice([pa.float16(), pa.float32(), pa.float64()])
    list_ = rng.choice([pa.list_, pa.large_list])(type_)
    if all(v is not None and len(v) == DIM for _, v in rows) and rng.random() < 0.5:
        list_ = pa.list_(type_, DIM)
    texts = any(isinstance(id_, str) for id_, _ in rows)
    id_type = rng.choice([pa.string(), pa.large_string()]) if texts else pa.int64()
    cut = rng.randrange(len(rows)) if rng.random() < 0.3 else 0
    files = {}
    for number, part in enumerate([rows[:cut], rows[cut:]]):
        if not part:
            continue
        ids = pa.array([id_ for id_, _ in part], id_type)
        vectors = [None if v is None else [_as(type_, x) for x in v] for _, v in part]
        table = pa.table({"id": ids, "embedding": pa.array(vectors, list_)})
        target = io.BytesIO()
        pq.write_table(
            table,
            target,
            row_group_size=rng.choice([1, 3, 100]),
            compression=rng.choice(["none", "snappy", "zstd", "gzip"]),
            use_dictionary=rng.random() < 0.5,
            data_page_version=rng.choice(["1.0", "2.0"]),
            version=rng.choice(["1.0", "2.6"]) if type_ != pa.float16() else "2.6",
        )
        files[rng.choice([f"{number}.parquet", f"sub/{number}.parquet"])] = target.getvalue()
    return files


def _as(type_: pa.DataType, value: float | None) -> Any:
    return None if value is None else type_.to_pandas_dtype()(value)


def json_line(rng: random.Random, row: Row) -> bytes:
    record: dict[str, Any] = {"id": row[0], "embedding": row[1]}
    if rng.random() < 0.3:
        record["more"] = rng.choice([1, "x", None, [1, {"a": 2}], {"b": "c"}])
    if rng.random() < 0.3:
        record = dict(reversed(record.items()))
    return json.dumps(record, ensure_ascii=rng.random() < 0.5).encode()


def npy_bytes(rng: random.Random, vector: list[float]) -> bytes:
    array = np.array(vector, rng.choice(["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"]))
    if rng.random() < 0.5:
        array = array[None]
    target = io.BytesIO()
    np.lib.format.write_array(target, array, version=rng.choice([(1, 0), (2, 0)]))
    return target.getvalue()


def _saved(array: Any, **options: Any) -> bytes:
    target = io.BytesIO()
    np.save(target, array, **options)
    return target.getvalue()


def _stated(text: str) -> bytes:
    """An array whose header is any text."""
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 24


_ODD_ARRAYS: list[Callable[[random.Random], bytes]] = [
    lambda _: _saved(np.array([{"a": 1}], dtype=object), allow_pickle=True),
    lambda _: _saved(np.arange(3)),
    lambda _: _saved(np.eye(3)),
    lambda _: _saved(np.zeros((1, 1, 3))),
    lambda _: _saved(np.float32(1)),
    lambda _: _saved(np.zeros(3, "c16")),
    lambda _: _saved(np.zeros(3, [("a", "f4")])),
    lambda _: _saved(np.zeros((0,))),
    lambda _: _saved(np.array(["a", "b", "c"])),
    lambda _: _stated("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"),
    lambda _: _stated("{'descr': '<f4', 'fortran_order': False, 'shape': (3000000000000,)}"),
    lambda _: _stated("{'descr': '<f4', 'fortran_order': False, 'shape': (3L,)}"),
    lambda _: _stated("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}"),
    lambda _: _stated("{'descr': '|O', 'fortran_order': False, 'shape': (3,)}"),
    lambda _: _stated("{'descr': [('a', '<f4')] * 3, 'fortran_order': 1, 'shape': 3}"),
    lambda _: _stated("(" * 500),
    lambda _: _stated("__import__('os')"),
    lambda rng: pickle.dumps([rng.random()]),
    lambda rng: rng.randbytes(rng.randrange(200)),
]

_ODD_LINES: list[Callable[[random.Random], bytes]] = [
    lambda _: b'{"id": "half',
    lambda _: b"[]",
    lambda _: b"null",
    lambda _: b"{}",
    lambda _: b'{"id": "q", "embedding": "text"}',
    lambda _: b'{"id": "q", "embedding": {"a": 1}}',
    lambda _: b'{"id": "q", "embedding": [1, "2", 3]}',
    lambda _: b'{"id": "q", "embedding": [1, [2], 3]}',
    lambda _: b'{"id": "q", "embedding": [true, 2, 3]}',
    lambda _: b'{"id": "q", "embedding": [1e999, 2, 3]}',
    lambda _: b'{"id": "q", "embedding": [1' + b"0" * 400 + b", 2, 3]}",
    lambda _: b'{"id": "q", "embedding": [1' + b"0" * 5000 + b", 2, 3]}",
    lambda _: b'{"id": 1.5, "embedding": [1, 2, 3]}',
    lambda _: b'{"id": true, "embedding": [1, 2, 3]}',
    lambda _: b'{"id": ["q"], "embedding": [1, 2, 3]}',
    lambda _: b'{"id": 99999999999999999999999, "embedding": [1, 2, 3]}',
    lambda _: b'{"id": 18446744073709551615, "embedding": [1, 2, 3]}',
    lambda _: b'{"id": "\\ud800", "embedding": [1, 2, 3]}',
    lambda _: b'{"id": "\xff\xfe", "embedding": [1, 2, 3]}',
    lambda _: b'{"id": "q", "id": "r", "embedding": [1, 2, 3]}',
    lambda _: b'{"id": "q", "embedding": [1, 2, 3]}{"id": "r", "embedding": [1, 2, 3]}',
    lambda _: b'{"id": "q", "embedding": [1, 2, 3]} trailing',
    lambda _: b'{"id": "q", "embedding": [NaN, Infinity, -Infinity]}',
    lambda _: b'{"id": "2024-01-01T00:00:00Z", "embedding": [1, 2, 3]}',
    lambda rng: b'{"id": "q", "embedding": ' + b"[" * 10 ** rng.randrange(1, 6),
    lambda rng: b'{"id": "q", "more": ' + b"[" * 900 + b"]" * 900 + b', "embedding": [1, 2, 3]}',
    lambda rng: b'{"a":' * 10 ** rng.randrange(1, 6),
    lambda rng: b"\0" * rng.randrange(1, 50),
    lambda rng: rng.randbytes(rng.randrange(1, 200)),
    lambda _: "{}".encode("utf-16"),
]


def _expected_json(data: bytes) -> Any:
    """By Python's own reader; None if it is not all plain."""
    rows: list[Row] = []
    try:
        for line in data.decode("utf-8-sig").split("\n"):
            if line.strip(" \t\r\x0b\x0c"):
                record = json.loads(line)
                vector = record.get("embedding")
                if vector is not None:
                    vector = [None if x is None else float(x) for x in vector]
                rows.append((record.get("id"), vector))
        ids = [id_ for id_, _ in rows if id_ is not None]
        plain = len(set(ids)) == len(ids) and len({type(id_) for id_ in ids}) <= 1
        return expected_of(rows) if plain else None
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return None


def _expected_npy(files: Files) -> Any:
    """By NumPy's own reader; None if it refuses one."""
    rows: list[Row] = []
    try:
        for name, data in files.items():
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                array = np.load(io.BytesIO(data), allow_pickle=False)
            if array.dtype.kind != "f" or array.ndim > 2:
                return None
            rows.append((name.removesuffix(".npy"), array.reshape(-1).tolist()))
        return expected_of(rows)
    except (
        ValueError,
        TypeError,
        EOFError,
        SyntaxError,
        OverflowError,
        MemoryError,
        Warning,
        TokenError,
    ):
        return None
