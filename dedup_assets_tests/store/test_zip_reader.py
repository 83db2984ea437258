"""A zip as a folder: what is in it is read as if it lay there; what would do harm is refused."""

import io
import os
import shutil
import stat
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dedup_assets.errors import InputError, StaleError
from dedup_assets.store import zip_reader
from dedup_assets.store.filesystem import Store
from dedup_assets.store.inputs import InputFiles
from dedup_assets.store.s3 import S3Objects
from dedup_assets.store.source import open_source
from dedup_assets.store.zip_reader import ZipStore
from dedup_assets_tests.conftest import write_parquet
from dedup_assets_tests.s3 import S3Server

STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
DATA = os.urandom(3_000) + bytes(3_000)


def pack(path: Path, members: dict[str, bytes], method: int = DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def store(path: Path, folder: str = "") -> ZipStore:
    return ZipStore(Store(str(path)), folder)


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        store(path)
    text = str(caught.value)
    assert "\n" not in text
    for part in (str(path), "make", *parts):
        assert part in text


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_members_are_read_as_files(tmp_path: Path, method: int):
    found = store(pack(tmp_path / "a.zip", {"x.bin": DATA, "sub/y.bin": b""}, method))
    assert sorted(found.list_versions("")) == ["sub/y.bin", "x.bin"]
    assert found.list_versions("sub") == {"y.bin": "0 00000000"}
    assert found.entries() == (["sub"], ["x.bin"])
    assert (found.size("x.bin"), found.exists("x.bin"), found.exists("z")) == (6_000, True, False)
    assert (found.exists(""), found.is_file()) == (True, False)
    assert found.url("x.bin") == f"{tmp_path}/a.zip/x.bin"
    assert (found.read_bytes("x.bin"), found.read_bytes("sub/y.bin")) == (DATA, b"")
    with found.open("x.bin") as file:
        assert file.seek(-4_000, io.SEEK_END) == 2_000
        assert file.read(10) == DATA[2_000:2_010]
        assert file.tell() == 2_010
        assert (file.read(), file.read(5)) == (DATA[2_010:], b"")
        file.seek(7_000)
        assert file.read() == b""
    with pytest.raises(FileNotFoundError):
        found.open("z")


def test_a_member_without_compression_is_read_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = pack(tmp_path / "a.zip", {"x.bin": DATA}, STORED)
    monkeypatch.setattr(zip_reader.ZipStore, "_inflate", None)
    assert store(path).read_bytes("x.bin") == DATA


def test_a_large_member_is_inflated_to_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = os.urandom(300) * 1_000
    path = pack(tmp_path / "a.zip", {"x.bin": data})
    monkeypatch.setattr(zip_reader, "_IN_MEMORY_BYTES", 1_000)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    with store(path).open("x.bin") as file:
        assert list((tmp_path / "scratch").iterdir()) == []
        assert file.read() == data


def test_room_is_looked_at_before_a_member_is_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = pack(tmp_path / "a.zip", {"x.bin": DATA})
    monkeypatch.setattr(zip_reader, "_IN_MEMORY_BYTES", 1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 5_999))
    with pytest.raises(InputError, match=r"x\.bin takes 5\.9 KiB .* has 5\.9 KiB free; free space"):
        store(path).open("x.bin")


def test_one_top_folder_counts_for_the_zip_and_hidden_files_for_nothing(tmp_path: Path):
    members = {
        "top/a.bin": b"1",
        "top/sub/b.bin": b"2",
        "top/.DS_Store": b"",
        "__MACOSX/top/._a.bin": b"",
        ".hidden/c.bin": b"",
        "top/": b"",
    }
    path = pack(tmp_path / "a.zip", members)
    for folder in ("", "top", "top/"):
        assert sorted(store(path, folder).list_versions("")) == ["a.bin", "sub/b.bin"]
    for folder in ("sub", "top/sub", "/sub/"):
        assert sorted(store(path, folder).list_versions("")) == ["b.bin"]
    assert store(path, "sub/b.bin").is_file()
    assert not store(path, "nothing").exists("")


def test_two_top_folders_stay(tmp_path: Path):
    path = pack(tmp_path / "a.zip", {"a/x": b"1", "b/x": b"2"})
    assert sorted(store(path).list_versions("")) == ["a/x", "b/x"]


