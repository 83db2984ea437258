"""JSON lines: an object a line, read in blocks that end at line ends."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from dedup_assets.errors import InputError, StaleError, first_line, shown
from dedup_assets.store.fingerprints import digest, fingerprint
from dedup_assets.store.formats.rows import (
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

EXTENSION = ".jsonl"
_BLOCK_BYTES = 4 << 20
_LONGEST_LINE = 64 << 20
_PROBE_LINES = 1_000
_END_BYTES = 64 << 10
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_VECTORS = pa.list_(pa.float64())


@dataclass(frozen=True)
class _Block:
    """Lines that are not blank, and the number in the file of each, from 1."""

    lines: list[bytes]
    numbers: list[int]


class JsonLines:
    """Files with an object a line.

    The first lines decide the types of ids and carried columns; numbers are read as float64.

    Args:
        source: where they lie.
        columns: what to read of them.
    """

    def __init__(self, source: Source, columns: Columns) -> None:
        self._source = source
        self._columns = columns
        self._schemas: dict[str, tuple[pa.Schema, int | None]] = {}

    def probe(self, name: str) -> InputFile:
        columns = self._columns
        schema, dim = self._schema(name)
        rows = sum(len(block.lines) for block in self._blocks(name))
        return InputFile(
            name=name,
            rows=rows,
            bytes=self._source.size(name),
            fingerprint=self.fingerprint(name),
            id_type=id_type(schema.field(columns.id).type, name, columns.id),
            metadata=pa.schema([carried_field(schema.field(c)) for c in columns.carried]),
            dim=dim,
        )

    def fingerprint(self, name: str) -> str:
        """Digest of name, end and what the file system knows of the content."""
        version = self._source.version(name)
        if self._source.version_is_content:
            return fingerprint("jsonl", name, version, "")
        with self._source.open(name) as file:
            file.seek(max(0, file.seek(0, 2) - _END_BYTES))
            return fingerprint("jsonl", name, version, digest(file.read()))

    def read_ids(self, name: str) -> Iterator[pa.Array]:
        schema, _ = self._schema(name)
        field = schema.field(self._columns.id)
        for block in self._blocks(name):
            column = self._parse(name, block, pa.schema([field])).column(0)
            yield read_ids(column, name, self._columns.id)

    def read(
        self, name: str, dim: int, *, columns: bool, batch_bytes: int, only: np.ndarray | None
    ) -> Iterator[Batch]:
        carried = self._columns.carried if columns else []
        schema, _ = self._schema(name)
        schema = pa.schema([schema.field(c) for c in self._columns.wanted(columns)])
        size = max(1, batch_bytes // (8 * dim))
        first = 0
        for block in self._blocks(name):
            rows = len(block.lines)
            low, high = (0, 1) if only is None else np.searchsorted(only, [first, first + rows])
            if low < high:
                raw = self._parse(name, block, schema)
                for start in range(0, rows, size):
                    part = raw.slice(start, size)
                    yield to_batch(part, dim, self._columns, carried, name, first + start)
            first += rows

    def _schema(self, name: str) -> tuple[pa.Schema, int | None]:
        """Types of the columns by the first lines, and their most frequent vector length."""
        if name not in self._schemas:
            self._schemas[name] = self._infer(name)
        return self._schemas[name]

    def _infer(self, name: str) -> tuple[pa.Schema, int | None]:
        block = next(self._blocks(name), _Block([], []))
        lines, numbers = block.lines[:_PROBE_LINES], block.numbers[:_PROBE_LINES]
        columns = self._columns
        if not lines:
            carried = [pa.field(c, pa.null()) for c in columns.carried]
            fields = [pa.field(columns.id, pa.string()), pa.field(columns.embedding, _VECTORS)]
            return pa.schema([*fields, *carried]), None
        rows = [self._loads(name, line, n) for line, n in zip(lines, numbers, strict=True)]
        check_columns(list(dict.fromkeys(key for row in rows for key in row)), columns, name)
        fields = [
            self._field(name, column, rows, numbers)
            for column in columns.wanted()
            if column != columns.embedding
        ]
        vectors = [row.get(columns.embedding) for row in rows]
        for vector, number in zip(vectors, numbers, strict=True):
            self._check_vector(name, number, vector)
        lengths = Counter(len(vector) for vector in vectors if vector is not None)
        dim = lengths.most_common(1)[0][0] if lengths else None
        return pa.schema([*fields, pa.field(columns.embedding, _VECTORS)]), dim

    def _field(
        self, name: str, column: str, rows: list[dict[str, Any]], numbers: list[int]
    ) -> pa.Field:
        values = [row.get(column) for row in rows]
        try:
            large = any(type(value) is int and value >= 2**63 for value in values)
            type_ = pa.array(values, pa.uint64() if large else None).type
        except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
            raise self._wrong(
                name, numbers[0], f"from here on, column {shown(column)}: {first_line(error)}"
            ) from error
        if column == self._columns.id and pa.types.is_null(type_):
            type_ = pa.string()
        return pa.field(column, type_)

    def _parse(self, name: str, block: _Block, schema: pa.Schema) -> pa.RecordBatch:
        # Arrow takes null for an object, and crashes if there is nothing else.
        if not all(line[:1] == b"{" and line[-1:] == b"}" for line in block.lines):
            return self._parse_slowly(name, block, schema)
        data = b"\n".join(block.lines) + b"\n"
        try:
            data.decode()
            table = pj.read_json(
                pa.BufferReader(data),
                pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
                pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
            )
        except (pa.ArrowException, UnicodeDecodeError):
            # Arrow does not say which line it is, nor take NaN, which Python writes.
            return self._parse_slowly(name, block, schema)
        if table.num_rows != len(block.lines):
            return self._parse_slowly(name, block, schema)
        batches = table.select(schema.names).combine_chunks().to_batches()
        return batches[0]

    def _parse_slowly(self, name: str, block: _Block, schema: pa.Schema) -> pa.RecordBatch:
        rows = [
            self._loads(name, line, number)
            for line, number in zip(block.lines, block.numbers, strict=True)
        ]
        if self._columns.embedding in schema.names:
            for row, number in zip(rows, block.numbers, strict=True):
                self._check_vector(name, number, row.get(self._columns.embedding))
        arrays = []
        for field in schema:
            values = [row.get(field.name) for row in rows]
            try:
                arrays.append(_array(values, field.type))
            except (pa.ArrowException, ValueError, OverflowError, TypeError):
                number, value = self._first_misfit(values, field.type, block)
                raise self._wrong(
                    name,
                    number,
                    f"column {shown(field.name)} is {_shown(value)}, and the first lines have "
                    f"{field.type}",
                ) from None
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _first_misfit(
        self, values: list[Any], type_: pa.DataType, block: _Block
    ) -> tuple[int, Any]:
        for value, number in zip(values, block.numbers, strict=True):
            try:
                _array([value], type_)
            except (pa.ArrowException, ValueError, OverflowError, TypeError):
                return number, value
        return block.numbers[0], values[0]

    def _loads(self, name: str, line: bytes, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line.decode())
        except json.JSONDecodeError as error:
            raise self._wrong(name, number, f"{error.msg}, column {error.colno}") from error
        except (ValueError, RecursionError) as error:
            raise self._wrong(name, number, first_line(error)) from error
        if not isinstance(row, dict):
            raise self._wrong(name, number, f"{_shown(row)} is no object")
        return row

    def _check_vector(self, name: str, number: int, vector: Any) -> None:
        if vector is None:
            return
        if not isinstance(vector, list):
            what = f"{shown(self._columns.embedding)} is {_shown(vector)}, not a list of numbers"
            raise self._wrong(name, number, what)
        for value in vector:
            if value is not None and type(value) not in (int, float):
                what = f"{shown(self._columns.embedding)} holds {_shown(value)}, which is no number"
                raise self._wrong(name, number, what)

    def _wrong(self, name: str, line: int, why: str) -> InputError:
        return InputError(
            f"line {line} of {self._source.url(name)} cannot be read ({why}); each line must be a "
            f"JSON object with {shown(self._columns.id)} and {shown(self._columns.embedding)}: "
            "write it again"
        )

    def _blocks(self, name: str) -> Iterator[_Block]:
        """The lines of a file, some megabytes at a time."""
        number = 1
        rest = b""
        with self._open(name) as file:
            while True:
                data = file.read(_BLOCK_BYTES)
                if number == 1 and not rest:
                    data = data.removeprefix(_BYTE_ORDER_MARK)
                whole, end, last = (rest + data).rpartition(b"\n")
                if not data:
                    whole, end, last = rest, b"", b""
                rest = last
                if len(rest) > _LONGEST_LINE:
                    raise self._wrong(name, number, f"it is longer than {_LONGEST_LINE} bytes")
                if whole:
                    lines = whole.split(b"\n")
                    stripped = ((line.strip(), number + i) for i, line in enumerate(lines))
                    held = [(line, n) for line, n in stripped if line]
                    if held:
                        yield _Block([line for line, _ in held], [n for _, n in held])
                    number += len(lines)
                elif end:
                    number += 1
                if not data:
                    return

    @contextmanager
    def _open(self, name: str) -> Iterator[Any]:
        try:
            with self._source.open(name) as file:
                yield file
        except FileNotFoundError as error:
            raise InputError(
                f"{self._source.url(name)} is gone since it was listed; run again"
            ) from error
        except ChangedError as error:
            raise StaleError(f"{error}; materialize embeddings again") from error


def _array(values: list[Any], type_: pa.DataType) -> pa.Array:
    if type_ == _VECTORS:
        # An integer too large for a float is infinite, as a number with a large exponent is.
        values = [v if v is None else [_float(number) for number in v] for v in values]
    return pa.array(values, type=type_)


def _float(number: int | float | None) -> float | None:
    if number is None:
        return None
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _shown(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, list | dict) else type(value).__name__
    return text if len(text) < 40 else f"{text[:40]}..."
