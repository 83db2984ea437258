"""Arrow columns as values of JSON, with all that they hold: bytes, nanoseconds, far years."""

import base64
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa


def json_values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values of a column, for `json.dumps` with ``default=str``.

    JSON has no NaN and no infinity: they are null. Bytes are base64 text. A time is its text, with
    nine digits of the second if six do not say it; beyond what Python has (year 9999), the number
    that the column holds and its unit. A map is a list of pairs.
    """
    if isinstance(column, pa.ChunkedArray):
        return [value for chunk in column.chunks for value in json_values(chunk)]
    type_, types = column.type, pa.types
    if types.is_dictionary(type_):
        values = json_values(column.dictionary)
        return [None if i is None else values[i] for i in column.indices.to_pylist()]
    if types.is_struct(type_):
        return _structs(column)
    if types.is_map(type_):
        return _each(column, lambda scalar: _pairs(scalar.values))
    if types.is_nested(type_):
        return _each(column, lambda scalar: json_values(scalar.values))
    if types.is_temporal(type_):
        return _each(column, _time)
    values = column.to_pylist()
    if types.is_floating(type_):
        return [v if v is not None and math.isfinite(v) else None for v in values]
    return [base64.b64encode(v).decode() if isinstance(v, bytes) else v for v in values]


def _each(column: pa.Array, convert: Callable[[Any], Any]) -> list[Any]:
    return [convert(scalar) if scalar.is_valid else None for scalar in column]


def _structs(column: pa.Array) -> list[Any]:
    names, there = column.type.names, column.is_valid().to_pylist()
    fields = [json_values(field) for field in column.flatten()]
    return [
        {name: field[row] for name, field in zip(names, fields, strict=True)}
        if there[row]
        else None
        for row in range(len(column))
    ]


def _pairs(entries: pa.Array) -> list[Any]:
    keys, values = map(json_values, entries.flatten())
    return [list(pair) for pair in zip(keys, values, strict=True)]


def _time(scalar: Any) -> Any:
    """A date, time, timestamp or duration as Python has it, or as text where it has none."""
    type_, count = scalar.type, scalar.value
    unit = getattr(type_, "unit", "D" if pa.types.is_date32(type_) else "ms")
    try:
        if unit != "ns":
            return scalar.as_py()
        micro, rest = divmod(count, 1000)
        if pa.types.is_duration(type_):
            span = timedelta(microseconds=micro)
            digits = "" if span.microseconds or not rest else ".000000"
            return f"{span}{digits}{rest:03d}" if rest else span
        if pa.types.is_time(type_):
            time = pa.scalar(micro, pa.time64("us")).as_py()
            return f"{time.isoformat('microseconds')}{rest:03d}" if rest else time
        moment = pa.scalar(micro, pa.timestamp("us", type_.tz)).as_py()
        text = moment.isoformat(" ", "microseconds")
        end = len("0000-00-00 00:00:00.000000")
        return f"{text[:end]}{rest:03d}{text[end:]}" if rest else moment
    except (OverflowError, ValueError):
        return f"{count} {unit}"
