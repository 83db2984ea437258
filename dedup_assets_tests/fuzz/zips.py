"""Zips, and the output of split pipelines, from a seed; mostly damaged or odd."""

import io
import pickle
import random
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dedup_assets_tests.fuzz.made import (
    Files,
    Made,
    expected_of,
    mutated,
    npy_rows,
    write_files,
)
from dedup_assets_tests.fuzz.tables import json_line, npy_bytes, parquet_files


def make_split(rng: random.Random, folder: Path, damaged: bool) -> Made:
    rows = npy_rows(rng)
    models = ["iv2_embd_parquet", "ce1_embd_parquet", "ce1_embd_224p_parquet"]
    files: Files = {"metas/v0/x.json": b"{}", "clips/x.mp4": b"film"}
    for model in rng.sample(models, 2 if damaged and rng.random() < 0.5 else 1):
        files |= {f"{model}/{name}": data for name, data in parquet_files(rng, rows).items()}
    if rng.random() < 0.5:
        files |= {f"iv2_embd/{id_}.pickle": pickle.dumps([1.0]) for id_, _ in rows}
    if rng.random() < 0.5:
        files["iv2_embd/x.npy"] = npy_bytes(rng, [9.0, 9.0, 9.0])
    if damaged:
        name = rng.choice(sorted(files))
        files[name] = mutated(rng, files[name])
    path = folder / "in"
    if rng.random() < 0.5:
        write_files(path, files)
    else:
        path = folder / "in.zip"
        path.write_bytes(_zip(rng, files))
    if damaged:
        return Made("split output, damaged", path)
    return Made("split output", path, expected_of(rows), must_read=True)


def make_zip(rng: random.Random, folder: Path, damaged: bool) -> Made:
    rows = npy_rows(rng)
    form = rng.choice(["parquet", "jsonl", "npy"])
    files = parquet_files(rng, rows)
    if form == "jsonl":
        files = {"rows.jsonl": b"\n".join(json_line(rng, row) for row in rows)}
    elif form == "npy":
        files = {f"{id_}.npy": npy_bytes(rng, vector) for id_, vector in rows}
    path = folder / "in.zip"
    if not damaged:
        path.write_bytes(_zip(rng, files))
        return Made("zip", path, expected_of(rows), must_read=True)
    if rng.random() < 0.4:
        path.write_bytes(rng.choice(_ODD_ZIPS)(rng, files))
        return Made("zip, odd", path)
    data = _zip(rng, files)
    start = data.rfind(b"PK\1\2", 0, len(data) // 2 + len(data) // 3)
    start = max(0, start) if rng.random() < 0.5 else 0
    path.write_bytes(data[:start] + mutated(rng, data[start:]))
    return Made("zip, damaged", path)


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
