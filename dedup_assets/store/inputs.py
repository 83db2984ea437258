"""The user's Parquet files: which there are, what they hold, and their rows in batches."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dedup_assets.errors import InputError
from dedup_assets.store.access import Access
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import digest, fingerprint

BATCH_BYTES = 16 << 20
_PROBE_ROWS = 1_000
_FLOATS = (pa.float16(), pa.float32(), pa.float64())


@dataclass(frozen=True)
class InputFile:
    """What the footer and first rows of a file say.

    Attributes:
        name: relative to the input folder.
        dim: most frequent vector length among its first rows; None if there are no rows.
    """

    name: str
    rows: int
    bytes: int
    fingerprint: str
    id_type: pa.DataType
    metadata: pa.Schema
    dim: int | None


@dataclass(frozen=True)
class RejectedRow:
    """A row that cannot be compared, and why. ``id`` is None if it is null."""

    id: Any
    file: str
    row: int
    reason: str


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of one file that have an id and a vector of the right length.

    Attributes:
        ids: of length n, without nulls.
        vectors: of shape (n, d), float16, float32 or float64, host.
        metadata: n rows of the carried columns.
        rows: of shape (n,), row numbers in the file.
        rejected: rows left out, with the reason.
    """

    file: str
    ids: pa.Array
    vectors: np.ndarray
    metadata: pa.Table
    rows: np.ndarray
    rejected: list[RejectedRow]

    @property
    def nbytes(self) -> int:
        """Bytes of the ids, vectors and carried columns."""
        return int(self.ids.nbytes + self.vectors.nbytes + self.metadata.nbytes)


