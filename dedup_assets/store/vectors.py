"""The vectors of fragments, read from the pages of their files straight into an array.

Arrow makes each number pass through two columns of levels and some copies, which takes several
times as long as to read the bytes. `write_tables` stores vectors plain and uncompressed, with one
vector for each row, so behind the levels of a page its numbers lie as they do in memory. A file of
another shape, as earlier versions may have written, is read by Arrow.
"""

import io
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dedup_assets.errors import StaleError
from dedup_assets.store.arrow import column_to_vectors
from dedup_assets.store.filesystem import Store
from dedup_assets.store.rangefile import Window
from dedup_assets.store.schemas import EMBEDDING, ID
from dedup_assets.store.tables import opened

_LEAF = f"{EMBEDDING}.list.element"
_HEADER_BYTES = 128  # more than the header of a page without statistics takes
_REQUEST_BYTES = 16 << 20  # of a remote file at once
_VALUE_BYTES = 4


def read_vectors(store: Store, name: str, out: np.ndarray, columns: list[str]) -> pa.Table:
    """Read a fragment: its vectors into ``out``, and other columns as a table.

    Args:
        store: where it lies.
        name: of its file.
        out: of shape (n, d), float32, contiguous, host.
        columns: the others that are wanted.

    Raises:
        FileNotFoundError: there is no such file.
        StaleError: it is damaged, or has not n rows.
    """
    with opened(store, name) as file:
        parquet = _parquet(file)
        rows = parquet.metadata.num_rows
        if rows != len(out):
            raise StaleError(
                f"{store.url(name)} holds {rows} rows and not the {len(out)} that were written; "
                "materialize cluster_partitions again"
            )
        start = 0
        for group in range(parquet.num_row_groups):
            end = start + parquet.metadata.row_group(group).num_rows
            _vectors(store, file, parquet, group, out.shape[1]).fill(out[start:end])
            start = end
        return parquet.read(columns=columns, use_threads=False)


def read_vector_batches(
    store: Store, name: str, columns: list[str], dim: int, rows: int
) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Read a fragment in batches of at most ``rows`` rows: other columns, and the vectors.

    These are of shape (m, dim), float32, host.

    Raises:
        FileNotFoundError: there is no such file.
        StaleError: it is damaged.
    """
    with opened(store, name) as file:
        parquet = _parquet(file)
        for group in range(parquet.num_row_groups):
            vectors = _vectors(store, file, parquet, group, dim)
            for batch in parquet.iter_batches(
                rows, row_groups=[group], columns=columns, use_threads=False
            ):
                out = np.empty((len(batch), dim), dtype=np.float32)
                vectors.fill(out)
                yield batch, out


def read_chosen_vectors(
    store: Store, name: str, dim: int, choose: Callable[[pa.ChunkedArray], np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read some rows of a fragment, a row group at a time.

    Args:
        store: where it lies.
        name: of its file.
        dim: of its vectors.
        choose: called with the ids of a row group; the numbers in it of the rows that are wanted,
            of shape (m,), ascending.

    Yields:
        Those numbers, and the vectors of these rows, of shape (m, dim), float32, host.

    Raises:
        FileNotFoundError: there is no such file.
        StaleError: it is damaged.
    """
    with opened(store, name) as file:
        parquet = _parquet(file)
        for group in range(parquet.num_row_groups):
            chosen = choose(parquet.read_row_group(group, [ID], use_threads=False)[ID])
            if not len(chosen):
                continue
            out = np.empty((len(chosen), dim), dtype=np.float32)
            vectors = _vectors(store, file, parquet, group, dim)
            at = 0
            for place, row in enumerate(chosen.tolist()):
                vectors.skip((row - at) * dim)
                vectors.fill(out[place : place + 1])
                at = row + 1
            yield chosen, out


def _parquet(file: IO[bytes]) -> pq.ParquetFile:
    # A thread of Arrow's that reads ahead would move the position in the file.
    return pq.ParquetFile(file, pre_buffer=False)


