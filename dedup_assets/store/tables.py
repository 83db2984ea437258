"""Reading and writing Parquet, with what the table was made from in its footer."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dedup_assets.errors import StaleError, first_line
from dedup_assets.store.filesystem import Store
from dedup_assets.store.s3 import ChangedError
from dedup_assets.store.schemas import EMBEDDING

ROWS_PER_GROUP = 10_000
_ROWS_CONVERTED = 1 << 20
_INFO_KEY = b"dedup_assets"

#: Of less, a compressor takes longer to set up than the table takes to write.
_BYTES_COMPRESSED = 4096


def write_table(store: Store, name: str, table: pa.Table, info: dict[str, Any]) -> int:
    """Write ``table`` whole; equal content gives equal bytes. Returns its size in bytes.

    ``info`` (what it was made from) goes into the footer as JSON. Vectors are stored plain: they
    neither compress nor repeat, and a dictionary makes them several times slower to read.
    """
    large = table.nbytes >= _BYTES_COMPRESSED
    return write_tables(store, name, table.schema, [table], info, compressed=large)


def write_tables(
    store: Store,
    name: str,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    info: dict[str, Any],
    *,
    compressed: bool = True,
) -> int:
    """As `write_table`, of a table that comes in parts of `ROWS_PER_GROUP` rows, the last less."""
    encoded = json.dumps(info, sort_keys=True).encode()
    schema = schema.with_metadata({_INFO_KEY: encoded})
    other = [field.name for field in schema if field.name != EMBEDDING]
    compression: Any = "zstd" if compressed else "none"
    if compressed and EMBEDDING in schema.names:
        leaf = f"{EMBEDDING}.list.element"
        compression = {**dict.fromkeys(other, "zstd"), leaf: "none"}
    with store.write(name) as file:
        with pq.ParquetWriter(
            file,
            schema,
            use_dictionary=[n for n in other if not pa.types.is_floating(schema.field(n).type)],
            compression=compression,
            write_statistics=other,
            store_schema=True,
        ) as writer:
            for table in tables:
                writer.write_table(table.replace_schema_metadata(schema.metadata), ROWS_PER_GROUP)
        return file.tell()


def read_table(store: Store, name: str, columns: list[str] | None = None) -> pa.Table:
    """Read a table, or some of its columns, on this thread.

    A thread of Arrow's may still hold what it read from a Python file when the process ends, and
    then aborts it. On a remote store its threads save requests: they join the ranges of columns.

    Raises:
        FileNotFoundError: there is no such file.
        StaleError: it cannot be read as Parquet.
    """
    with opened(store, name) as file:
        parquet = pq.ParquetFile(file, pre_buffer=not store.is_local)
        return parquet.read(columns=columns, use_threads=False)


def to_frame(table: pa.Table) -> pl.DataFrame:
    """A table of ids and numbers in Polars, where rows are chosen, sorted, joined and counted.

    Vectors and the user's own columns stay in Arrow: Polars does not have all of its types.

    Raises:
        StaleError: it holds text that is not UTF-8, as a table that we did not write may; Polars
            would take it for valid.
    """
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise StaleError(
            f"a table of the output is damaged ({first_line(error)}); delete the output folder's "
            "extraction and shards, and run again"
        ) from error
    return pl.DataFrame(pl.from_arrow(table))


def to_table(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """The columns of ``schema`` from a frame, as they are written.

    Files whose bytes are promised go through PyArrow's writer, in its types.
    """
    # In slices, since the offsets of a string column end at 2 GiB.
    parts = [
        part.select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)
        for part in frame.iter_slices(_ROWS_CONVERTED)
    ]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def read_batches(
    store: Store, name: str, columns: list[str], rows: int
) -> Iterator[pa.RecordBatch]:
    """Read some columns of a table, at most ``rows`` rows at a time.

    Raises:
        FileNotFoundError: there is no such file.
        StaleError: it cannot be read as Parquet.
    """
    with opened(store, name) as file:
        parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20)
        yield from parquet.iter_batches(rows, columns=columns, use_threads=False)


def read_current(
    store: Store, name: str, fingerprint: str, columns: list[str] | None = None
) -> pa.Table:
    """Read a table that is still the one whose fingerprint was checked before.

    What is read and what is checked come from one open file, so a run that rewrites the table
    meanwhile cannot slip other rows under the fingerprint.

    Raises:
        StaleError: it was rewritten or deleted.
    """
    try:
        table = read_table(store, name, columns)
    except (FileNotFoundError, ChangedError):
        table = None
    if table is None or info_of(table.schema).get("fingerprint") != fingerprint:
        raise StaleError(
            f"{store.url(name)} was rewritten by another run meanwhile; materialize this again "
            "when that run is done"
        )
    return table


def count_rows(store: Store, name: str) -> int:
    """Rows of a table, from its footer.

    Raises:
        FileNotFoundError: there is no such file.
        StaleError: it cannot be read as Parquet.
    """
    with opened(store, name) as file:
        return pq.ParquetFile(file).metadata.num_rows


def read_info(store: Store, name: str) -> dict[str, Any] | None:
    """What the table was made from, or None if there is no such file.

    Raises:
        StaleError: it cannot be read as Parquet, or was rewritten meanwhile.
    """
    try:
        with opened(store, name) as file:
            schema = pq.ParquetFile(file).schema_arrow
    except FileNotFoundError:
        return None
    except ChangedError as error:
        raise StaleError(f"{error}; materialize this again when that run is done") from error
    return info_of(schema)


@contextmanager
def opened(store: Store, name: str) -> Iterator[IO[bytes]]:
    """A file of the output that is read as Parquet in the block.

    Raises:
        StaleError: it cannot be.
    """
    try:
        with store.open(name) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, ChangedError) or getattr(error, "errno", None) is not None:
            raise  # of the store, and says nothing of what the file holds
        raise StaleError(
            f"{store.url(name)} cannot be read as Parquet ({first_line(error)}); delete it and "
            "materialize again"
        ) from error


def info_of(schema: pa.Schema) -> dict[str, Any]:
    """The ``info`` that `write_table` put into a table of this schema; empty if it put none."""
    try:
        info = json.loads((schema.metadata or {}).get(_INFO_KEY, b"{}"))
    except (ValueError, RecursionError):
        return {}  # of another program
    return info if isinstance(info, dict) else {}
