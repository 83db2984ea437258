"""Inputs made from a seed: rows, written in some format, and mostly damaged."""

import io
import json
import math
import pickle
import random
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIM = 3
Row = tuple[Any, Any]
Files = dict[str, bytes]
_ODD_IDS = ["a/b", "..", "x.y.z", "é😀", " ", "%2F", "-", "a\nb", "\x00", "\u202e", "CON", "~"]


@dataclass
class Made:
    """An input.

    Attributes:
        kind: how it was made.
        path: where it is.
        expected: (vector by id, rows to reject) by an independent reading; None: there is none.
        must_read: whether it is valid, so that no error will do.
        filetype: the setting, if it is given.
    """

    kind: str
    path: Path
    expected: Any = None
    must_read: bool = False
    filetype: str | None = None


def make(seed: int, folder: Path) -> Made:
    """The input of a seed, below an empty folder."""
    rng = random.Random(seed)
    kind = rng.choice(["parquet", "parquet", "jsonl", "jsonl", "npy", "zip", "zip", "split"])
    damaged = rng.random() < 0.75
    return {
        "parquet": _make_parquet,
        "jsonl": _make_jsonl,
        "npy": _make_npy,
        "zip": _make_zip,
        "split": _make_split,
    }[kind](rng, folder, damaged)


def _make_parquet(rng: random.Random, folder: Path, damaged: bool) -> Made:
    rows = _rows(rng)
    files = _parquet_files(rng, rows)
    if damaged:
        name = rng.choice(sorted(files))
        data = files[name]
        # The footer is where most can go wrong.
        start = len(data) - 8 - int.from_bytes(data[-8:-4], "little") if rng.random() < 0.5 else 0
        files[name] = data[:start] + _mutated(rng, data[start:])
    path = folder / "in"
    _write(path, files)
    if damaged:
        return Made("parquet, damaged", path)
    return Made("parquet", path, _expected(rows), must_read=True)


def _make_jsonl(rng: random.Random, folder: Path, damaged: bool) -> Made:
    rows = _rows(rng)
    lines = [_json_line(rng, row) for row in rows]
    end = rng.choice([b"\n", b"\r\n", b"\n\n", b"\n  \n"])
    data = end.join(lines) + rng.choice([b"", end])
    if rng.random() < 0.2:
        data = b"\xef\xbb\xbf" + data
    path = folder / "in"
    if not damaged:
        _write(path, {"rows.jsonl": data})
        return Made("jsonl", path, _expected(rows), must_read=True)
    if rng.random() < 0.5:
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(_ODD_LINES)(rng))
        data = b"\n".join(lines)
    else:
        data = _mutated(rng, data)
    _write(path, {"rows.jsonl": data})
    return Made("jsonl, damaged", path, _expected_json(data))


def _make_npy(rng: random.Random, folder: Path, damaged: bool) -> Made:
    rows = _npy_rows(rng)
    files = {f"{id_}.npy": _npy(rng, vector) for id_, vector in rows}
    path = folder / rng.choice(["in", "iv2_embd"])
    if not damaged:
        _write(path, files)
        return Made("npy", path, _expected(rows), must_read=True)
    name = rng.choice(sorted(files))
    if rng.random() < 0.4:
        files[name] = rng.choice(_ODD_ARRAYS)(rng)
    elif rng.random() < 0.2:
        files[f"x{rng.choice(['.pickle', '.pkl'])}"] = pickle.dumps([1.0])
    else:
        files[name] = _mutated(rng, files[name])
    _write(path, files)
    return Made("npy, damaged", path, _expected_npy(files))


