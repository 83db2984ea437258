"""How fast Parquet is read and written here, as the product does it, against the plain bytes."""

import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dedup_assets.store import schemas
from dedup_assets.store.arrow import vectors_to_column
from dedup_assets.store.filesystem import Store
from dedup_assets.store.inputs import InputFiles
from dedup_assets.store.tables import read_table, write_table

FORMS = ("list", "fixed-size list")
WRITERS: dict[str, dict[str, Any]] = {
    "ours": {
        "row_group_size": 10_000,
        "use_dictionary": False,
        "compression": {"id": "zstd", "embedding.list.element": "none"},
    },
    "Arrow's defaults": {},
    "without dictionary": {"use_dictionary": False},
}
"""Options of each writer. Ours declares its fields not null, as the product does; the others leave
them nullable, and write one row group."""


def read_rates(folder: str, rows: int, dim: int, repeat: int) -> dict[str, Any]:
    """Rates at which input files of each form, float type and writer become matrices."""
    vectors = _unit_rows(rows, dim)
    ids = pa.array([f"clip-{i:012d}" for i in range(rows)])
    path = Path(folder) / "x.parquet"
    path.parent.mkdir(parents=True)
    found = []
    for form in FORMS:
        for type_ in (np.float16, np.float32, np.float64):
            for writer, options in WRITERS.items():
                nullable = writer != next(iter(WRITERS))
                column = _column(vectors.astype(type_), form, nullable)
                schema = pa.schema(
                    [
                        pa.field("id", pa.string(), nullable=nullable),
                        pa.field("embedding", column.type, nullable=nullable),
                    ]
                )
                table = pa.table([ids, column], schema=schema)
                pq.write_table(table, path, **{"row_group_size": rows, **options})
                files = InputFiles(str(path), "id", "embedding", [])
                seconds, plain = _medians(
                    repeat,
                    lambda files=files: [len(b.ids) for b in files.read(path.name, dim)],
                    lambda: path.read_bytes(),
                )
                found.append(
                    {
                        "form": form,
                        "type": np.dtype(type_).name,
                        "writer": writer,
                        "mb_s": rows * dim * np.dtype(type_).itemsize / seconds / 1e6,
                        "rows_s": rows / seconds,
                        "file_bytes": path.stat().st_size,
                        "plain_mb_s": path.stat().st_size / plain / 1e6,
                    }
                )
    return {"read": found}


def fragment_rates(
    folder: str, rows: int, dim: int, sizes: list[int], repeat: int
) -> dict[str, Any]:
    """Rates at which fragments of so many rows are written and read, and files of their bytes."""
    found = []
    turns = itertools.count()
    for size in sizes:
        store = Store(f"{folder}/{size}")
        count = max(1, rows // size)
        schema = schemas.fragment(pa.string(), pa.schema([]))
        type_ = schema.field(schemas.EMBEDDING).type
        columns = [
            pa.array([f"clip-{i:012d}" for i in range(size)]),
            vectors_to_column(_unit_rows(size, dim), type_),
            np.zeros(size, np.float32),
            np.zeros(size, np.float32),
        ]
        table = pa.table(columns, schema=schema)

        def write(name: str, store: Store = store, table: pa.Table = table, n: int = count) -> None:
            for number in range(n):
                write_table(store, f"{name}/{number}/x.parquet", table, {})

        write("there")
        data = Path(store.path("there/0/x.parquet")).read_bytes()

        def plain_write(store: Store = store, data: bytes = data, n: int = count) -> None:
            turn = next(turns)
            for number in range(n):
                path = Path(store.path(f"plain-{turn}/{number}/x"))
                path.parent.mkdir(parents=True)
                path.write_bytes(data)

        def read(store: Store = store, n: int = count) -> None:
            for number in range(n):
                read_table(store, f"there/{number}/x.parquet")

        def plain_read(store: Store = store, n: int = count) -> None:
            for number in range(n):
                store.read_bytes(f"there/{number}/x.parquet")

        names = ("write", "plain_write", "read", "plain_read")
        seconds = _medians(
            repeat, lambda w=write: w(f"run-{next(turns)}"), plain_write, read, plain_read
        )
        size_mb = len(data) * count / 1e6
        rates = {f"{n}_mb_s": size_mb / s for n, s in zip(names, seconds, strict=True)}
        found.append({"rows": size, "files": count, **rates})
    return {"fragments": found}


def _unit_rows(rows: int, dim: int) -> np.ndarray:
    vectors = np.random.default_rng(1).standard_normal((rows, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _column(vectors: np.ndarray, form: str, nullable: bool) -> pa.Array:
    rows, dim = vectors.shape
    values = pa.array(vectors.reshape(-1))
    field = pa.field("element", values.type, nullable=nullable)
    if form == "list":
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(dim))
        return pa.ListArray.from_arrays(offsets, values, type=pa.list_(field))
    return pa.FixedSizeListArray.from_arrays(values, type=pa.list_(field, dim))


def _medians(repeat: int, *works: Callable[[], Any]) -> list[float]:
    """Median seconds of each work, taken in turn, after a turn that does not count."""
    taken: list[list[float]] = [[] for _ in works]
    for turn in range(repeat + 1):
        for seconds, work in zip(taken, works, strict=True):
            started = time.perf_counter()
            work()
            if turn:
                seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds) for seconds in taken]
