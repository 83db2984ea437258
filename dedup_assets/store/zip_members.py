"""The members of a zip, in a few dozen bytes each."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

_BLOCK = 256
_KEPT_BLOCKS = 64
_NAMES_AT_ONCE = 10_000


@dataclass(frozen=True)
class Member:
    """A file in a zip: where its header lies, its sizes in bytes and its CRC."""

    offset: int
    packed: int
    size: int
    crc: int
    stored: bool

    @property
    def version(self) -> str:
        return f"{self.size} {self.crc:08x}"


class Directory:
    """The files of a zip, sorted by name; folders and hidden files are left out."""

    def __init__(self, names: pa.LargeStringArray, columns: list[np.ndarray]) -> None:
        self._names = names
        self._columns = columns
        self._heads = names.take(pa.array(range(0, len(names), _BLOCK), pa.int64())).to_pylist()
        self._blocks: dict[int, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def row(self, name: str) -> int | None:
        """The place of a file, or None if there is none of this name."""
        number = bisect_right(self._heads, name) - 1
        if number < 0:
            return None
        block = self._blocks.get(number)
        if block is None:
            start = number * _BLOCK
            names = self._names.slice(start, _BLOCK).to_pylist()
            block = {name: start + place for place, name in enumerate(names)}
            if len(self._blocks) >= _KEPT_BLOCKS:
                self._blocks = {}
            self._blocks[number] = block
        return block.get(name)

    def member(self, row: int) -> Member:
        offset, packed, size, crc, stored = (int(column[row]) for column in self._columns)
        return Member(offset, packed, size, crc, bool(stored))

    def names(self, rows: range) -> Iterator[str]:
        """Names of some files, in order."""
        for start in range(rows.start, rows.stop, _NAMES_AT_ONCE):
            yield from self._names.slice(start, min(_NAMES_AT_ONCE, rows.stop - start)).to_pylist()

    def below(self, prefix: str) -> range:
        """The files whose names begin with ``prefix``."""
        first = self._first_from(prefix)
        return range(first, self._first_from(f"{prefix}\U0010ffff") if prefix else len(self))

    def _first_from(self, name: str) -> int:
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._names[middle].as_py() < name:
                low = middle + 1
            else:
                high = middle
        return low


class Versions(Mapping[str, str]):
    """The version of each file below a folder of a zip, by name relative to it, sorted.

    Args:
        directory: of the zip.
        prefix: of the folder, with a slash; may be empty.
    """

    def __init__(self, directory: Directory, prefix: str) -> None:
        self._directory = directory
        self._prefix = prefix
        self._rows = directory.below(prefix)

    def __getitem__(self, name: str) -> str:
        row = self._directory.row(self._prefix + name)
        if row is None:
            raise KeyError(name)
        return self._directory.member(row).version

    def __iter__(self) -> Iterator[str]:
        return (name[len(self._prefix) :] for name in self._directory.names(self._rows))

    def __len__(self) -> int:
        return len(self._rows)
