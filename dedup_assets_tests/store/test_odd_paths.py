"""A local path is what the operating system takes it for, whatever characters it has."""

import zipfile
from pathlib import Path

import pydantic
import pytest

from dedup_assets.settings import Settings
from dedup_assets.store.filesystem import Store
from dedup_assets.store.inputs import InputFiles
from dedup_assets.store.media import MediaFiles
from dedup_assets.store.source import open_source
from dedup_assets_tests.conftest import ODD_NAMES, write_parquet


@pytest.mark.parametrize("name", ODD_NAMES)
def test_files_are_written_and_read_below_an_odd_folder(tmp_path: Path, name: str):
    store = Store(f"{tmp_path}/{name}")
    store.write_bytes("a/x.bin", b"one")
    assert (tmp_path / name / "a" / "x.bin").read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert store.read_bytes("a/x.bin") == b"one"
    assert store.list("") == ["a/x.bin"]
    assert store.entries() == (["a"], [])
    assert store.exists("") and store.exists("a/x.bin") and not store.exists("b")
    assert store.has_any("a/x") and not store.has_any("a/y")
    assert store.size("a/x.bin") == 3
    assert store.version("a/x.bin") == store.list_versions("")["a/x.bin"]
    assert store.url("a/x.bin") == f"{tmp_path}/{name}/a/x.bin"
    store.delete("a/x.bin")
    assert store.list("") == []


@pytest.mark.parametrize("name", ODD_NAMES)
def test_files_may_have_odd_names(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"one")
    store = Store(str(tmp_path))
    assert store.list("") == [name]
    assert store.read_bytes(name) == b"one"
    assert Store(f"{tmp_path}/{name}").is_file()
    assert Store(f"{tmp_path}/{name}").read_bytes("") == b"one"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_input_file_and_zip_may_have_odd_names(tmp_path: Path, name: str):
    file = write_parquet(tmp_path / f"{name}.parquet", ["a"], [[1, 2]])
    files = InputFiles(str(file), "id", "embedding", [])
    assert files.names() == [file.name]
    assert files.probe(file.name).rows == 1
    with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
        archive.writestr("clips/a.mp4", b"clip")
        archive.writestr("other/b.mp4", b"clip")
    assert MediaFiles(f"{tmp_path}/{name}.zip/clips").match(["a"], {})["a"]["mp4"] == "a.mp4"


def test_a_file_at_the_top_of_the_file_system_is_not_looked_for_elsewhere():
    assert not open_source("/a.parquet").is_file()
    assert InputFiles("/etc/hostname", "id", "embedding", []).store.url() == "/etc"


def test_chains_and_protocols_of_fsspec_mean_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("simplecache::memory:x", "file:x", "memory:x", "~", "a::s3:b"):
        Store(name).write_bytes("x", b"1")
        assert (tmp_path / name / "x").exists(), name


@pytest.mark.parametrize("field", ["input_embeddings_path", "output_path", "clips_path"])
@pytest.mark.parametrize("url", ["file:///data", "gs://b/x", "s3a://b/x", "a::s3://b/x", "x\n://"])
def test_urls_of_anything_but_s3_are_refused(field: str, url: str):
    given = {"input_embeddings_path": "in", "output_path": "out", "n_clusters": 1}
    with pytest.raises(pydantic.ValidationError, match="must be a local path or s3://"):
        Settings.of(**(given | {field: url}))
