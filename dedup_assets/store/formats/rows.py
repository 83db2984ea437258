"""What holds for the rows of every format: types of columns, and which rows are no vectors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.errors import InputError, listed, shown

FLOATS = (pa.float16(), pa.float32(), pa.float64())


@dataclass(frozen=True)
class Columns:
    """Names of the columns to read: ids, vectors, and those carried along."""

    id: str
    embedding: str
    carried: list[str]

    def wanted(self, carried: bool = True) -> list[str]:
        """Each name once."""
        return list(dict.fromkeys([self.id, self.embedding, *(self.carried if carried else [])]))


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
        files: of each row, where each is a file of its own; None: all are rows of ``file``.
    """

    file: str
    ids: pa.Array
    vectors: np.ndarray
    metadata: pa.Table
    rows: np.ndarray
    rejected: list[RejectedRow]
    files: list[str] | None = None

    def place(self, position: int) -> tuple[str, int]:
        """The file of a row, and its number there."""
        if self.files is not None:
            return self.files[position], 0
        return self.file, int(self.rows[position])

    @property
    def nbytes(self) -> int:
        """Bytes of the ids, vectors and carried columns."""
        return int(self.ids.nbytes + self.vectors.nbytes + self.metadata.nbytes)


class Format(Protocol):
    """Files of one format below one source; `InputFiles` documents the functions."""

    def probe(self, name: str) -> InputFile: ...
    def fingerprint(self, name: str) -> str: ...
    def read_ids(self, name: str) -> Iterator[pa.Array]: ...
    def read(
        self, name: str, dim: int, *, columns: bool, batch_bytes: int, only: np.ndarray | None
    ) -> Iterator[Batch]: ...


def to_batch(
    raw: pa.RecordBatch, dim: int, columns: Columns, carried: list[str], file: str, first: int
) -> Batch:
    """Rows as they are in a file; ``first`` is the number of the first one.

    Raises:
        InputError: the column of ids has a wrong type.
    """
    ids = read_ids(raw.column(columns.id), file, columns.id)
    vectors, good, reasons = _vectors(raw.column(columns.embedding), dim)
    null_ids = ids.is_null().to_numpy(zero_copy_only=False)
    if null_ids.any():
        reasons |= {int(i): "null id" for i in np.flatnonzero(null_ids)}
        vectors = vectors[~null_ids[good]]
        good = good[~null_ids[good]]
    rejected = [
        RejectedRow(ids[i].as_py(), file, first + i, reason)
        for i, reason in sorted(reasons.items())
    ]
    # A table without columns forgets its number of rows, so the ids go with it.
    table = pa.Table.from_batches([raw.select(list(dict.fromkeys([columns.id, *carried])))])
    table = table.cast(pa.schema([carried_field(field) for field in table.schema]))
    if reasons:
        ids, table = ids.take(pa.array(good)), table.take(pa.array(good))
    return Batch(file, ids, vectors, table.select(carried), good + first, rejected)


def read_ids(column: pa.Array, file: str, field: str) -> pa.Array:
    """A column of ids as our files have it.

    Raises:
        InputError: it has a wrong type.
    """
    return pc.cast(column, id_type(column.type, file, field))


def check_columns(there: list[str], columns: Columns, file: str) -> None:
    """Refuse a file that lacks a column, or has it twice.

    Raises:
        InputError: it does.
    """
    for field in columns.wanted():
        if field not in there:
            raise InputError(
                f"{file} has no column {shown(field)}; it has {listed(there)}; set "
                "id_field, embedding_field and metadata_fields to columns of the input"
            )
        if there.count(field) > 1:
            raise InputError(
                f"{file} has {there.count(field)} columns {shown(field)}; write it again with one, "
                "or with another name for the others"
            )


def carried_field(field: pa.Field) -> pa.Field:
    """The field that a carried column has in our files: another file may hold nulls."""
    type_ = _without_views(field.type)
    return pa.field(field.name, field.type if type_ == field.type else type_)


def _without_views(type_: pa.DataType) -> pa.DataType:
    """A type of which Arrow can take rows: it cannot where a view of text or bytes is within."""
    if pa.types.is_string_view(type_):
        return pa.string()
    if pa.types.is_binary_view(type_):
        return pa.binary()
    if pa.types.is_struct(type_):
        return pa.struct([_field_without_views(field) for field in type_.fields])
    if pa.types.is_map(type_):
        key, item = map(_field_without_views, (type_.key_field, type_.item_field))
        return pa.map_(key, item, type_.keys_sorted)
    for is_list, list_of in (
        (pa.types.is_list, pa.list_),
        (pa.types.is_large_list, pa.large_list),
        (pa.types.is_fixed_size_list, lambda value: pa.list_(value, type_.list_size)),
    ):
        if is_list(type_):
            return list_of(_field_without_views(type_.value_field))
    return type_


def _field_without_views(field: pa.Field) -> pa.Field:
    return field.with_type(_without_views(field.type))


def id_type(type_: pa.DataType, name: str, field: str) -> pa.DataType:
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
    raise InputError(
        f"id column {shown(field)} of {name} has type {type_}; it must be text or integers"
    )


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
