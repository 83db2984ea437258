"""The user's Parquet files, in any form they come in."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_assets.errors import InputError
from dedup_assets.store.inputs import InputFiles
from dedup_assets_tests.conftest import vector_column, write_parquet

ROWS = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
IDS = ["a", "b/c", "é.1", ""]


def inputs(path: Path, *carried: str) -> InputFiles:
    return InputFiles(str(path), "id", "embedding", list(carried))


def read_all(path: Path, dim: int = 3, *carried: str) -> tuple[list[Any], np.ndarray, list[Any]]:
    """Ids, vectors and (id, row, reason) of all batches of a file."""
    files = inputs(path, *carried)
    batches = [b for name in files.names() for b in files.read(name, dim)]
    ids = [i for b in batches for i in b.ids.to_pylist()]
    rejected = [(r.id, r.row, r.reason) for b in batches for r in b.rejected]
    for batch in batches:
        assert len(batch.ids) == len(batch.vectors) == len(batch.rows) == batch.metadata.num_rows
    vectors = np.concatenate([b.vectors for b in batches]) if batches else np.empty((0, dim))
    return ids, vectors, rejected


@pytest.mark.parametrize("form", ["list", "large_list", "fixed_size_list"])
@pytest.mark.parametrize("value_type", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("nullable", [True, False])
def test_vectors_of_any_form_are_read_as_they_are(
    tmp_path: Path, form: str, value_type: pa.DataType, nullable: bool
):
    file = write_parquet(
        tmp_path / "x.parquet", IDS, ROWS, form=form, value_type=value_type, nullable=nullable
    )
    ids, vectors, rejected = read_all(file)
    assert (ids, rejected) == (IDS, [])
    assert vectors.dtype == value_type.to_pandas_dtype()
    np.testing.assert_array_equal(vectors, ROWS)
    probed = inputs(file).probe("x.parquet")
    assert (probed.rows, probed.dim, probed.bytes) == (4, 3, file.stat().st_size)


@pytest.mark.parametrize(
    ("type_", "ours", "ids"),
    [
        (pa.string(), pa.string(), IDS),
        (pa.large_string(), pa.string(), IDS),
        (pa.dictionary(pa.int32(), pa.string()), pa.string(), IDS),
        (pa.int32(), pa.int32(), [1, -2, 3, 2**31 - 1]),
        (pa.int64(), pa.int64(), [1, -2, 3, 2**63 - 1]),
        (pa.uint64(), pa.uint64(), [1, 2, 3, 2**64 - 1]),
    ],
    ids=str,
)
def test_text_ids_become_strings_and_integers_keep_their_type(
    tmp_path: Path, type_: pa.DataType, ours: pa.DataType, ids: list[Any]
):
    file = write_parquet(tmp_path / "x.parquet", ids, ROWS, id_type=type_)
    files = inputs(file)
    assert files.probe("x.parquet").id_type == ours
    assert next(files.read_ids("x.parquet")).type == ours
    batch = next(files.read("x.parquet", 3))
    assert batch.ids.type == ours
    assert batch.ids.to_pylist() == ids


@pytest.mark.parametrize("form", ["list", "large_list"])
@pytest.mark.parametrize("value_type", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_rows_that_are_no_vector_of_the_length_are_left_out_with_the_reason(
    tmp_path: Path, form: str, value_type: pa.DataType
):
    rows = [[1, 2, 3], None, [1, 2], [], [1, None, 3], [1, 2, 3, 4], [7, 8, 9], [None] * 3]
    ids = list("abcdefgh")
    file = write_parquet(tmp_path / "x.parquet", ids, rows, form=form, value_type=value_type)
    found, vectors, rejected = read_all(file)
    assert found == ["a", "g"]
    np.testing.assert_array_equal(vectors, [[1, 2, 3], [7, 8, 9]])
    assert rejected == [
        ("b", 1, "null embedding"),
        ("c", 2, "2 numbers instead of 3"),
        ("d", 3, "0 numbers instead of 3"),
        ("e", 4, "null inside the embedding"),
        ("f", 5, "4 numbers instead of 3"),
        ("h", 7, "null inside the embedding"),
    ]


def test_fixed_size_rows_that_are_null_or_have_holes_are_left_out(tmp_path: Path):
    rows = [[1, 2, 3], None, [4, None, 6], [7, 8, 9]]
    file = write_parquet(tmp_path / "x.parquet", list("abcd"), rows, form="fixed_size_list")
    found, vectors, rejected = read_all(file)
    assert found == ["a", "d"]
    np.testing.assert_array_equal(vectors, [[1, 2, 3], [7, 8, 9]])
    assert [(i, n) for i, n, _ in rejected] == [("b", 1), ("c", 2)]


def test_null_ids_are_left_out_beside_other_faults(tmp_path: Path):
    rows = [[1, 2, 3], [4, 5, 6], None, [7, 8, 9]]
    file = write_parquet(tmp_path / "x.parquet", [None, "b", None, "d"], rows)
    found, vectors, rejected = read_all(file)
    assert found == ["b", "d"]
    np.testing.assert_array_equal(vectors, [[4, 5, 6], [7, 8, 9]])
    assert [(i, n) for i, n, _ in rejected] == [(None, 0), (None, 2)]


@settings(max_examples=40)
@given(
    st.lists(
        st.none()
        | st.lists(st.none() | st.floats(-9, 9, width=32), min_size=2, max_size=2)
        | st.lists(st.floats(-9, 9, width=32), max_size=3),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from(["list", "large_list"]),
    st.integers(1, 20),
)
def test_every_row_is_read_or_left_out_and_keeps_its_place(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], form: str, row_group_size: int
):
    file = tmp_path_factory.mktemp("rows") / "x.parquet"
    write_parquet(file, range(len(rows)), rows, form=form, row_group_size=row_group_size)
    ids, vectors, rejected = read_all(file, 2)
    good = [i for i, r in enumerate(rows) if r is not None and len(r) == 2 and None not in r]
    assert ids == good
    assert vectors.tolist() == [rows[i] for i in good]
    assert [(i, n) for i, n, _ in rejected] == [(i, i) for i in range(len(rows)) if i not in good]


def test_batches_number_their_rows_through_the_file(tmp_path: Path):
    rows = [[1, 2, 3], None, [1, 2], [4, 5, 6], [7, 8, 9]]
    file = write_parquet(tmp_path / "x.parquet", range(5), rows, size=[10, 11, 12, 13, 14])
    batches = list(inputs(file, "size").read("x.parquet", 3, batch_bytes=24))
    assert len(batches) == 3
    assert [int(n) for b in batches for n in b.rows] == [0, 3, 4]
    assert [r.row for b in batches for r in b.rejected] == [1, 2]
    assert [v for b in batches for v in b.metadata["size"].to_pylist()] == [10, 13, 14]


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.sets(st.integers(0, 71)) | st.none(),
    st.integers(1, 20),
)
def test_row_groups_with_none_of_the_wanted_rows_are_left_out(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], only: set[int] | None, most: int
):
    """And batches neither exceed their size nor hold a part of a row group and of another."""
    path = tmp_path_factory.mktemp("groups")
    n = sum(groups)
    bounds = np.cumsum([0, *groups])
    table = pa.table({"id": range(n), "embedding": vector_column(np.arange(2 * n).reshape(n, 2))})
    with pq.ParquetWriter(path / "x.parquet", table.schema) as writer:
        for first, rows in zip(bounds, groups, strict=False):
            writer.write_table(table.slice(first, rows))
    wanted = None if only is None else np.array(sorted(i for i in only if i < n), dtype=np.int64)
    batches = list(inputs(path).read("x.parquet", 2, batch_bytes=8 * most, only=wanted))
    found = [int(i) for batch in batches for i in batch.rows]
    held = [
        i
        for first, rows in zip(bounds, groups, strict=False)
        for i in range(first, first + rows)
        if wanted is None or any(first <= w < first + rows for w in wanted)
    ]
    assert found == held
    for batch in batches:
        assert 0 < len(batch.ids) <= most
        assert batch.ids.to_pylist() == batch.rows.tolist()
        assert batch.vectors[:, 0].tolist() == (2 * batch.rows).tolist()
        inside = [b for b in bounds if batch.rows[0] < b <= batch.rows[-1]]
        assert not inside or {batch.rows[0], batch.rows[-1] + 1} <= set(bounds.tolist())


def test_batch_says_how_many_bytes_it_takes(tmp_path: Path):
    write_parquet(tmp_path / "x.parquet", range(4), ROWS, title=list("wxyz"))
    batch = next(inputs(tmp_path, "title").read("x.parquet", 3))
    assert batch.nbytes >= 4 * 8 + 4 * 3 * 4 + 4
    assert batch.nbytes < 4 * 8 + 4 * 3 * 4 + 4 + 4 * 8


@pytest.mark.parametrize(
    ("value_type", "rows"), [(pa.float16(), 2), (pa.float32(), 2), (pa.float64(), 1)], ids=str
)
def test_wide_floats_make_batches_of_fewer_rows(tmp_path: Path, value_type: pa.DataType, rows: int):
    """As float32, a float16 takes as much as one."""
    write_parquet(tmp_path / "x.parquet", IDS, ROWS, value_type=value_type)
    batches = inputs(tmp_path).read("x.parquet", 3, batch_bytes=24)
    assert [len(batch.ids) for batch in batches] == [rows] * (4 // rows)


def test_arrays_that_are_slices_are_written_and_read_right(tmp_path: Path):
    column = vector_column(np.arange(30).reshape(10, 3)).slice(4, 3)
    ids = pa.array(range(10)).slice(4, 3)
    pq.write_table(pa.table({"id": ids, "embedding": column}), tmp_path / "x.parquet")
    found, vectors, _ = read_all(tmp_path / "x.parquet")
    assert found == [4, 5, 6]
    assert vectors.tolist() == np.arange(12, 21).reshape(3, 3).tolist()


def test_carried_columns_are_read_unless_told_not_to(tmp_path: Path):
    file = write_parquet(tmp_path / "x.parquet", IDS, ROWS, title=list("wxyz"), other=[1] * 4)
    files = inputs(file, "title")
    assert files.probe("x.parquet").metadata.names == ["title"]
    assert next(files.read("x.parquet", 3)).metadata.column_names == ["title"]
    assert next(files.read("x.parquet", 3, columns=False)).metadata.column_names == []


def test_folders_are_searched_below_and_hidden_names_left_out(tmp_path: Path):
    for name in ("b.parquet", "a/z.parquet", "a/b/y.parquet", "_tmp.parquet", ".hidden.parquet",
                 "_delta/x.parquet", ".cache/x.parquet", "a/_x/v.parquet"):  # fmt: skip
        write_parquet(tmp_path / name, IDS, ROWS)
    (tmp_path / "a" / "notes.txt").write_text("no")
    assert inputs(tmp_path).names() == ["a/b/y.parquet", "a/z.parquet", "b.parquet"]


def test_folder_itself_may_have_a_hidden_name(tmp_path: Path):
    write_parquet(tmp_path / "_in" / "x.parquet", IDS, ROWS)
    assert inputs(tmp_path / "_in").names() == ["x.parquet"]


def test_one_file_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("x.parquet", "y.parquet"):
        write_parquet(tmp_path / name, IDS, ROWS)
    assert inputs(tmp_path / "y.parquet").names() == ["y.parquet"]
    monkeypatch.chdir(tmp_path)
    files = InputFiles("y.parquet", "id", "embedding", [])
    assert files.names() == ["y.parquet"]
    assert files.probe("y.parquet").rows == 4


def test_file_without_rows_has_no_dimension_unless_its_type_says_so(tmp_path: Path):
    nothing = pa.array([], pa.string())
    write_parquet(tmp_path / "a.parquet", nothing, [])
    table = pa.table({"id": nothing, "embedding": pa.array([], pa.list_(pa.float32(), 3))})
    pq.write_table(table, tmp_path / "b.parquet")
    files = inputs(tmp_path)
    assert [files.probe(n).dim for n in files.names()] == [None, 3]
    assert read_all(tmp_path)[0] == []


def test_dimension_is_the_most_frequent_of_the_first_rows(tmp_path: Path):
    rows = [[1, 2], [1, 2, 3], [1, 2, 3], None]
    file = write_parquet(tmp_path / "x.parquet", range(4), rows)
    assert inputs(file).probe("x.parquet").dim == 3


def test_fingerprint_changes_with_name_and_content(tmp_path: Path):
    prints = set()
    for name, rows in (("x", ROWS), ("y", ROWS), ("x", ROWS + 1)):
        file = write_parquet(tmp_path / f"{name}.parquet", IDS, rows)
        first = inputs(file).probe(file.name).fingerprint
        assert first == inputs(file).probe(file.name).fingerprint
        prints.add(first)
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("embedding", "shown"),
    [
        (pa.array([1.0]), "double"),
        (pa.array([[1]]), "list<element: int64>"),
        (pa.array(["[1, 2]"]), "string"),
        (pa.array([[[1.0]]]), "list<element: list<element: double>>"),
        (pa.array([b"1234"]), "binary"),
    ],
    ids=str,
)
def test_embedding_of_another_type_is_refused(tmp_path: Path, embedding: pa.Array, shown: str):
    pq.write_table(pa.table({"id": ["a"], "embedding": embedding}), tmp_path / "x.parquet")
    with pytest.raises(InputError) as caught:
        inputs(tmp_path).probe("x.parquet")
    assert "must be a list or fixed-size list of float16, float32 or float64" in str(caught.value)
    assert shown in str(caught.value)


@pytest.mark.parametrize("ids", [pa.array([1.5]), pa.array([b"a"]), pa.array([True])], ids=str)
def test_ids_of_another_type_are_refused(tmp_path: Path, ids: pa.Array):
    write_parquet(tmp_path / "x.parquet", ids, ROWS[:1])
    with pytest.raises(InputError, match=r"id column 'id' of x\.parquet has type .* text or int"):
        inputs(tmp_path).probe("x.parquet")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"id,embedding\n1,2\n", b"PAR1" + b"\0" * 50])
def test_what_is_not_parquet_is_refused(tmp_path: Path, data: bytes):
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.parquet is not a readable Parquet file .* write it"):
        inputs(tmp_path).probe("x.parquet")


@pytest.mark.parametrize("cut", [1, 8, 100])
def test_truncated_file_is_refused(tmp_path: Path, cut: int):
    file = write_parquet(tmp_path / "x.parquet", IDS, ROWS)
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(InputError, match="is not a readable Parquet file") as caught:
        inputs(tmp_path).probe("x.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [b" ", b"PAR1", b"\xff" * 8])
def test_fingerprint_of_a_file_that_was_appended_to_is_another(tmp_path: Path, change: bytes):
    """Its end is no footer, so it may say that one of any length lies before it."""
    file = write_parquet(tmp_path / "x.parquet", IDS, ROWS)
    before = inputs(tmp_path).fingerprint("x.parquet")
    file.write_bytes(file.read_bytes() + change)
    assert inputs(tmp_path).fingerprint("x.parquet") != before


def test_unknown_column_is_named_beside_those_that_are_there(tmp_path: Path):
    write_parquet(tmp_path / "x.parquet", IDS, ROWS)
    with pytest.raises(InputError, match="has no column 'size'; it has id, embedding; set id_fi"):
        inputs(tmp_path, "size").probe("x.parquet")
