"""Rows from a seed, and an input made of them with what is expected of it."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DIM = 3
Row = tuple[Any, Any]
Files = dict[str, bytes]
_ODD_IDS = ["a/b", "..", "x.y.z", "é😀", " ", "%2F", "-", "a\nb", "\x00", "\u202e", "CON", "~"]


@dataclass
class Made:
    """An input.

    Attributes:
        kind: how it was made.
        path: where it is.
        expected: (vector by id, rows to reject) by an independent reading; None: there is none.
        must_read: whether it is valid, so that no error will do.
        filetype: the setting, if it is given.
        act: what is done with it instead of reading it; raises `BrokenPromiseError`.
    """

    kind: str
    path: Path
    expected: Any = None
    must_read: bool = False
    filetype: str | None = None
    act: Callable[[], None] | None = None


def make_rows(rng: random.Random) -> list[Row]:
    """Rows with unique ids, of which some cannot be compared."""
    count = rng.choice([1, 2, 5, 30])
    texts = rng.random() < 0.7
    ids: list[Any] = [f"clip-{i}" if texts else i * 7 - 20 for i in range(count)]
    if texts:
        for place in range(count):
            if rng.random() < 0.1:
                ids[place] = f"{rng.choice(_ODD_IDS)}{place}"
    vectors: list[Any] = [_vector(rng) for _ in range(count)]
    for place in range(1, count):
        if rng.random() < 0.1:
            ids[place] = None
        if rng.random() < 0.2:
            odd = [None, [], [1.0], [1.0] * 4, [0.0] * DIM, [math.nan, 1.0, 2.0], [1.0, None, 2.0]]
            vectors[place] = rng.choice([*odd, [math.inf, 0.0, 1.0]])
    return list(zip(ids, vectors, strict=True))


def npy_rows(rng: random.Random) -> list[Row]:
    """Rows whose ids may be names of files."""
    return [(f"clip-{i}", _vector(rng)) for i in range(rng.choice([1, 2, 9]))]


def _vector(rng: random.Random) -> list[float]:
    # Halves, so that every float holds them exactly.
    return [1.0, *(rng.randrange(-20, 20) / 2 for _ in range(DIM - 1))]


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Some bytes changed, cut, doubled or put in."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        place = rng.randrange(len(changed) + 1)
        length = rng.choice([1, 2, 4, 16, 200])
        match rng.randrange(8):
            case 0:
                changed[place:] = b""
            case 1:
                del changed[place : place + length]
            case 2:
                changed[place:place] = rng.randbytes(length)
            case 3:
                changed[place:place] = changed[place : place + length]
            case 4:
                changed[place : place + length] = bytes(len(changed[place : place + length]))
            case 5:
                extreme = rng.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
                changed[place : place + 4] = extreme[: len(changed[place : place + 4])]
            case _:
                if place < len(changed):
                    changed[place] = rng.randrange(256)
    return bytes(changed)


def write_files(folder: Path, files: Files) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _is_valid(id_: Any, vector: Any) -> bool:
    if id_ is None or vector is None or len(vector) != DIM:
        return False
    return all(x is not None and math.isfinite(x) for x in vector) and any(vector)


def expected_of(rows: list[Row]) -> Any:
    good = {id_: vector for id_, vector in rows if _is_valid(id_, vector)}
    return good, len(rows) - len(good)
