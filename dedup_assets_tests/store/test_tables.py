"""Parquet tables of our own, and the columns in them."""

import errno
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.errors import StaleError
from dedup_assets.store import schemas
from dedup_assets.store.arrow import column_to_vectors, vectors_to_column
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.s3 import ChangedError
from dedup_assets.store.tables import (
    info_of,
    read_batches,
    read_current,
    read_info,
    read_table,
    to_frame,
    write_table,
)

SCHEMA = schemas.fragment(pa.string(), pa.schema([pa.field("title", pa.string())]))


def fragment(rows: int, dim: int = 5) -> pa.Table:
    vectors = np.random.default_rng(rows).normal(size=(rows, dim)).astype(np.float32)
    return pa.table(
        [
            pa.array([f"v{i:05d}" for i in range(rows)], pa.string()),
            vectors_to_column(vectors, SCHEMA.field("embedding").type),
            pa.array(np.arange(rows, dtype=np.float32)),
            pa.array(np.arange(rows, dtype=np.float32)),
            pa.array([None if i % 3 else "t" for i in range(rows)], pa.string()),
        ],
        schema=SCHEMA,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.mark.parametrize("rows", [0, 1, 25_000])
def test_table_and_info_come_back(store: Store, rows: int):
    table = fragment(rows)
    write_table(store, "x.parquet", table, {"b": [1, "é"], "a": None})
    back = read_table(store, "x.parquet")
    assert back.equals(table)
    assert back.schema.remove_metadata().equals(SCHEMA)
    assert info_of(back.schema) == read_info(store, "x.parquet") == {"b": [1, "é"], "a": None}
    assert read_table(store, "x.parquet", ["id"]).column_names == ["id"]


@pytest.mark.parametrize("rows", [1, 999, 50_000])
def test_batches_are_the_rows_in_order_and_no_larger_than_asked_for(store: Store, rows: int):
    table = fragment(12_000)
    write_table(store, "x.parquet", table, {})
    batches = list(read_batches(store, "x.parquet", ["id", "embedding"], rows))
    assert max(len(batch) for batch in batches) <= rows
    assert pa.Table.from_batches(batches).equals(table.select(["id", "embedding"]))
    with pytest.raises(FileNotFoundError):
        next(read_batches(store, "none.parquet", ["id"], rows))


def test_equal_content_gives_equal_bytes_however_it_is_chunked(store: Store):
    table = fragment(1000)
    write_table(store, "a", table, {"x": 1, "y": 2})
    chunked = pa.concat_tables([table.slice(0, 300), table.slice(300)])
    write_table(store, "b", chunked, {"y": 2, "x": 1})
    write_table(store, "c", table.replace_schema_metadata({"other": "1"}), {"x": 1, "y": 2})
    assert store.read_bytes("a") == store.read_bytes("b") == store.read_bytes("c")
    write_table(store, "d", table, {"x": 2, "y": 2})
    assert store.read_bytes("a") != store.read_bytes("d")


def test_vectors_are_plain_in_groups_of_ten_thousand_rows(store: Store):
    """Dictionaries and huge groups make vectors several times slower to read."""
    write_table(store, "x.parquet", fragment(20_001), {})
    meta = pq.ParquetFile(store.path("x.parquet")).metadata
    assert [meta.row_group(i).num_rows for i in range(3)] == [10_000, 10_000, 1]
    columns = {meta.row_group(0).column(i).path_in_schema: i for i in range(5)}
    vectors = meta.row_group(0).column(columns["embedding.list.element"])
    assert vectors.compression == "UNCOMPRESSED"
    assert not any("DICTIONARY" in encoding for encoding in vectors.encodings)


def test_info_of_a_file_that_is_missing_or_not_ours(store: Store):
    assert read_info(store, "none.parquet") is None
    store.write_bytes("broken.parquet", b"PAR1 not really")
    with pytest.raises(StaleError, match=r"broken\.parquet cannot be read as Parquet .*delete it"):
        read_info(store, "broken.parquet")
    pq.write_table(pa.table({"a": [1]}), store.path("foreign.parquet"))
    assert read_info(store, "foreign.parquet") == {}


def test_a_table_that_is_rewritten_while_it_is_read_is_not_called_damaged(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    class Replaced(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ChangedError("s3://b/x.parquet was replaced while it was read")

    monkeypatch.setattr(Store, "open", lambda self, name: Replaced(bytes(1000)))
    with pytest.raises(StaleError, match="was replaced while it was read; materialize this again"):
        read_info(store, "x.parquet")
    with pytest.raises(StaleError, match="was rewritten by another run meanwhile"):
        read_current(store, "x.parquet", "fingerprint")


def test_a_fault_of_the_disk_is_not_called_a_damaged_table(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Store, "open", lambda self, name: Broken(bytes(1000)))
    with pytest.raises(OSError, match="Input/output error"):
        read_info(store, "x.parquet")


def test_truncated_table_is_named(store: Store):
    write_table(store, "x.parquet", fragment(100), {})
    store.write_bytes("x.parquet", store.read_bytes("x.parquet")[:-20])
    with pytest.raises(StaleError, match="delete it and materialize again"):
        read_info(store, "x.parquet")


@given(st.integers(0, 20), st.integers(1, 6), st.data())
def test_vectors_come_back_from_any_chunks(n: int, dim: int, data: st.DataObject):
    vectors = np.arange(n * dim, dtype=np.float32).reshape(n, dim)
    column = vectors_to_column(vectors, SCHEMA.field("embedding").type)
    cut = data.draw(st.integers(0, n))
    parts = pa.chunked_array([*column.slice(0, cut).chunks, *column.slice(cut).chunks], column.type)
    np.testing.assert_array_equal(column_to_vectors(parts, dim), vectors)


def test_vectors_of_a_view_are_copied_right():
    wide = np.arange(24, dtype=np.float32).reshape(4, 6)
    column = vectors_to_column(wide[::2, 1:4], SCHEMA.field("embedding").type)
    assert column.to_pylist() == wide[::2, 1:4].tolist()


def test_fingerprint_is_pinned_and_sees_types_and_order():
    """It names fragments on disk; a change would make all of them stale."""
    assert fingerprint("a", 1, [None, 2.5], {"k": "é"}) == "31aeed9892c4e265bc637074"
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert len({fingerprint(1), fingerprint("1"), fingerprint([1]), fingerprint(1, 1)}) == 4


def test_text_that_is_not_utf8_does_not_reach_polars():
    """Arrow does not look at it when it reads Parquet, and Polars trusts what it is given."""
    offsets = pa.array([0, 2], pa.int32()).buffers()[1]
    text = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
    with pytest.raises(StaleError, match=r"damaged \(.*UTF-?8.*\); delete .* and run again"):
        to_frame(pa.table({"id": text}))
