"""A ``.npy`` file for each clip: many of them together are one file of the manifest."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dedup_assets.errors import InputError, StaleError
from dedup_assets.store.filesystem import Store
from dedup_assets.store.formats import npy
from dedup_assets.store.inputs import InputFiles
from dedup_assets_tests.s3 import S3Server


def write(folder: Path, vectors: dict[str, Any]) -> Path:
    for name, vector in vectors.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", vector)
    return folder


def opened(path: Path, *carried: str, filetype: str | None = None) -> InputFiles:
    return InputFiles(str(path), "id", "embedding", list(carried), filetype=filetype)


def read_all(path: Path, dim: int = 3) -> tuple[dict[str, Any], list[Any]]:
    files = opened(path)
    batches = [batch for name in files.names() for batch in files.read(name, dim)]
    rows = {
        id_: vector.tolist()
        for batch in batches
        for id_, vector in zip(batch.ids.to_pylist(), batch.vectors, strict=True)
    }
    return rows, [r for batch in batches for r in batch.rejected]


@pytest.mark.parametrize("type_", ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"])
@pytest.mark.parametrize("shape", [(3,), (1, 3)])
def test_vectors_are_read_as_they_are(tmp_path: Path, type_: str, shape: tuple[int, ...]):
    vector = np.array([1, -2.5, 3], type_).reshape(shape)
    write(tmp_path, {"a": vector, "b": np.asfortranarray(vector)})
    rows, rejected = read_all(tmp_path)
    assert rows == {"a": [1, -2.5, 3], "b": [1, -2.5, 3]}
    assert rejected == []
    (name,) = opened(tmp_path).names()
    batch = next(opened(tmp_path).read(name, 3))
    assert batch.vectors.dtype == np.dtype(type_).newbyteorder("=")
    probed = opened(tmp_path).probe(name)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert (probed.rows, probed.dim, probed.bytes) == (2, 3, size)
    assert (probed.id_type, probed.metadata.names) == (pa.string(), [])


def test_the_id_is_the_name_of_the_file(tmp_path: Path):
    names = ["a.b", "sub/c", "é 😀", "-", "x.npy"]
    write(tmp_path, dict.fromkeys(names, np.ones(3)))
    assert sorted(read_all(tmp_path)[0]) == sorted(["a.b", "c", "é 😀", "-", "x.npy"])
    files = opened(tmp_path)
    ids = [i for name in files.names() for part in files.read_ids(name) for i in part.to_pylist()]
    assert sorted(ids) == sorted(["a.b", "c", "é 😀", "-", "x.npy"])


def test_kinds_of_floats_do_not_mix_in_a_batch(tmp_path: Path):
    """A row must not depend on the type of its neighbours."""
    vectors = {f"{i}": np.ones(3, ["f2", "f4", "f4", "f8"][i % 4]) for i in range(10)}
    write(tmp_path, vectors)
    files = opened(tmp_path)
    (name,) = files.names()
    found = {i: b.vectors.dtype for b in files.read(name, 3) for i in b.ids.to_pylist()}
    assert found == {i: v.dtype for i, v in vectors.items()}


def test_wrong_lengths_are_left_out_with_their_file(tmp_path: Path):
    write(tmp_path, {"a": np.ones(3), "b": np.ones(2), "c": np.ones(3), "d": np.ones(0)})
    rows, rejected = read_all(tmp_path)
    assert sorted(rows) == ["a", "c"]
    assert [(r.id, r.file, r.row, r.reason) for r in rejected] == [
        ("b", "b.npy", 0, "2 numbers instead of 3"),
        ("d", "d.npy", 0, "0 numbers instead of 3"),
    ]


def test_many_files_are_few_and_one_more_changes_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(npy, "FILES_IN_PACK", 20)
    write(tmp_path, {f"v{i}": [float(i)] for i in range(500)})
    before = opened(tmp_path)
    prints = {name: before.fingerprint(name) for name in before.names()}
    assert 10 <= len(prints) <= 60
    write(tmp_path, {"v250x": [1.0]})
    after = opened(tmp_path)
    changed = [n for n in after.names() if prints.get(n) != after.fingerprint(n)]
    assert 1 <= len(changed) <= 2
    assert len(read_all(tmp_path, 1)[0]) == 501


def test_no_file_is_opened_to_list_ids_and_one_of_a_pack_to_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path, {f"v{i}": np.ones(3) for i in range(50)})
    opens: list[str] = []
    real = Store.open
    monkeypatch.setattr(Store, "open", lambda self, name: opens.append(name) or real(self, name))
    files = opened(tmp_path)
    (name,) = files.names()
    assert sum(len(ids) for ids in files.read_ids(name)) == 50
    files.fingerprint(name)
    assert opens == []
    files.probe(name)
    assert len(opens) == 1


def test_only_the_wanted_rows_are_opened(tmp_path: Path):
    write(tmp_path, {f"v{i}": [float(i), 1] for i in range(10)})
    files = opened(tmp_path)
    (name,) = files.names()
    batches = list(files.read(name, 2, only=np.array([2, 7]), batch_bytes=16))
    assert [batch.ids.to_pylist() for batch in batches] == [["v2"], ["v7"]]
    assert [batch.rows.tolist() for batch in batches] == [[2], [7]]
    assert [batch.place(0) for batch in batches] == [("v2.npy", 0), ("v7.npy", 0)]


def saved(array: Any, **options: Any) -> bytes:
    target = io.BytesIO()
    np.save(target, array, **options)
    return target.getvalue()


WRONG: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "does not begin with the mark"),
    "no array": (b"PAR1" * 20, "does not begin with the mark"),
    "pickled objects": (
        saved(np.array([{}], dtype=object), allow_pickle=True),
        "type |O, and must be one vector of float16, float32 or float64",
    ),
    "pickle": (pickle.dumps([1.0] * 30), "does not begin with the mark"),
    "integers": (saved(np.arange(3)), "shape (3,) and type <i8, and must be"),
    "matrix": (saved(np.eye(3)), "shape (3, 3) and type <f8, and must be"),
    "cut": (saved(np.ones(30))[:-8], "its header says 368 bytes, and it has fewer"),
    "cut header": (saved(np.ones(3))[:40], "its header is damaged"),
    "records": (saved(np.zeros(3, [("a", "f4")])), "its header is damaged"),
    "huge": (saved(np.ones(3)).replace(b"(3,)", b"(10000000000000,)"), "its header"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_vector_is_refused_in_one_line(tmp_path: Path, case: str):
    data, says = WRONG[case]
    (tmp_path / "x.npy").write_bytes(data)
    with pytest.raises(InputError) as caught:
        opened(tmp_path).probe("x.npy")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/x.npy is not a readable .npy file (")
    assert says in text
    assert text.endswith("write it again or move it out of the input")
    assert "\n" not in text


def test_a_file_that_is_gone_or_changed_is_seen(tmp_path: Path):
    write(tmp_path, {"a": np.ones(3), "b": np.ones(3)})
    files = opened(tmp_path)
    (name,) = files.names()
    before = files.fingerprint(name)
    (tmp_path / "b.npy").unlink()
    with pytest.raises(StaleError, match=r"b\.npy is gone since this step began; materialize"):
        list(files.read(name, 3))
    assert opened(tmp_path).fingerprint(name) != before
    (tmp_path / "a.npy").unlink()
    with pytest.raises(FileNotFoundError):
        opened(tmp_path).fingerprint(name)


def test_a_file_that_is_cut_meanwhile_is_seen(tmp_path: Path):
    write(tmp_path, {"a": np.ones(30)})
    files = opened(tmp_path)
    (name,) = files.names()
    (tmp_path / "a.npy").write_bytes(saved(np.ones(30))[:-8])
    with pytest.raises(StaleError, match=r"a\.npy changed since this step began; materialize"):
        list(files.read(name, 30))


def test_the_files_are_those_of_one_listing(tmp_path: Path):
    """A second one takes as long again, and may find others in a pack."""
    write(tmp_path, {"b": np.ones(3)})
    files = opened(tmp_path)
    (name,) = files.names()
    write(tmp_path, {"a": np.ones(3)})
    assert files.probe(name).rows == 1


def test_columns_cannot_be_asked_of_arrays(tmp_path: Path):
    write(tmp_path, {"a": np.ones(3)})
    with pytest.raises(InputError, match=r"holds \.npy files, which have no column 'size'; leave"):
        opened(tmp_path, "size").names()


def test_one_file_may_be_named(tmp_path: Path):
    write(tmp_path, {"a": np.ones(3), "b": np.ones(3)})
    files = opened(tmp_path / "a.npy")
    assert files.names() == ["a.npy"]
    assert [b.ids.to_pylist() for b in files.read("a.npy", 3)] == [["a"]]


def test_arrays_are_read_from_s3(tmp_path: Path, s3: S3Server):
    vectors = {f"v{i}": [float(i), 1.0] for i in range(30)}
    for name, vector in vectors.items():
        s3.put(f"iv2_embd/{name}.npy", saved(np.array(vector)))
    files = InputFiles(s3.url("iv2_embd"), "id", "embedding", [])
    (name,) = files.names()
    (batch,) = files.read(name, 2)
    assert dict(zip(batch.ids.to_pylist(), batch.vectors.tolist(), strict=True)) == vectors
