"""The directory of a zip of many members: little memory for each, progress, and limits."""

import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dedup_assets.errors import InputError
from dedup_assets.progress import Advance, listening
from dedup_assets.store import zip_directory, zip_reader
from dedup_assets.store.filesystem import Store
from dedup_assets.store.inputs import InputFiles
from dedup_assets.store.zip_reader import ZipStore

pytestmark = pytest.mark.slow

MEMBERS = 70_000  # more than fit into the old form of the end record


def many(path: Path, count: int = MEMBERS) -> Path:
    vector = io.BytesIO()
    np.save(vector, np.ones(2, np.float32))
    with zipfile.ZipFile(path, "w") as file:
        for number in range(count):
            file.writestr(zipfile.ZipInfo(f"rows/clip-{number:06d}.npy"), vector.getvalue())
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many(tmp_path_factory.mktemp("zip") / "many.zip")


def bytes_of(act: Callable[[], object]) -> tuple[int, int]:
    """Bytes that are held after a call, and the most that Python held meanwhile."""
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        result = act()
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    arrow = pa.total_allocated_bytes() - before
    del result
    return held + arrow, most + arrow


def test_a_member_takes_few_bytes(large: Path):
    """An object each, as of zipfile, takes 700, and a zip of 4 GB may have 30 million."""
    ZipStore(Store(str(large)))  # what is imported by then is not counted
    held, most = bytes_of(lambda: ZipStore(Store(str(large))))
    assert held < 64 * MEMBERS
    assert most < 200 * MEMBERS


def test_vectors_in_a_zip_take_few_bytes_each_until_they_are_read(large: Path):
    def survey() -> InputFiles:
        files = InputFiles(str(large), "id", "embedding", [])
        probed = [files.probe(name) for name in files.names()]
        assert sum(file.rows for file in probed) == MEMBERS
        return files

    held, most = bytes_of(survey)
    assert held < 150 * MEMBERS
    assert most < 400 * MEMBERS


def test_a_zip_that_is_opened_again_is_not_read_again(large: Path, monkeypatch: pytest.MonkeyPatch):
    first = ZipStore(Store(str(large)))
    monkeypatch.setattr(zip_reader, "read_directory", None)
    second = ZipStore(Store(str(large)), "rows")
    assert list(second.list_versions("")) == list(first.list_versions(""))


class Recorder:
    """Counts what a pass reports."""

    def __init__(self) -> None:
        self.passes: list[tuple[str, int, list[int]]] = []

    def start(self, label: str, total: int, unit: str) -> Advance:
        steps: list[int] = []
        self.passes.append((f"{label}, {unit}", total, steps))
        return steps.append

    def finish(self) -> None:
        pass


def test_reading_it_reports_progress(large: Path):
    recorder = Recorder()
    with listening(recorder):
        ZipStore(Store(str(large)))
    assert recorder.passes == [
        ("reading the directory of a zip, members", MEMBERS, [10_000] * 7),
    ]


def test_every_member_is_found_by_its_name(large: Path):
    found = ZipStore(Store(str(large)))
    versions = found.list_versions("")
    names = [f"clip-{number:06d}.npy" for number in range(MEMBERS)]
    assert list(versions) == names
    assert len(versions) == MEMBERS
    with zipfile.ZipFile(large) as file:
        for place in (0, 1, 255, 256, 257, 40_000, MEMBERS - 1):
            info = file.getinfo(f"rows/{names[place]}")
            assert versions[names[place]] == f"{info.file_size} {info.CRC:08x}"
            assert found.read_bytes(names[place]) == file.read(info)
    for absent in ("", "a", "clip-000000", "clip-000000.npz", "z"):
        assert absent not in versions
        assert not found.exists(absent) or absent == ""
    assert found.entries() == ([], names[:1_000])


def test_a_directory_beyond_the_limit_is_refused_before_it_is_read(
    large: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(zip_directory, "MOST_DIRECTORY_BYTES", 1 << 20)
    monkeypatch.setattr(zip_directory, "_entries", None)
    with pytest.raises(InputError) as caught:
        ZipStore(Store(str(large)))
    assert str(caught.value) == (
        f"{large} is refused: its directory of 70,000 members takes 4.4 MiB, more than 1.0 MiB; "
        "unpack it and give the folder, or pack the rows as Parquet files"
    )


def test_many_small_members_that_grow_without_measure_are_refused(tmp_path: Path):
    """Each is too small for the rule of a single one: 300 of 15 MiB are 4 GB out of 4 MB."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for number in range(3):
            file.writestr(f"{number}.npy", bytes(15 << 20))
    with pytest.raises(InputError, match=r"in all its members would grow from .* to 45\.0 MiB"):
        ZipStore(Store(str(path)))


@pytest.mark.parametrize("force_64", [False, True])
@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\n" * 50])
@pytest.mark.parametrize("comment", [b"", b"a comment", b"PK" * 1_000])
def test_every_form_of_a_zip_is_read(tmp_path: Path, force_64: bool, before: bytes, comment: bytes):
    names = ["é.npy", "a/b.npy", "a-b.npy", "a.npy", "Z.npy", "😀.npy"]
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.comment = comment
        for name in names:
            with file.open(name, "w", force_zip64=force_64) as member:
                member.write(name.encode())
    path = tmp_path / "a.zip"
    path.write_bytes(before + target.getvalue())
    found = ZipStore(Store(str(path)))
    assert list(found.list_versions("")) == sorted(names)
    assert [found.read_bytes(name).decode() for name in names] == names


def large_sizes() -> Iterator[tuple[bytes, str]]:
    end = struct.Struct("<4s6xHII2x")
    yield end.pack(b"PK\5\6", 1, 0xFFFF_FFFF, 0), "File is not a zip file"
    yield b"x" * 46 + end.pack(b"PK\5\6", 1, 46, 0), "Bad magic number"
    yield b"PK\1\2" + b"\0" * 20 + b"\xff" * 22 + end.pack(b"PK\5\6", 1, 46, 0), "Truncated"
    extra = b"\1\0\4\0" + bytes(4)
    fields = (20, 0, 0, 0, 0xFFFF_FFFF, 0, 1, len(extra), 0, 0, 0)
    entry = struct.pack("<4s2xHHH4xIIIHHH4xII", b"PK\1\2", *fields) + b"x" + extra
    yield entry + end.pack(b"PK\5\6", 1, len(entry), 0), "Corrupt zip64 extra field"
    extra = b"\1\0\x08\0" + b"\xff" * 8
    fields = (20, 0, 0, 0, 0xFFFF_FFFF, 0, 1, len(extra), 0, 0, 0)
    entry = struct.pack("<4s2xHHH4xIIIHHH4xII", b"PK\1\2", *fields) + b"x" + extra
    yield entry + end.pack(b"PK\5\6", 1, len(entry), 0), "x runs into what follows it"


@pytest.mark.parametrize(("data", "says"), list(large_sizes()), ids=range(5))
def test_a_directory_that_lies_is_one_line(tmp_path: Path, data: bytes, says: str):
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"is not a readable zip \({says}"):
        ZipStore(Store(str(path)))


def test_a_long_name_is_not_repeated_whole(tmp_path: Path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"../{'x' * 60_000}.npy", b"")
    with pytest.raises(InputError, match="has a path that leads out") as caught:
        ZipStore(Store(str(path)))
    assert len(str(caught.value)) < 400 + len(os.fspath(path))
