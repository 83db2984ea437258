"""A ZIP file of an output holds every result, equal results give equal bytes, and it is whole."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dedup_assets.errors import SettingsError, StaleError
from dedup_assets.progress import listening
from dedup_assets.store import zip_writer
from dedup_assets.store.filesystem import Store
from dedup_assets.store.zip_writer import pack
from dedup_assets_tests.s3 import S3Server

RESULTS = {
    "settings.json": b"{}",
    "extraction/dedup_summary_0.01.csv": b"eps,kept\n",
    "shards/eps=0.01/ab/00000.tar": bytes(range(256)) * 50_000,
    "shards/eps=0.01/ünïcode name.json": b"",
}
STATE = (".dagster/history/runs.db", ".locks/leases.json", ".tmp/host-1-0")


def filled(root: str) -> Store:
    store = Store(root)
    for name, data in RESULTS.items():
        store.write_bytes(name, data)
    for name in STATE:
        store.write_bytes(name, b"state")
    return store


def write_ours(path: Path) -> None:
    store = Store(f"{path}-out")
    store.write_bytes("x", b"1")
    pack(store, str(path))


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_every_result_is_read_back_and_no_machine_state(tmp_path: Path):
    packed = pack(filled(f"{tmp_path}/out"), f"{tmp_path}/results.zip")
    assert contents(tmp_path / "results.zip") == RESULTS
    assert packed.url == f"{tmp_path}/results.zip"
    assert (packed.files, packed.bytes) == (4, (tmp_path / "results.zip").stat().st_size)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "results.zip"]


def test_entries_are_sorted_stored_and_without_time(tmp_path: Path):
    pack(filled(f"{tmp_path}/out"), f"{tmp_path}/results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(RESULTS)
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.external_attr >> 16 for entry in entries} == {0o100644}


def test_equal_results_give_equal_bytes(tmp_path: Path):
    first = filled(f"{tmp_path}/a")
    for name in sorted(RESULTS, reverse=True):
        Store(f"{tmp_path}/b").write_bytes(name, RESULTS[name])
        os.utime(f"{tmp_path}/b/{name}", (1, 1))
        Path(f"{tmp_path}/b/{name}").chmod(0o600)
    pack(first, f"{tmp_path}/a.zip")
    pack(Store(f"{tmp_path}/b"), f"{tmp_path}/b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    again = (tmp_path / "a.zip").read_bytes()
    pack(first, f"{tmp_path}/a.zip")
    assert (tmp_path / "a.zip").read_bytes() == again


def test_large_files_take_zip64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1 << 20)
    pack(filled(f"{tmp_path}/out"), f"{tmp_path}/results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        versions = {entry.filename: entry.extract_version for entry in archive.infolist()}
    assert versions["shards/eps=0.01/ab/00000.tar"] == zipfile.ZIP64_VERSION
    assert contents(tmp_path / "results.zip") == RESULTS


@pytest.mark.parametrize(("source", "target"), [("s3", "s3"), ("s3", "disk"), ("disk", "s3")])
def test_output_and_zip_may_lie_on_s3(tmp_path: Path, s3: S3Server, source: str, target: str):
    store = filled(s3.url("out") if source == "s3" else f"{tmp_path}/out")
    path = s3.url("results.zip") if target == "s3" else f"{tmp_path}/results.zip"
    packed = pack(store, path)
    assert packed.url == path
    if target == "s3":
        (tmp_path / "results.zip").write_bytes(s3.get("results.zip"))
    assert contents(tmp_path / "results.zip") == RESULTS
    pack(filled(f"{tmp_path}/local"), f"{tmp_path}/local.zip")
    assert (tmp_path / "local.zip").read_bytes() == (tmp_path / "results.zip").read_bytes()


@pytest.mark.parametrize("change", ["rewritten", "deleted", "added"])
@pytest.mark.parametrize("earlier", [True, False])
def test_output_that_changes_meanwhile_is_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, earlier: bool
):
    store = filled(f"{tmp_path}/out")
    add = zip_writer._add

    def add_and_change(archive: Any, store: Store, name: str) -> None:
        add(archive, store, name)
        if name == "extraction/dedup_summary_0.01.csv":
            if change == "deleted":
                store.delete("shards/eps=0.01/ab/00000.tar")
            else:
                store.write_bytes("settings.json" if change == "rewritten" else "new", b"other")

    monkeypatch.setattr(zip_writer, "_add", add_and_change)
    if earlier:
        write_ours(tmp_path / "results.zip")
    before = (tmp_path / "results.zip").read_bytes() if earlier else b""
    with pytest.raises(StaleError, match="changed while it was packed"):
        pack(store, f"{tmp_path}/results.zip")
    assert (tmp_path / "results.zip").exists() == earlier
    assert not earlier or (tmp_path / "results.zip").read_bytes() == before
    assert not (tmp_path / ".tmp").exists()


def test_interrupted_packing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(zip_writer, "_add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack(filled(f"{tmp_path}/out"), f"{tmp_path}/results.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_place_that_cannot_be_written_is_named(tmp_path: Path):
    store = filled(f"{tmp_path}/out")
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "file").write_text("hello")
    for path, reason in (("folder.zip", "Is a directory"), ("file/x.zip", "Not a directory")):
        with pytest.raises(SettingsError, match=rf"{path} cannot be written \({reason}"):
            pack(store, f"{tmp_path}/{path}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.zip", "out"]


def test_packing_tells_how_far_it_is(tmp_path: Path):
    told: list[object] = []

    class Listener:
        def start(self, label: str, total: int, unit: str) -> Any:
            told.append((label, total, unit))
            return told.append

        def finish(self) -> None:
            told.append("end")

    @contextmanager
    def listener() -> Iterator[None]:
        with listening(Listener()):
            yield

    with listener():
        pack(filled(f"{tmp_path}/out"), f"{tmp_path}/results.zip")
    assert told == [("packing", 4, "files"), 1, 1, 1, 1, "end"]


def write_other_zip(path: Path, comment: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("clips/a.mp4", b"the only copy")
        archive.comment = comment


OTHERS: dict[str, Any] = {
    "clips": write_other_zip,
    "its comment within": lambda path: write_other_zip(path, zip_writer._COMMENT + b"and more"),
    "no zip": lambda path: path.write_bytes(b"a letter"),
    "no zip, our last words": lambda path: path.write_bytes(b"x" * 99 + zip_writer._COMMENT),
    "the comment alone": lambda path: path.write_bytes(zip_writer._COMMENT),
    "empty": lambda path: path.write_bytes(b""),
    "a link": lambda path: write_other_zip(path.with_name("a")) or path.symlink_to("a"),  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_file_that_is_not_ours_is_not_overwritten(tmp_path: Path, case: str):
    store = filled(f"{tmp_path}/out")
    path = tmp_path / "zips" / "results.zip"
    path.parent.mkdir()
    OTHERS[case](path)
    before = path.read_bytes()
    with pytest.raises(SettingsError) as caught:
        pack(store, str(path))
    assert str(caught.value) == (
        f"{path} is there and is not a ZIP file that dedup-assets wrote; choose another "
        "--output-zip, or move that file away"
    )
    assert path.read_bytes() == before
    assert not (path.parent / ".tmp").exists()


def test_a_zip_of_ours_is_written_again(tmp_path: Path):
    write_ours(tmp_path / "results.zip")
    pack(filled(f"{tmp_path}/out"), f"{tmp_path}/results.zip")
    assert contents(tmp_path / "results.zip") == RESULTS


def test_a_file_that_comes_while_packing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    add = zip_writer._add

    def add_and_write(archive: Any, store: Store, name: str) -> None:
        add(archive, store, name)
        write_other_zip(tmp_path / "results.zip")

    monkeypatch.setattr(zip_writer, "_add", add_and_write)
    with pytest.raises(SettingsError, match="is not a ZIP file that dedup-assets wrote"):
        pack(filled(f"{tmp_path}/out"), f"{tmp_path}/results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        assert archive.namelist() == ["clips/a.mp4"]


def test_the_same_holds_on_s3(tmp_path: Path, s3: S3Server):
    store = filled(f"{tmp_path}/out")
    write_other_zip(tmp_path / "clips.zip")
    s3.put("clips.zip", (tmp_path / "clips.zip").read_bytes())
    with pytest.raises(SettingsError, match=r"s3://.*/clips\.zip is there and is not a ZIP file"):
        pack(store, s3.url("clips.zip"))
    assert s3.get("clips.zip") == (tmp_path / "clips.zip").read_bytes()
    pack(store, s3.url("results.zip"))
    first = s3.get("results.zip")
    pack(store, s3.url("results.zip"))
    assert s3.get("results.zip") == first
