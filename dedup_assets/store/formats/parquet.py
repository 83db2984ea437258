"""Parquet: schema and number of rows from the footer, columns in batches."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dedup_assets.errors import InputError, StaleError, first_line, shown
from dedup_assets.store.fingerprints import digest, fingerprint
from dedup_assets.store.formats.rows import (
    FLOATS,
    Batch,
    Columns,
    InputFile,
    carried_field,
    check_columns,
    id_type,
    read_ids,
    to_batch,
)
from dedup_assets.store.s3 import ChangedError
from dedup_assets.store.source import Source

EXTENSION = ".parquet"
_PROBE_ROWS = 1_000
_IDS = 1 << 18


class ParquetFiles:
    """Files with a footer.

    Args:
        source: where they lie.
        columns: what to read of them.
    """

    def __init__(self, source: Source, columns: Columns) -> None:
        self._source = source
        self._columns = columns

    def probe(self, name: str) -> InputFile:
        columns = self._columns
        with self._open(name) as file:
            schema = file.schema_arrow
            check_columns(schema.names, columns, name)
            ids = id_type(schema.field(columns.id).type, name, columns.id)
            self._check_footer(file.metadata, name)
            return InputFile(
                name=name,
                rows=file.metadata.num_rows,
                bytes=self._source.size(name),
                fingerprint=self.fingerprint(name),
                id_type=ids,
                metadata=pa.schema([carried_field(schema.field(c)) for c in columns.carried]),
                dim=self._dimension(file, name, schema.field(columns.embedding).type),
            )

    def read_ids(self, name: str) -> Iterator[pa.Array]:
        with self._open(name) as file:
            rows = 0
            for batch in file.iter_batches(
                columns=[self._columns.id], batch_size=_IDS, use_threads=False
            ):
                rows += len(batch)
                batch.validate(full=True)
                yield read_ids(batch.column(0), name, self._columns.id)
            self._check_rows(name, rows, file.metadata.num_rows)

    def read(
        self, name: str, dim: int, *, columns: bool, batch_bytes: int, only: np.ndarray | None
    ) -> Iterator[Batch]:
        carried = self._columns.carried if columns else []
        with self._open(name) as file:
            value_type = file.schema_arrow.field(self._columns.embedding).type.value_type
            size = max(1, batch_bytes // (max(4, value_type.byte_width) * dim))
            for stretch in _stretches(file, size, only):
                first = stretch.first
                for raw in file.iter_batches(
                    stretch.batch_rows(size),
                    row_groups=stretch.groups,
                    columns=self._columns.wanted(columns),
                    use_threads=False,
                ):
                    raw.validate(full=True)  # text that is not UTF-8, say
                    batch = to_batch(raw, dim, self._columns, carried, name, first)
                    first += len(raw)
                    del raw  # not held while the next one is read
                    yield batch
                    del batch
                self._check_rows(name, first - stretch.first, stretch.rows)

    def fingerprint(self, name: str) -> str:
        """Digest of name, footer and what the file system knows of the content."""
        version = self._source.version(name)
        if self._source.version_is_content:
            return fingerprint(name, version, "")
        with self._source.open(name) as file:
            end = max(0, file.seek(0, 2) - 8)
            file.seek(end)
            # A file that was cut or appended to may say any length.
            length = min(end, int.from_bytes(file.read(4), "little"))
            file.seek(end - length)
            footer = digest(file.read(length))
        return fingerprint(name, version, footer)

    # Its readers use no threads, for the reason that `store.tables.read_table` gives.
    @contextmanager
    def _open(self, name: str) -> Iterator[pq.ParquetFile]:
        try:
            with self._source.open(name) as source:
                yield pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
        except FileNotFoundError as error:
            raise InputError(
                f"{self._source.url(name)} is gone since it was listed; run again"
            ) from error
        except ChangedError as error:
            raise StaleError(f"{error}; materialize embeddings again") from error
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            # Arrow reports damaged pages as an OSError without number; a retry can fix others.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise self._damaged(name, first_line(error)) from error

    def _damaged(self, name: str, why: str) -> InputError:
        return InputError(
            f"{self._source.url(name)} is not a readable Parquet file ({why}); "
            "write it again or move it out of the input"
        )

    def _check_footer(self, metadata: pq.FileMetaData, name: str) -> None:
        # Of a damaged footer, PyArrow aborts the process when it is asked for a column chunk.
        rows = sum(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))
        if rows != metadata.num_rows or rows < 0:
            raise self._damaged(
                name, f"its footer says {metadata.num_rows} rows, and {rows} in its row groups"
            )

    def _check_rows(self, name: str, found: int, expected: int) -> None:
        if found != expected:
            raise self._damaged(name, f"it holds {found} rows where its footer says {expected}")

    def _dimension(self, file: pq.ParquetFile, name: str, type_: pa.DataType) -> int | None:
        is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_)
        is_fixed = pa.types.is_fixed_size_list(type_)
        if not (is_list or is_fixed) or type_.value_type not in FLOATS:
            raise InputError(
                f"column {shown(self._columns.embedding)} of {name} has type {type_}; it must be a "
                "list or fixed-size list of float16, float32 or float64"
            )
        if is_fixed:
            return int(type_.list_size)
        column = next(
            file.iter_batches(_PROBE_ROWS, columns=[self._columns.embedding], use_threads=False),
            None,
        )
        lengths = pc.list_value_length(column.column(0)).drop_null().to_pylist() if column else []
        return Counter(lengths).most_common(1)[0][0] if lengths else None


@dataclass
class _Stretch:
    """Row groups that follow each other, to be read in batches of even size."""

    first: int
    groups: list[int]
    rows: int

    def batch_rows(self, most: int) -> int:
        batches = -(-self.rows // most)
        return -(-self.rows // batches)


def _stretches(file: pq.ParquetFile, most: int, only: np.ndarray | None) -> list[_Stretch]:
    """Small row groups together, up to ``most`` rows; a larger one alone, since a batch across
    the end of a row group costs Arrow a copy."""
    found: list[_Stretch] = []
    first = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        low, high = (0, rows) if only is None else np.searchsorted(only, [first, first + rows])
        if low < high:
            last = found[-1] if found else None
            if last and last.groups[-1] == group - 1 and last.rows + rows <= most:
                last.groups.append(group)
                last.rows += rows
            else:
                found.append(_Stretch(first, [group], rows))
        first += rows
    return found
