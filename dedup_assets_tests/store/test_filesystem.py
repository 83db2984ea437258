"""A file is whole or not there."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dedup_assets.store.filesystem import TEMPORARY, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "root"))


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def files_below(store: Store) -> list[str]:
    root = Path(store.root)
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


def leftover(store: Store, host: str, process: int | str) -> Path:
    path = Path(store.path(f"{TEMPORARY}/{host}-{process}-0"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    return path


def test_written_bytes_are_read_back(store: Store):
    store.write_bytes("a/b/c.bin", b"one")
    assert store.read_bytes("a/b/c.bin") == b"one"
    assert store.exists("a/b/c.bin")
    store.write_bytes("a/b/c.bin", b"")
    assert store.read_bytes("a/b/c.bin") == b""
    assert files_below(store) == ["a/b/c.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("existing", [True, False])
def test_interrupted_write_changes_nothing_and_leaves_nothing(
    store: Store, error: type[BaseException], existing: bool
):
    if existing:
        store.write_bytes("x.bin", b"before")
    with pytest.raises(error), store.write("x.bin") as file:
        file.write(b"half")
        raise error
    assert files_below(store) == (["x.bin"] if existing else [])
    assert not existing or store.read_bytes("x.bin") == b"before"


def test_an_error_of_what_is_read_meanwhile_keeps_its_text(store: Store):
    with pytest.raises(OSError, match="the input was replaced") as caught, store.write("x.bin"):
        raise OSError("the input was replaced")
    assert caught.value.filename is None


def test_nothing_is_under_the_name_before_the_end(store: Store):
    with store.write("x.bin") as file:
        file.write(b"half")
        file.flush()
        assert not store.exists("x.bin")
        assert store.list("") == []
    assert store.exists("x.bin")


def test_writes_may_nest(store: Store):
    with store.write("a") as outer, store.write("b") as inner:
        outer.write(b"1")
        inner.write(b"2")
    assert (store.read_bytes("a"), store.read_bytes("b")) == (b"1", b"2")


def test_list_is_sorted_recursive_and_relative(store: Store):
    for name in ("f/b.x", "f/a.x", "f/sub/c.x", "f/d.y", "g/e.x"):
        store.write_bytes(name, b"")
    assert store.list("f") == ["a.x", "b.x", "d.y", "sub/c.x"]
    assert store.list("f", ".x") == ["a.x", "b.x", "sub/c.x"]
    assert store.list("none") == []
    assert Store(f"{store.root}-none").list("") == []


def test_entries_are_what_lies_directly_below(store: Store, tmp_path: Path):
    for name in ("b/x", "b/c/y", "a", ".h/z"):
        store.write_bytes(name, b"")
    Path(store.path("link")).symlink_to(store.path("b"))
    assert store.entries() == ([".h", "b", "link"], ["a"])
    assert Store(store.path("none")).entries() == Store(store.path("a")).entries() == ([], [])


def test_version_changes_with_the_content(store: Store):
    store.write_bytes("x", b"one")
    first = store.version("x")
    assert store.version("x") == first == store.list_versions("")["x"]
    store.write_bytes("x", b"longer")
    assert store.version("x") != first
    path = Path(store.path("x"))
    longer = store.version("x")
    path.write_bytes(b"LONGER")
    os.utime(path, (1, 1))
    assert store.version("x") != longer
    with pytest.raises(FileNotFoundError):
        store.version("none")


def test_missing_file_is_said_so(store: Store):
    with pytest.raises(FileNotFoundError):
        store.read_bytes("none")


def test_delete_is_silent_twice_and_takes_empty_folders_along(store: Store):
    store.write_bytes("a/x", b"")
    store.write_bytes("a/y", b"")
    store.delete("a/x")
    store.delete("a/x")
    assert store.list("a") == ["y"]
    store.delete("a/y")
    assert not store.exists("a")


def test_sweep_deletes_what_dead_processes_of_this_host_left(store: Store, gone: int):
    dead = leftover(store, socket.gethostname(), gone)
    alive = leftover(store, socket.gethostname(), os.getpid())
    elsewhere = leftover(store, "another.host", gone)
    store.write_bytes("kept.bin", b"")
    store.sweep()
    assert [dead.exists(), alive.exists(), elsewhere.exists()] == [False, True, True]
    assert store.exists("kept.bin")


def test_sweep_leaves_a_host_whose_name_begins_with_ours(
    store: Store, gone: int, monkeypatch: pytest.MonkeyPatch
):
    """Processes of another host are not ours to judge, whatever it is called."""
    monkeypatch.setattr(socket, "gethostname", lambda: "worker")
    other = leftover(store, "worker-1", gone)
    store.sweep()
    assert other.exists()


def test_sweep_removes_the_temporary_folder_once_it_is_empty(store: Store, gone: int):
    leftover(store, socket.gethostname(), gone)
    store.sweep()
    assert not Path(store.path(TEMPORARY)).exists()
    store.sweep()


def test_url_is_what_a_user_can_paste(tmp_path: Path):
    assert Store(str(tmp_path)).url("a/b") == f"{tmp_path}/a/b"
    assert Store(str(tmp_path)).url() == str(tmp_path)
