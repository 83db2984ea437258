"""JSON from elsewhere: one reading of it, or one line that says why there is none."""

import json
import math
from typing import Any, NoReturn

from dedup_assets.errors import shown
from dedup_assets.store.sizes import format_bytes

MOST_BYTES = 16 << 20
"""Of a document; a reader asks for one byte more, so that `parse_json` can tell."""

_MOST_DEPTH = 32


class JsonError(ValueError):
    """Why a document was refused, in one line that repeats no long value."""


def parse_json(data: bytes) -> Any:
    """A JSON document in UTF-8, in which nothing is left to the reader's taste.

    Raises:
        JsonError: wrong JSON, a repeated key, a number that is not finite, or too large or deep.
    """
    if len(data) > MOST_BYTES:
        raise JsonError(f"is larger than {format_bytes(MOST_BYTES)}")
    try:
        document = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_once_each,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise JsonError(f"wrong JSON in {place}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise JsonError("is not UTF-8 text") from error
    except RecursionError as error:
        raise JsonError("is nested too deeply") from error
    except ValueError as error:
        raise JsonError("wrong JSON: a number has too many digits") from error
    _check_depth(document)
    return document


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise JsonError(f"key {shown(key)} is given twice")
        found[key] = value
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise JsonError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise JsonError(f"{shown(text)} is too large a number")
    return number


def _check_depth(document: Any) -> None:
    # What repeats a value in an error, or compares two, would run out of stack later.
    level = [document]
    for _ in range(_MOST_DEPTH):
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise JsonError("is nested too deeply")
