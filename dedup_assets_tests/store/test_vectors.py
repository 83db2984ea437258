"""Vectors of fragments as they are read past Arrow, against what Arrow reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.errors import StaleError
from dedup_assets.store import schemas, vectors
from dedup_assets.store.arrow import column_to_vectors, vectors_to_column
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import read_table, write_table
from dedup_assets.store.vectors import read_vector_batches, read_vectors
from dedup_assets_tests.s3 import S3Server

TAGS = pa.field("tags", pa.list_(pa.field("element", pa.float32())))
SCHEMA = schemas.fragment(pa.string(), pa.schema([TAGS]))


def fragment(rows: int, dim: int) -> pa.Table:
    """A fragment with a carried column whose leaf has the name of that of the vectors."""
    numbers = np.random.default_rng(rows).normal(size=(rows, dim)).astype(np.float32)
    return pa.table(
        [
            pa.array([f"v{i:05d}" for i in range(rows)], pa.string()),
            vectors_to_column(numbers, SCHEMA.field("embedding").type),
            pa.array(np.arange(rows, dtype=np.float32)),
            pa.array(np.arange(rows, dtype=np.float32)),
            pa.array([None if i % 3 else [1.0, None] for i in range(rows)], TAGS.type),
        ],
        schema=SCHEMA,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def assert_read_as_by_arrow(store: Store, name: str, dim: int, rows: int) -> None:
    table = read_table(store, name)
    expected = column_to_vectors(table["embedding"], dim)
    out = np.full((table.num_rows, dim), np.nan, dtype=np.float32)
    others = read_vectors(store, name, out, ["id", "tags"])
    np.testing.assert_array_equal(out, expected)
    assert others.equals(table.select(["id", "tags"]))
    batches = list(read_vector_batches(store, name, ["id"], dim, rows))
    assert max((len(part) for _, part in batches), default=0) <= rows
    assert [len(columns) for columns, _ in batches] == [len(part) for _, part in batches]
    nothing = np.empty((0, dim), dtype=np.float32)
    np.testing.assert_array_equal(np.concatenate([nothing, *(p for _, p in batches)]), expected)
    assert [i for c, _ in batches for i in c.column("id").to_pylist()] == table["id"].to_pylist()


@given(st.integers(0, 300), st.integers(1, 70), st.integers(1, 400))
def test_any_fragment(tmp_path_factory: pytest.TempPathFactory, rows: int, dim: int, step: int):
    store = Store(str(tmp_path_factory.mktemp("fragments")))
    write_table(store, "x.parquet", fragment(rows, dim), {})
    assert_read_as_by_arrow(store, "x.parquet", dim, step)


@pytest.mark.parametrize(("rows", "dim"), [(25_000, 9), (1_500, 768), (3, 300_001)])
def test_several_pages_and_row_groups_whose_ends_cut_vectors(store: Store, rows: int, dim: int):
    write_table(store, "x.parquet", fragment(rows, dim), {})
    assert_read_as_by_arrow(store, "x.parquet", dim, 700)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The row groups that Arrow decoded."""
    seen: list[int] = []
    real = vectors._Decoded

    def decode(parquet: pq.ParquetFile, group: int, dim: int) -> Any:
        seen.append(group)
        return real(parquet, group, dim)

    monkeypatch.setattr(vectors, "_Decoded", decode)
    return seen


def test_a_fragment_of_ours_is_read_past_arrow(store: Store, decoded: list[int]):
    write_table(store, "x.parquet", fragment(50, 8), {})
    assert_read_as_by_arrow(store, "x.parquet", 8, 20)
    assert decoded == []


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zstd"},
        {"compression": "none"},  # with a dictionary
        {
            "compression": "none",
            "use_dictionary": False,
            "use_byte_stream_split": ["embedding.list.element"],
        },
    ],
)
def test_files_of_another_shape_are_decoded(
    store: Store, decoded: list[int], options: dict[str, Any]
):
    table = fragment(500, 8).select(["id", "embedding", "tags"])
    path = Path(store.path("x.parquet"))
    pq.write_table(table, path, row_group_size=200, **options)
    assert_read_as_by_arrow(store, "x.parquet", 8, 90)
    assert decoded


def test_plain_pages_of_the_second_version_are_refused(store: Store):
    table = fragment(500, 8).select(["id", "embedding"])
    options = {"compression": "none", "use_dictionary": False, "data_page_version": "2.0"}
    pq.write_table(table, Path(store.path("x.parquet")), **options)
    with pytest.raises(StaleError, match=r"cannot be read as Parquet \(the header of a page"):
        read_vectors(store, "x.parquet", np.empty((500, 8), np.float32), ["id"])


def test_vectors_that_may_be_null_are_decoded(store: Store, decoded: list[int]):
    table = fragment(40, 8)
    loose = pa.schema(
        [f.with_type(pa.list_(pa.float32())) if f.name == "embedding" else f for f in table.schema]
    )
    write_table(store, "x.parquet", table.cast(loose), {})
    assert_read_as_by_arrow(store, "x.parquet", 8, 15)
    assert decoded


def test_another_number_of_rows_is_refused(store: Store):
    write_table(store, "x.parquet", fragment(40, 8), {})
    with pytest.raises(StaleError, match="holds 40 rows and not the 41"):
        read_vectors(store, "x.parquet", np.empty((41, 8), np.float32), ["id"])
    with pytest.raises(FileNotFoundError):
        read_vectors(store, "y.parquet", np.empty((41, 8), np.float32), ["id"])


@pytest.mark.parametrize("seed", range(3))
def test_damage_before_the_vectors_is_one_error_or_none(store: Store, seed: int):
    rows, dim = 40, 8
    write_table(store, "x.parquet", fragment(rows, dim), {})
    path = Path(store.path("x.parquet"))
    whole = path.read_bytes()
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(1)
    begin, size = chunk.data_page_offset, chunk.total_compressed_size
    rng, refused = np.random.default_rng(seed), 0
    for place in range(begin, begin + size - 4 * rows * dim):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read_vectors(store, "x.parquet", np.empty((rows, dim), np.float32), ["id"])
        except StaleError as error:
            refused += 1
            assert "cannot be read as Parquet" in str(error)
    assert refused > 10


@pytest.mark.parametrize("rows", [40, 3000])
def test_the_same_on_s3(s3: S3Server, rows: int):
    store = Store(s3.url("out"))
    write_table(store, "x.parquet", fragment(rows, 768), {})
    assert_read_as_by_arrow(store, "x.parquet", 768, 999)