def test_version_is_size_and_checksum_wherever_the_zip_lies(tmp_path: Path):
    first = store(pack(tmp_path / "a.zip", {"x": DATA}, STORED))
    second = store(pack(tmp_path / "b.zip", {"y": b"", "x": DATA}, DEFLATED))
    assert first.version("x") == second.version("x")
    assert first.version("x") != store(pack(tmp_path / "c.zip", {"x": DATA[::-1]})).version("x")


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "..", "/etc/x", "a//x", "./x", "C:/x", "C:x", "..\\x", "a\\x", "/"],
)
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("x")
        info.filename = name
        file.writestr(info, b"")
    refused(path, "has a path that leads out of the zip", "without it")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_is_refused(tmp_path: Path, kind: int):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        info = zipfile.ZipInfo("x.parquet")
        info.external_attr = (kind | 0o777) << 16
        file.writestr(info, b"/etc/passwd")
    refused(path, "'x.parquet' is a link")


def test_two_members_of_one_name_are_refused(tmp_path: Path):
    path = pack(tmp_path / "a.zip", {"x1": b"1", "x2": b"2"})
    path.write_bytes(path.read_bytes().replace(b"x2", b"x1"))
    refused(path, "'x1' is there twice")


def test_an_encrypted_member_is_refused(tmp_path: Path):
    path = pack(tmp_path / "a.zip", {"x": b"1"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    refused(path, "'x' is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_compression_is_refused(tmp_path: Path, method: int):
    refused(pack(tmp_path / "a.zip", {"x": DATA}, method), f"by method {method}", "only deflate")


def test_a_member_that_grows_without_measure_is_refused(tmp_path: Path):
    refused(pack(tmp_path / "a.zip", {"x": bytes(20 << 20)}), "grow from", "20.0 MiB", "200 times")


@pytest.mark.parametrize("stated", [0, 1, 4096])
def test_a_member_that_holds_more_than_it_states_is_refused_while_it_is_inflated(
    tmp_path: Path, stated: int
):
    path = pack(tmp_path / "a.zip", {"x": bytes(20 << 20)})
    true, false = struct.pack("<I", 20 << 20), struct.pack("<I", stated)
    path.write_bytes(path.read_bytes().replace(true, false))
    with pytest.raises(InputError, match=f"x holds more than the {stated} bytes it states"):
        store(path).open("x")


def test_members_that_share_bytes_are_refused(tmp_path: Path):
    """The quoted overlap of a zip bomb: each of many members holds all that follow it."""
    path = pack(tmp_path / "a.zip", {"x": os.urandom(100), "y": os.urandom(100)}, STORED)
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\1\2")
    data[second + 42 : second + 46] = struct.pack("<I", 10)
    path.write_bytes(data)
    refused(path, "runs into what follows it", "make it again")


def damage_cut(data: bytes) -> bytes:
    return data[:-30]


def damage_directory(data: bytes) -> bytes:
    return data.replace(b"PK\1\2", b"PK\1\3")


DAMAGED: dict[str, Any] = {
    "empty": lambda _: b"",
    "no zip": lambda _: b"PAR1" * 20,
    "cut": damage_cut,
    "directory": damage_directory,
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_zip_is_one_line(tmp_path: Path, case: str):
    path = pack(tmp_path / "a.zip", {"x": DATA})
    path.write_bytes(DAMAGED[case](path.read_bytes()))
    refused(path, "is not a readable zip (", "make it again, or copy it again")


def test_damage_to_a_member_is_seen_when_it_is_read(tmp_path: Path):
    path = pack(tmp_path / "a.zip", {"x": os.urandom(5_000)})
    whole = path.read_bytes()
    for place in (20, 31, 2_000):
        data = bytearray(whole)
        data[place] ^= 0xFF
        path.write_bytes(data)
        if place == 20:  # the member's own header; the directory is what counts
            store(path).read_bytes("x")
            continue
        with pytest.raises(InputError, match=r"not a readable zip \(x "):
            store(path).open("x")
    path.write_bytes(whole.replace(b"PK\3\4", b"PK\3\5"))
    with pytest.raises(InputError, match="x does not begin where its directory says"):
        store(path).open("x")


@pytest.mark.parametrize("where", ["data", "header"])
def test_damage_to_a_member_without_compression_is_seen_when_all_of_it_is_read(
    tmp_path: Path, where: str
):
    """A clip goes into a shard as it is read: nothing after it would notice."""
    path = pack(tmp_path / "a.zip", {"x": DATA, "y": DATA}, STORED)
    data = bytearray(path.read_bytes())
    data[2_000 if where == "data" else 28] ^= 0x10  # 28: how long the extra field is
    path.write_bytes(data)
    with pytest.raises(InputError, match="x does not hold what its checksum says"):
        store(path).read_bytes("x")
    assert store(path).read_bytes("y") == DATA


def test_a_zip_that_is_replaced_meanwhile_is_refused(tmp_path: Path):
    path = pack(tmp_path / "a.zip", {"x": DATA})
    found = store(path)
    pack(path, {"x": DATA + b"more"})
    with pytest.raises(StaleError, match=r"a\.zip changed since this step began; materialize"):
        found.open("x")
    path.unlink()
    with pytest.raises(StaleError, match="changed since"):
        found.open("x")


def test_a_path_may_lead_into_a_zip(tmp_path: Path):
    path = pack(tmp_path / "a.ZIP", {"in/x": b"1", "out/y": b"2"})
    assert open_source(f"{path}/in").read_bytes("x") == b"1"
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "folder.zip" / "z").write_bytes(b"3")
    assert open_source(str(tmp_path / "folder.zip")).read_bytes("z") == b"3"


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_parquet_is_read_from_a_zip_as_from_its_folder(tmp_path: Path, method: int):
    rows = [[1, 2, 3], [4, 5, 6]]
    one = write_parquet(tmp_path / "x.parquet", ["a", "b"], rows)
    path = pack(tmp_path / "a.zip", {"in/x.parquet": one.read_bytes(), "in/notes": b""}, method)
    files = InputFiles(str(path), "id", "embedding", [])
    assert files.names() == ["x.parquet"]
    assert files.probe("x.parquet").rows == 2
    (batch,) = files.read("x.parquet", 3)
    assert batch.vectors.tolist() == rows
    assert files.probe("x.parquet").fingerprint == files.fingerprint("x.parquet")
    assert InputFiles(f"{path}/x.parquet", "id", "embedding", []).names() == ["x.parquet"]


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_small_members_on_s3_do_not_take_a_request_each(
    tmp_path: Path,
    s3: S3Server,
    method: int,
    monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator,
):
    vectors = {str(i): rng.normal(size=400) for i in range(300)}
    members = {f"{name}.npy": npy_bytes(vector) for name, vector in vectors.items()}
    s3.put("a.zip", pack(tmp_path / "a.zip", members, method).read_bytes())
    files = InputFiles(s3.url("a.zip"), "id", "embedding", [])
    requests: list[str] = []
    real = S3Objects._call, S3Objects._get

    def call(self: S3Objects, doing: str, path: str, *more: Any, **options: Any) -> Any:
        requests.append(doing)
        return real[0](self, doing, path, *more, **options)

    def get(self: S3Objects, *more: Any) -> Any:
        requests.append("get")
        return real[1](self, *more)

    monkeypatch.setattr(S3Objects, "_call", call)
    monkeypatch.setattr(S3Objects, "_get", get)
    found = {
        id_: vector
        for name in files.names()
        for batch in files.read(name, 400)
        for id_, vector in zip(batch.ids.to_pylist(), batch.vectors.tolist(), strict=True)
    }
    assert found == {name: vector.tolist() for name, vector in vectors.items()}
    assert len(requests) < 10
    s3.put("a.zip", (tmp_path / "a.zip").read_bytes() + b"more")
    with pytest.raises(StaleError, match=r"a\.zip changed since this step began"):
        files.store._shared._blocks.clear()
        files.store.read_bytes("0.npy")


def npy_bytes(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, array)
    return target.getvalue()


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_a_zip_may_lie_on_s3(tmp_path: Path, s3: S3Server, method: int):
    write_parquet(tmp_path / "x.parquet", range(3), [[1, 2], [3, 4], [5, 6]])
    path = pack(tmp_path / "a.zip", {"x.parquet": (tmp_path / "x.parquet").read_bytes()}, method)
    s3.put("up/a.zip", path.read_bytes())
    files = InputFiles(s3.url("up/a.zip"), "id", "embedding", [])
    assert files.store.url("x.parquet") == s3.url("up/a.zip/x.parquet")
    (batch,) = files.read("x.parquet", 2)
    assert batch.ids.to_pylist() == pq.read_table(tmp_path / "x.parquet")["id"].to_pylist()
    assert files.fingerprint("x.parquet") == InputFiles(
        str(path), "id", "embedding", []
    ).fingerprint("x.parquet")
