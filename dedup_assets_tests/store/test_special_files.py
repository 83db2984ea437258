"""Pipes, devices and sockets are refused by name: to read one may never end."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_assets.errors import InputError, SettingsError
from dedup_assets.store import local
from dedup_assets.store.filesystem import Store
from dedup_assets.store.inputs import InputFiles
from dedup_assets.store.media import MediaFiles
from dedup_assets.store.source import open_source
from dedup_assets.store.zip_writer import pack
from dedup_assets_tests.conftest import write_parquet

KINDS = {
    "pipe": "a pipe",
    "socket": "a socket",
    "device": "a device",
    "link to a pipe": "a pipe",
    "link to a device": "a device",
}


@pytest.fixture(autouse=True)
def hang_fails() -> Iterator[None]:
    """What waits for a pipe would wait for ever."""

    def stop(*_: Any) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make(kind: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a special file at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as unix:
                monkeypatch.chdir(path.parent)  # a socket's path has to be short
                unix.bind(path.name)
        case "device":
            try:
                os.mknod(path, 0o20600, os.makedev(1, 5))
            except PermissionError:
                pytest.skip("to make a device takes a privilege")
        case "link to a pipe":
            os.mkfifo(path.with_name("pipe-itself"))
            path.symlink_to("pipe-itself")
        case "link to a device":
            path.symlink_to("/dev/zero")
    return path


def input_files(path: Path) -> InputFiles:
    return InputFiles(str(path), "id", "embedding", [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.npy"])
def test_one_in_the_input_folder_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
):
    path = make(kind, tmp_path / "in" / name, monkeypatch)
    with pytest.raises(InputError) as caught:
        files = input_files(tmp_path / "in")
        for found in files.names():
            files.probe(found)
    assert str(caught.value) == (
        f"{path} is {KINDS[kind]}, and only regular files are read; replace it by a file, or move "
        "it away"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["in", "a.parquet", "a.zip"])
def test_one_in_place_of_the_input_or_the_clips_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
):
    path = make(kind, tmp_path / name, monkeypatch)
    for open_it in (input_files, lambda path: MediaFiles(str(path))):
        with pytest.raises(InputError, match=f"{name} is {KINDS[kind]}, and only regular"):
            open_it(path)


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_would_not_be_read_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    write_parquet(tmp_path / "in" / "a.parquet", ["a"], np.eye(1))
    make(kind, tmp_path / "in" / "notes.txt", monkeypatch)
    files = input_files(tmp_path / "in")
    assert files.names() == ["a.parquet"]
    assert files.probe("a.parquet").rows == 1


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_one_among_the_clips_is_refused_when_its_id_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    make(kind, tmp_path / "clips" / "a.mp4", monkeypatch)
    (tmp_path / "clips" / "b.mp4").write_bytes(b"clip")
    media = MediaFiles(str(tmp_path / "clips"))
    found = media.match(["a", "b"], {})
    assert media.store.read_bytes(found["b"]["mp4"]) == b"clip"
    with pytest.raises(InputError, match=f"a.mp4 is {KINDS[kind]}, and only regular"):
        media.store.read_bytes(found["a"]["mp4"])


def test_one_that_is_put_there_meanwhile_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    os.mkfifo(tmp_path / "x")
    monkeypatch.setattr(local, "refuse_special", lambda path: None)  # it was a file a moment ago
    with pytest.raises(InputError, match="x is a pipe"):
        Store(str(tmp_path)).open("x")


@pytest.mark.parametrize("kind", KINDS)
def test_one_in_place_of_the_zip_of_the_results_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    Store(f"{tmp_path}/out").write_bytes("x", b"1")
    path = make(kind, tmp_path / "zips" / "r.zip", monkeypatch)
    there = path.lstat()
    with pytest.raises(SettingsError, match=f"r.zip is {KINDS[kind]}, not a ZIP file; choose an"):
        pack(Store(f"{tmp_path}/out"), str(path))
    assert path.lstat() == there


def test_folders_and_files_are_opened_as_before(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"1")
    assert open_source(str(tmp_path / "x")).is_file()
    assert not open_source(str(tmp_path)).is_file()
    assert not open_source(str(tmp_path / "none")).exists("")
    with pytest.raises(IsADirectoryError):
        Store(str(tmp_path)).open("")
