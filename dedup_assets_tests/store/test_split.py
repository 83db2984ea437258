"""The output folder of a split pipeline is taken as input: its embeddings, and its clips."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dedup_assets.errors import InputError
from dedup_assets.store.inputs import InputFiles
from dedup_assets_tests.conftest import write_parquet
from dedup_assets_tests.s3 import S3Server

ROWS = [[1, 2, 3]]


def opened(path: Path | str, filetype: str | None = None) -> InputFiles:
    return InputFiles(str(path), "id", "embedding", [], filetype=filetype)


def split_output(root: Path, *models: str) -> Path:
    for model in models:
        write_parquet(root / model / f"{model}-0.parquet", [model], ROWS)
    for name in ("clips/a.mp4", "metas/v0/a.json", "summary.json"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"{}")
    write_parquet(root / "cds_parquet" / "x.parquet", ["other"], ROWS)
    return root


@pytest.mark.parametrize(
    "model", ["iv2_embd_parquet", "ce1_embd_224p_parquet", "cosmos-1.2_embd_256-b_parquet"]
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_one_folder_of_embeddings_is_read(tmp_path: Path, model: str, slash: str):
    split_output(tmp_path, model)
    files = opened(f"{tmp_path}{slash}")
    assert files.names() == [f"{model}-0.parquet"]
    assert files.store.url() == f"{tmp_path}/{model}"
    assert files.clips == f"{tmp_path}/clips"
    assert opened(tmp_path / model).clips is None


def test_several_models_have_to_be_told_apart(tmp_path: Path):
    split_output(tmp_path, "iv2_embd_parquet", "ce1_embd_parquet")
    with pytest.raises(InputError) as caught:
        opened(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} holds embeddings of several models: ce1_embd_parquet, iv2_embd_parquet; set "
        f"input_embeddings_path to one of them, such as {tmp_path}/ce1_embd_parquet"
    )
    assert opened(tmp_path / "ce1_embd_parquet").names() == ["ce1_embd_parquet-0.parquet"]


def test_an_output_without_clips_has_none(tmp_path: Path):
    write_parquet(tmp_path / "iv2_embd_parquet" / "x.parquet", ["a"], ROWS)
    assert opened(tmp_path).clips is None


def test_a_folder_that_holds_input_itself_is_a_plain_folder(tmp_path: Path):
    """Its other folders may hold anything, and all of it was input before."""
    split_output(tmp_path, "iv2_embd_parquet")
    write_parquet(tmp_path / "x.parquet", ["a"], ROWS)
    files = opened(tmp_path)
    assert len(files.names()) == 3
    assert files.clips is None


def test_tables_go_before_the_oldest_form(tmp_path: Path):
    split_output(tmp_path, "iv2_embd_parquet")
    (tmp_path / "iv2_embd").mkdir()
    np.save(tmp_path / "iv2_embd" / "a.npy", np.ones(3))
    assert opened(tmp_path).names() == ["iv2_embd_parquet-0.parquet"]
    assert opened(tmp_path, "npy").names() == ["a.npy"]
    assert opened(tmp_path, "npy").clips == f"{tmp_path}/clips"


def test_the_oldest_form_alone_is_read(tmp_path: Path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "ce1_embd").mkdir()
    np.save(tmp_path / "ce1_embd" / "a.npy", np.ones((1, 3)))
    files = opened(tmp_path)
    assert (files.names(), files.clips) == (["a.npy"], f"{tmp_path}/clips")


@pytest.mark.parametrize("extension", ["pickle", "pkl"])
@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("arrays", [True, False])
def test_pickles_are_never_read(tmp_path: Path, extension: str, beside: bool, arrays: bool):
    if beside:
        split_output(tmp_path, "iv2_embd_parquet")
    folder = tmp_path / "iv2_embd"
    folder.mkdir()
    (folder / f"a.{extension}").write_bytes(pickle.dumps([1.0]))
    if arrays:
        np.save(folder / "b.npy", np.ones(3))
    with pytest.raises(InputError) as caught:
        opened(folder).names()
    text = str(caught.value)
    assert text.startswith(f"{folder}/a.{extension} is a pickle, which could run any code")
    instead = f"set input_embeddings_path to {folder}_parquet" if beside else "as Parquet"
    assert text.endswith(instead)
    with pytest.raises(InputError, match="is a pickle"):
        opened(folder / f"a.{extension}").names()


def test_a_zip_of_the_output_is_read_with_its_clips(tmp_path: Path):
    root = split_output(tmp_path / "out", "iv2_embd_parquet")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in root.rglob("*"):
            archive.write(path, path.relative_to(tmp_path))
    files = opened(tmp_path / "a.zip")
    assert files.names() == ["iv2_embd_parquet-0.parquet"]
    assert files.clips == f"{tmp_path}/a.zip/clips"


def test_an_output_on_s3_is_read(tmp_path: Path, s3: S3Server):
    for root in ("out", "two"):
        split_output(tmp_path / root, "iv2_embd_parquet")
    write_parquet(tmp_path / "two" / "ce1_embd_parquet" / "x.parquet", ["a"], ROWS)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            s3.put(str(path.relative_to(tmp_path)), path.read_bytes())
    files = opened(s3.url("out"))
    assert files.names() == ["iv2_embd_parquet-0.parquet"]
    assert files.clips == s3.url("out/clips")
    with pytest.raises(InputError, match="several models: ce1_embd_parquet, iv2_embd_parquet"):
        opened(s3.url("two"))


@pytest.mark.parametrize("single", [True, False])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, single: bool):
    write_parquet(tmp_path / "x.parquet", ["a"], ROWS)
    odd = tmp_path / "\udcff.parquet"
    (tmp_path / "x.parquet").rename(odd)
    with pytest.raises(InputError, match=r"'\\udcff.parquet' below .* not UTF-8; rename it"):
        opened(odd if single else tmp_path).names()


def test_formats_are_told_by_the_names_unless_one_is_given(tmp_path: Path):
    np.save(tmp_path / "b.npy", np.ones(3))
    (tmp_path / "c.jsonl").write_text('{"id": "x", "embedding": [1, 2, 3]}\n')
    with pytest.raises(InputError, match=r"both \.jsonl and \.npy files; set input_filetype"):
        opened(tmp_path).names()
    assert opened(tmp_path, "npy").names() == ["b.npy"]
    assert opened(tmp_path, "jsonl").names() == ["c.jsonl"]
    with pytest.raises(InputError, match=r"holds no \.parquet file; point it"):
        opened(tmp_path, "parquet").names()
    write_parquet(tmp_path / "a.parquet", ["a"], ROWS)
    assert opened(tmp_path).names() == ["a.parquet"]
    (tmp_path / "c.jsonl").rename(tmp_path / "c.txt")
    files = opened(tmp_path / "c.txt", "jsonl")
    assert files.probe(files.names()[0]).rows == 1