class InputFiles:
    """The Parquet files of one input.

    Args:
        path: a folder searched recursively, or one file; local or a URL of fsspec.
        id_field: column of the ids.
        embedding_field: column of the vectors.
        carried: further columns to read.
        access: credentials and endpoint for a URL.
    """

    def __init__(
        self,
        path: str,
        id_field: str,
        embedding_field: str,
        carried: list[str],
        access: Access | None = None,
    ) -> None:
        whole = Store(path, access)
        self.single: str | None = None
        """The name of the file, where the input is one file."""
        if whole.is_file():
            folder, _, self.single = path.rpartition("/")
            whole = Store(folder or ".", access)
        self.store = whole
        self.id_field = id_field
        self.embedding_field = embedding_field
        self.carried = carried

    def names(self) -> list[str]:
        """Relative names, sorted. Names that start with a dot or an underscore are not data.

        Raises:
            InputError: there is none.
        """
        if self.single is not None:
            return [self.single]
        names = [
            name
            for name in self.store.list("", ".parquet")
            if not any(part.startswith((".", "_")) for part in name.split("/"))
        ]
        if not names:
            there = "holds no .parquet file" if self.store.exists("") else "does not exist"
            raise InputError(
                f"input_embeddings_path {self.store.url()} {there}; point it at the folder of "
                f"embeddings (columns {self.id_field!r} and {self.embedding_field!r})"
            )
        return names

    def probe(self, name: str) -> InputFile:
        """Read a file's footer and first rows.

        Raises:
            InputError: it is not Parquet, or lacks a column, or a column has a wrong type.
        """
        with self._open(name) as file:
            schema = file.schema_arrow
            for field in (self.id_field, self.embedding_field, *self.carried):
                if field not in schema.names:
                    raise InputError(
                        f"{name} has no column {field!r}; it has {', '.join(schema.names)}; set "
                        "id_field, embedding_field and metadata_fields to columns of the input"
                    )
            return InputFile(
                name=name,
                rows=file.metadata.num_rows,
                bytes=self.store.size(name),
                fingerprint=self.fingerprint(name),
                id_type=_id_type(schema.field(self.id_field).type, name, self.id_field),
                metadata=pa.schema([_carried(schema.field(c)) for c in self.carried]),
                dim=self._dimension(file, name, schema.field(self.embedding_field).type),
            )

    def read_ids(self, name: str) -> Iterator[pa.Array]:
        """The id column of a file in batches, nulls included."""
        with self._open(name) as file:
            for batch in file.iter_batches(
                columns=[self.id_field], batch_size=1 << 18, use_threads=False
            ):
                column = batch.column(0)
                yield pc.cast(column, _id_type(column.type, name, self.id_field))

    def read(
        self,
        name: str,
        dim: int,
        *,
        columns: bool = True,
        batch_bytes: int = BATCH_BYTES,
        only: np.ndarray | None = None,
    ) -> Iterator[Batch]:
        """The rows of a file in batches.

        Args:
            name: a file of `names`.
            dim: length that a vector must have.
            columns: whether to read the carried columns too.
            batch_bytes: bytes that the vectors of a batch may take, as they are or as float32.
            only: of shape (m,), ascending row numbers; row groups with none of them are left out.
        """
        carried = self.carried if columns else []
        wanted = list(dict.fromkeys([self.id_field, self.embedding_field, *carried]))
        with self._open(name) as file:
            value_type = file.schema_arrow.field(self.embedding_field).type.value_type
            size = max(1, batch_bytes // (max(4, value_type.byte_width) * dim))
            for stretch in _stretches(file, size, only):
                first = stretch.first
                for raw in file.iter_batches(
                    stretch.batch_rows(size),
                    row_groups=stretch.groups,
                    columns=wanted,
                    use_threads=False,
                ):
                    batch = self._batch(name, dim, raw, carried, first)
                    first += len(raw)
                    del raw  # not held while the next one is read
                    yield batch
                    del batch

    def _batch(
        self, name: str, dim: int, raw: pa.RecordBatch, carried: list[str], first: int
    ) -> Batch:
        ids = raw.column(self.id_field)
        ids = pc.cast(ids, _id_type(ids.type, name, self.id_field))
        vectors, good, reasons = _vectors(raw.column(self.embedding_field), dim)
        null_ids = ids.is_null().to_numpy(zero_copy_only=False)
        if null_ids.any():
            reasons |= {int(i): "null id" for i in np.flatnonzero(null_ids)}
            vectors = vectors[~null_ids[good]]
            good = good[~null_ids[good]]
        rejected = [
            RejectedRow(ids[i].as_py(), name, first + i, reason)
            for i, reason in sorted(reasons.items())
        ]
        table = pa.Table.from_batches([raw.select(list(dict.fromkeys([self.id_field, *carried])))])
        if reasons:
            ids, table = ids.take(pa.array(good)), table.take(pa.array(good))
        metadata = table.select(carried)
        if carried:  # a cast of no columns forgets the number of rows
            metadata = metadata.cast(pa.schema([_carried(f) for f in metadata.schema]))
        return Batch(name, ids, vectors, metadata, good + first, rejected)

    # Its readers use no threads, for the reason that `store.tables.read_table` gives.
    @contextmanager
    def _open(self, name: str) -> Iterator[pq.ParquetFile]:
        try:
            with self.store.open(name) as source:
                yield pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
        except FileNotFoundError as error:
            raise InputError(
                f"{self.store.url(name)} is gone since it was listed; run again"
            ) from error
        except (pa.ArrowInvalid, OSError) as error:
            # Arrow reports damaged pages as an OSError without number; others a retry may mend.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self.store.url(name)} is not a readable Parquet file ({reason}); "
                "write it again or move it out of the input"
            ) from error

    def fingerprint(self, name: str) -> str:
        """Digest of name, footer and what the file system knows of the content.

        Raises:
            FileNotFoundError: there is no such file.
        """
        version = self.store.version(name)
        with self.store.open(name) as file:
            end = max(0, file.seek(0, 2) - 8)
            file.seek(end)
            # A file that was cut or appended to may say any length.
            length = min(end, int.from_bytes(file.read(4), "little"))
            file.seek(end - length)
            footer = digest(file.read(length))
        return fingerprint(name, version, footer)

    def _dimension(self, file: pq.ParquetFile, name: str, type_: pa.DataType) -> int | None:
        is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_)
        is_fixed = pa.types.is_fixed_size_list(type_)
        if not (is_list or is_fixed) or type_.value_type not in _FLOATS:
            raise InputError(
                f"column {self.embedding_field!r} of {name} has type {type_}; it must be a list "
                "or fixed-size list of float16, float32 or float64"
            )
        if is_fixed:
            return type_.list_size
        column = next(
            file.iter_batches(_PROBE_ROWS, columns=[self.embedding_field], use_threads=False),
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


def _carried(field: pa.Field) -> pa.Field:
    """The field that a carried column has in our files: another file may hold nulls."""
    # Arrow cannot take rows of a string view.
    type_ = pa.string() if pa.types.is_string_view(field.type) else field.type
    return pa.field(field.name, type_)


def _id_type(type_: pa.DataType, name: str, field: str) -> pa.DataType:
    """The type an id column has in our files: text of any kind is string, integers stay."""
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if (
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_string_view(type_)
    ):
        return pa.string()
    if pa.types.is_integer(type_):
        return type_
    raise InputError(f"id column {field!r} of {name} has type {type_}; it must be text or integers")


def _vectors(column: pa.Array, dim: int) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Vectors of the right length as a matrix, their positions, and what is wrong with the rest."""
    n = len(column)
    if pa.types.is_fixed_size_list(column.type):
        column = pc.cast(column, pa.list_(column.type.value_type))
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    reasons = {
        int(i): "null embedding" if lengths[i] < 0 else f"{lengths[i]} numbers instead of {dim}"
        for i in np.flatnonzero(lengths != dim)
    }
    good = np.flatnonzero(lengths == dim)
    kept = column if len(good) == n else column.take(pa.array(good))
    flat = kept.flatten()
    if flat.null_count:
        holes = flat.is_null().to_numpy(zero_copy_only=False).reshape(-1, dim).any(axis=1)
        reasons |= {int(i): "null inside the embedding" for i in good[holes]}
        kept, good = kept.take(pa.array(np.flatnonzero(~holes))), good[~holes]
        flat = kept.flatten()
    matrix = flat.to_numpy(zero_copy_only=False).reshape(len(good), dim)
    return matrix, good, reasons