def _make_split(rng: random.Random, folder: Path, damaged: bool) -> Made:
    rows = _npy_rows(rng)
    models = ["iv2_embd_parquet", "ce1_embd_parquet", "ce1_embd_224p_parquet"]
    files: Files = {"metas/v0/x.json": b"{}", "clips/x.mp4": b"film"}
    for model in rng.sample(models, 2 if damaged and rng.random() < 0.5 else 1):
        files |= {f"{model}/{name}": data for name, data in _parquet_files(rng, rows).items()}
    if rng.random() < 0.5:
        files |= {f"iv2_embd/{id_}.pickle": pickle.dumps([1.0]) for id_, _ in rows}
    if rng.random() < 0.5:
        files["iv2_embd/x.npy"] = _npy(rng, [9.0, 9.0, 9.0])
    if damaged:
        name = rng.choice(sorted(files))
        files[name] = _mutated(rng, files[name])
    path = folder / "in"
    if rng.random() < 0.5:
        _write(path, files)
    else:
        path = folder / "in.zip"
        path.write_bytes(_zip(rng, files))
    if damaged:
        return Made("split output, damaged", path)
    return Made("split output", path, _expected(rows), must_read=True)


def _make_zip(rng: random.Random, folder: Path, damaged: bool) -> Made:
    rows = _npy_rows(rng)
    form = rng.choice(["parquet", "jsonl", "npy"])
    files = _parquet_files(rng, rows)
    if form == "jsonl":
        files = {"rows.jsonl": b"\n".join(_json_line(rng, row) for row in rows)}
    elif form == "npy":
        files = {f"{id_}.npy": _npy(rng, vector) for id_, vector in rows}
    path = folder / "in.zip"
    if not damaged:
        path.write_bytes(_zip(rng, files))
        return Made("zip", path, _expected(rows), must_read=True)
    if rng.random() < 0.4:
        path.write_bytes(rng.choice(_ODD_ZIPS)(rng, files))
        return Made("zip, odd", path)
    data = _zip(rng, files)
    start = data.rfind(b"PK\1\2", 0, len(data) // 2 + len(data) // 3)
    start = max(0, start) if rng.random() < 0.5 else 0
    path.write_bytes(data[:start] + _mutated(rng, data[start:]))
    return Made("zip, damaged", path)


def _rows(rng: random.Random) -> list[Row]:
    """Rows with unique ids, of which some cannot be compared."""
    count = rng.choice([1, 2, 5, 30])
    texts = rng.random() < 0.7
    ids: list[Any] = [f"clip-{i}" if texts else i * 7 - 20 for i in range(count)]
    if texts:
        for place in range(count):
            if rng.random() < 0.1:
                ids[place] = f"{rng.choice(_ODD_IDS)}{place}"
    vectors: list[Any] = [_vector(rng) for _ in range(count)]
    for place in range(1, count):
        if rng.random() < 0.1:
            ids[place] = None
        if rng.random() < 0.2:
            odd = [None, [], [1.0], [1.0] * 4, [0.0] * DIM, [math.nan, 1.0, 2.0], [1.0, None, 2.0]]
            vectors[place] = rng.choice([*odd, [math.inf, 0.0, 1.0]])
    return list(zip(ids, vectors, strict=True))


def _npy_rows(rng: random.Random) -> list[Row]:
    """Rows whose ids may be names of files."""
    return [(f"clip-{i}", _vector(rng)) for i in range(rng.choice([1, 2, 9]))]


def _vector(rng: random.Random) -> list[float]:
    # Halves, so that every float holds them exactly.
    return [1.0, *(rng.randrange(-20, 20) / 2 for _ in range(DIM - 1))]


def _parquet_files(rng: random.Random, rows: list[Row]) -> Files:
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


def _json_line(rng: random.Random, row: Row) -> bytes:
    record: dict[str, Any] = {"id": row[0], "embedding": row[1]}
    if rng.random() < 0.3:
        record["more"] = rng.choice([1, "x", None, [1, {"a": 2}], {"b": "c"}])
    if rng.random() < 0.3:
        record = dict(reversed(record.items()))
    return json.dumps(record, ensure_ascii=rng.random() < 0.5).encode()


def _npy(rng: random.Random, vector: list[float]) -> bytes:
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


def _zip(rng: random.Random, files: Files, **more: bytes) -> bytes:
    target = io.BytesIO()
    top = rng.choice(["", "", "top/"])
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in {**files, **more}.items():
            method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
            archive.writestr(zipfile.ZipInfo(f"{top}{name}"), data, method)
        if rng.random() < 0.3:
            archive.writestr("__MACOSX/._x.parquet", b"resource fork")
        if rng.random() < 0.3:
            archive.writestr(f"{top}.DS_Store", b"hidden")
        if rng.random() < 0.3:
            archive.writestr(f"{top}empty/", b"")
    return target.getvalue()


def _named(name: str, **attributes: Any) -> Callable[[random.Random, Files], bytes]:
    """A zip with one more member of some name and attributes."""

    def made(rng: random.Random, files: Files) -> bytes:
        target = io.BytesIO(_zip(rng, files))
        with zipfile.ZipFile(target, "a") as archive:
            info = zipfile.ZipInfo("x")
            info.filename = name
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.writestr(info, b"content", zipfile.ZIP_STORED)
        return target.getvalue()

    return made


def _twice(rng: random.Random, files: Files) -> bytes:
    data = _zip(rng, {"x1.parquet": b"1", "x2.parquet": b"2", **files})
    return data.replace(b"x2.parquet", b"x1.parquet")


def _bomb(rng: random.Random, files: Files) -> bytes:
    """A member that grows a thousand times; it states that, or much less."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.parquet", bytes(20 << 20))
    data = target.getvalue()
    if rng.random() < 0.5:
        data = data.replace(
            struct.pack("<I", 20 << 20), struct.pack("<I", rng.choice([0, 1, 4096]))
        )
    return data


def _other_method(rng: random.Random, files: Files) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", rng.choice([zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def _wrong_checksum(rng: random.Random, files: Files) -> bytes:
    data = _zip(rng, files)
    crc = struct.pack("<I", zlib.crc32(next(iter(files.values()))))
    return data.replace(crc, rng.randbytes(4))


_ODD_ZIPS: list[Callable[[random.Random, Files], bytes]] = [
    *map(_named, ["../x.parquet", "/etc/x.parquet", "a/../../x.parquet", "C:/x.parquet", "a//b"]),
    *map(_named, ["..\\x.parquet", "a\\b.parquet", "./x.parquet", "..", "/", "a/./b.parquet"]),
    _named("x.parquet", external_attr=(stat.S_IFLNK | 0o777) << 16),
    _named("x.parquet", external_attr=(stat.S_IFIFO | 0o777) << 16),
    _named("x.parquet", flag_bits=1),
    _twice,
    _bomb,
    _other_method,
    _wrong_checksum,
    lambda rng, files: b"",
    lambda rng, files: b"PK\5\6" + bytes(18),
    lambda rng, files: rng.randbytes(300),
    lambda rng, files: _zip(rng, {"readme.txt": b"no"}),
    lambda rng, files: _zip(rng, {"a.zip": _zip(rng, files)}),
]


def _mutated(rng: random.Random, data: bytes) -> bytes:
    """Some bytes changed, cut, doubled or put in."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        place = rng.randrange(len(changed) + 1)
        length = rng.choice([1, 2, 4, 16, 200])
        match rng.randrange(8):
            case 0:
                changed[place:] = b""
            case 1:
                del changed[place : place + length]
            case 2:
                changed[place:place] = rng.randbytes(length)
            case 3:
                changed[place:place] = changed[place : place + length]
            case 4:
                changed[place : place + length] = bytes(len(changed[place : place + length]))
            case 5:
                extreme = rng.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
                changed[place : place + 4] = extreme[: len(changed[place : place + 4])]
            case _:
                if place < len(changed):
                    changed[place] = rng.randrange(256)
    return bytes(changed)


def _write(folder: Path, files: Files) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _is_valid(id_: Any, vector: Any) -> bool:
    if id_ is None or vector is None or len(vector) != DIM:
        return False
    return all(x is not None and math.isfinite(x) for x in vector) and any(vector)


def _expected(rows: list[Row]) -> Any:
    good = {id_: vector for id_, vector in rows if _is_valid(id_, vector)}
    return good, len(rows) - len(good)


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
        return _expected(rows) if plain else None
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
        return _expected(rows)
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