class _Plain:
    """The vectors of a row group whose pages hold them as they are."""

    def __init__(self, file: IO[bytes], chunk: Any) -> None:
        self._file = file
        self._page = chunk.data_page_offset
        self._end = chunk.data_page_offset + chunk.total_compressed_size
        self._values = self._left = 0  # where those of the page begin that are left, and bytes

    def fill(self, out: np.ndarray) -> None:
        """Read the next vectors into ``out``."""
        wanted = memoryview(out.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        while wanted:
            if not self._left:
                self._next_page()
            self._file.seek(self._values)
            read = self._file.readinto(wanted[: self._left])  # type: ignore[attr-defined]
            if not read:
                raise pa.ArrowInvalid("a page ends early")
            self._values += read
            self._left -= read
            wanted = wanted[read:]

    def skip(self, count: int) -> None:
        """Leave out so many numbers."""
        size = _VALUE_BYTES * count
        while size:
            if not self._left:
                self._next_page()
            step = min(size, self._left)
            self._values += step
            self._left -= step
            size -= step

    def _next_page(self) -> None:
        if self._page >= self._end:
            raise pa.ArrowInvalid("pages are missing")
        self._file.seek(self._page)
        body, size, count = _page_header(self._file.read(_HEADER_BYTES))
        before = size - _VALUE_BYTES * count
        if count < 1 or before < 0 or self._page + body + size > self._end:
            raise pa.ArrowInvalid("the header of a page is damaged")
        self._file.seek(self._page + body)
        levels = self._file.read(before)
        if not _is_two_blocks(levels):  # of levels, so no vector has a null
            raise pa.ArrowInvalid("a page has not the numbers that it counts")
        self._values, self._left = self._page + body + len(levels), _VALUE_BYTES * count
        self._page += body + size


class _Decoded:
    """The vectors of a row group of any other shape, decoded by Arrow."""

    def __init__(self, parquet: pq.ParquetFile, group: int, dim: int) -> None:
        column = parquet.read_row_group(group, [EMBEDDING], use_threads=False)[EMBEDDING]
        self._rows = column_to_vectors(column, dim)

    def fill(self, out: np.ndarray) -> None:
        out[:] = self._rows[: len(out)]
        self._rows = self._rows[len(out) :]

    def skip(self, count: int) -> None:
        self._rows = self._rows[count // self._rows.shape[1] :]


def _vectors(
    store: Store, file: IO[bytes], parquet: pq.ParquetFile, group: int, dim: int
) -> _Plain | _Decoded:
    rows, schema = parquet.metadata.row_group(group), parquet.schema
    leaf = next((i for i in range(rows.num_columns) if schema.column(i).path == _LEAF), 0)
    column, chunk = schema.column(leaf), rows.column(leaf)
    is_plain = (
        column.path == _LEAF
        and column.physical_type == "FLOAT"
        and (column.max_definition_level, column.max_repetition_level) == (1, 1)
        and chunk.compression == "UNCOMPRESSED"
        and set(chunk.encodings) <= {"PLAIN", "RLE"}
        and chunk.num_values == rows.num_rows * dim
    )
    if not is_plain:
        return _Decoded(parquet, group, dim)
    if store.is_local:
        return _Plain(file, chunk)
    end = chunk.data_page_offset + chunk.total_compressed_size
    size = min(_REQUEST_BYTES, chunk.total_compressed_size)
    return _Plain(io.BufferedReader(Window(file, 0, end), max(1, size)), chunk)


def _is_two_blocks(levels: bytes) -> bool:
    """Whether these bytes are the two kinds of levels, each behind its length, and no more."""
    first = int.from_bytes(levels[:4], "little")
    second = int.from_bytes(levels[4 + first : 8 + first], "little")
    return len(levels) == 8 + first + second


def _page_header(data: bytes) -> tuple[int, int, int]:
    """Of a data page: where its body begins, the bytes of the body, and how many values it has.

    The header is a struct of Thrift's compact protocol (parquet.thrift, PageHeader).
    """
    try:
        header, end = _struct(data, 0)
        if header[1] != 0 or header[5][2] != 0:
            raise pa.ArrowInvalid("a page is not one of plain values")
        return end, header[3], header[5][1]
    except (IndexError, KeyError, TypeError) as error:
        raise pa.ArrowInvalid("the header of a page is damaged") from error


def _struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """The fields of a struct by number, and where it ends; those of other types are left out."""
    fields: dict[int, Any] = {}
    number = 0
    while kind := data[at] & 15:
        step = data[at] >> 4
        at += 1
        if step == 0:
            step, at = _integer(data, at)
        number += step
        match kind:
            case 1 | 2:
                pass
            case 4 | 5 | 6:
                fields[number], at = _integer(data, at)
            case 12:
                fields[number], at = _struct(data, at)
            case _:
                raise KeyError(kind)
    return fields, at + 1


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """A number that is stored in groups of seven bits, the lowest of all its sign; and its end."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return (value >> 1) ^ -(value & 1), at
