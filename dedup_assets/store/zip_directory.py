"""The directory of a zip: read in pieces, and checked.

`zipfile` makes a Python object of each member, so a zip of 4 GB in small ones took 20 GB of memory.
"""

import stat
import struct
import zipfile
from array import array
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.errors import InputError, shorten, shown
from dedup_assets.progress import track
from dedup_assets.store.sizes import format_bytes
from dedup_assets.store.zip_members import Directory

LOCAL_HEADER = struct.Struct("<4s22xHH")
MOST_DIRECTORY_BYTES = 512 << 20
"""About seven million members; their names are held in memory."""

_ENTRY = struct.Struct("<4s2xHHH4xIIIHHH4xII")
_END = struct.Struct("<4s6xHIIH")
_LOCATOR = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4s28xQQQ")
_EXTRA = struct.Struct("<HH")
_ENTRY_SIGNATURE, _END_SIGNATURE = b"PK\1\2", b"PK\5\6"
_LOCATOR_SIGNATURE, _END_64_SIGNATURE = b"PK\6\7", b"PK\6\6"
_LONGEST_COMMENT = 1 << 16
_NEWEST_VERSION = 63
_ENCRYPTED = 0x1 | 0x40
_UTF_8 = 0x800
_ZIP64 = 0x1
_IN_EXTRA = 0xFFFF_FFFF
_IGNORED_FOLDER = "__MACOSX"
_MOST_RATIO = 200
_RATIO_FROM_BYTES = 16 << 20
_READ_BYTES = 1 << 20
_REPORTED = 10_000

_Fields = tuple[Any, ...]


def read_directory(file: IO[bytes], url: str) -> Directory:
    """Read and check the directory of a zip.

    Args:
        file: the zip.
        url: for messages.

    Raises:
        InputError: it is no zip, is damaged, or has a member that is refused: a path that leads
            out, a link, one that is encrypted, of a name that another has, or far larger
            than what it is packed into.
    """
    try:
        start, size, count, shift = _place(file)
    except (_DamagedError, struct.error) as error:
        raise damaged(url, "File is not a zip file") from error
    if size > MOST_DIRECTORY_BYTES:
        raise InputError(
            f"{url} is refused: its directory of {count:,} members takes {format_bytes(size)}, "
            f"more than {format_bytes(MOST_DIRECTORY_BYTES)}; unpack it and give the folder, or "
            "pack the rows as Parquet files"
        )
    reader = _Reader(url, start, shift)
    try:
        with track("reading the directory of a zip", count, "members") as advance:
            for number, (fields, name, extra) in enumerate(_entries(file, start, size), start=1):
                reader.add(fields, name, extra)
                if number % _REPORTED == 0:
                    advance(_REPORTED)
    except (_DamagedError, UnicodeDecodeError, struct.error) as error:
        raise damaged(url, str(error)) from error
    return reader.directory()


def damaged(url: str, why: str) -> InputError:
    """What to say of a zip that cannot be read."""
    return InputError(f"{url} is not a readable zip ({why}); make it again, or copy it again")


class _DamagedError(Exception):
    """Why the bytes are no directory."""


def _place(file: IO[bytes]) -> tuple[int, int, int, int]:
    """Where the directory begins, its bytes and members, and how much precedes the zip itself."""
    whole = file.seek(0, 2)
    tail_start = max(0, whole - _LONGEST_COMMENT - _END.size)
    file.seek(tail_start)
    tail = file.read(whole - tail_start)
    found = len(tail) - _END.size  # where there is no comment
    if found < 0 or tail[found : found + 4] != _END_SIGNATURE or tail[-2:] != b"\0\0":
        found = tail.rfind(_END_SIGNATURE)
    if found < 0 or found + _END.size > len(tail):
        raise _DamagedError
    _, count, size, offset, _ = _END.unpack_from(tail, found)
    end = tail_start + found
    if end >= _LOCATOR.size:
        file.seek(end - _LOCATOR.size)
        signature, disk, _, disks = _LOCATOR.unpack(file.read(_LOCATOR.size))
        if signature == _LOCATOR_SIGNATURE:
            if disk != 0 or disks > 1 or end < _LOCATOR.size + _END_64.size:
                raise _DamagedError
            file.seek(end - _LOCATOR.size - _END_64.size)
            signature, *stated = _END_64.unpack(file.read(_END_64.size))
            if signature == _END_64_SIGNATURE:
                count, size, offset = stated
                end -= _LOCATOR.size + _END_64.size
    shift = end - size - offset  # what precedes a zip that can run itself
    if end < size or shift + offset < 0:
        raise _DamagedError
    return end - size, size, count, shift


def _entries(file: IO[bytes], start: int, size: int) -> Iterator[tuple[_Fields, bytes, bytes]]:
    """The fixed fields, the name and the extra field of each member."""
    file.seek(start)
    waiting, place, unread = b"", 0, size
    while unread or place < len(waiting):
        need = _ENTRY.size
        if len(waiting) - place >= need:
            fields = _ENTRY.unpack_from(waiting, place)
            if fields[0] != _ENTRY_SIGNATURE:
                raise _DamagedError("Bad magic number for central directory")
            need += fields[7] + fields[8] + fields[9]
            if len(waiting) - place >= need:
                begin = place + _ENTRY.size
                middle = begin + fields[7]
                yield fields, waiting[begin:middle], waiting[middle : middle + fields[8]]
                place += need
                continue
        more = file.read(min(unread, _READ_BYTES))
        if not more:
            raise _DamagedError("Truncated central directory")
        unread -= len(more)
        waiting, place = waiting[place:] + more, 0


class _Reader:
    """Takes members one by one, checks them, and keeps their numbers in arrays."""

    def __init__(self, url: str, end: int, shift: int) -> None:
        self._url = url
        self._end = end
        self._shift = shift
        self._extents = array("q"), array("q")
        self._columns = array("q"), array("q"), array("q"), array("I"), array("B")
        self._text, self._ends = bytearray(), array("q", [0])
        self._packed = self._size = 0

    def add(self, fields: _Fields, raw: bytes, extra: bytes) -> None:
        _, version, flags, method, crc, packed, size, _, _, _, attributes, offset = fields
        if version > _NEWEST_VERSION:
            raise _DamagedError(f"zip file version {version / 10:.1f}")
        name = raw.decode("utf-8" if flags & _UTF_8 else "cp437")
        size, packed, offset = _large(extra, size, packed, offset)
        offset += self._shift
        self._refuse_unsafe(name, attributes, flags)
        if offset < 0 or offset + LOCAL_HEADER.size + packed > self._end:
            raise _DamagedError(f"{shorten(name)} runs into what follows it")
        for numbers, value in zip(self._extents, (offset, packed), strict=True):
            numbers.append(value)
        parts = name.split("/")
        hidden = any(part.startswith(".") or part == _IGNORED_FOLDER for part in parts)
        if hidden or name.endswith("/"):
            return
        stored = self._check(name, method, packed, size)
        values = (offset, packed, size, crc, stored)
        for numbers, value in zip(self._columns, values, strict=True):
            numbers.append(value)
        self._text += name.encode()
        self._ends.append(len(self._text))
        self._packed += packed
        self._size += size

    def directory(self) -> Directory:
        self._refuse_overlaps()
        if self._size > max(_RATIO_FROM_BYTES, _MOST_RATIO * self._packed):
            raise self._refused("in all its members", self._growth(self._packed, self._size))
        text, ends = pa.py_buffer(self._text), pa.py_buffer(self._ends)
        names = pa.LargeStringArray.from_buffers(len(self._ends) - 1, ends, text)
        order = pc.sort_indices(names)
        names = names.take(order)
        twice = pc.index(pc.equal(names.slice(1), names.slice(0, max(0, len(names) - 1))), True)
        if twice.as_py() >= 0:
            raise self._refused(_member(names[twice.as_py()].as_py()), "is there twice")
        rows = order.to_numpy()
        return Directory(names, [np.frombuffer(c, c.typecode)[rows] for c in self._columns])

    def _refuse_unsafe(self, name: str, attributes: int, flags: int) -> None:
        parts = name.removesuffix("/").split("/")
        if (
            any(part in ("", ".", "..") for part in parts)
            or "\\" in name
            or "\0" in name
            or name[1:2] == ":"
        ):
            raise self._refused(_member(name), "has a path that leads out of the zip, or is none")
        if stat.S_IFMT(attributes >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise self._refused(_member(name), "is a link, or another thing that is no file")
        if flags & _ENCRYPTED:
            raise self._refused(_member(name), "is encrypted")

    def _check(self, name: str, method: int, packed: int, size: int) -> bool:
        """Whether a member is stored as it is; refuse what is neither that nor deflated."""
        stored = method == zipfile.ZIP_STORED
        if not stored and method != zipfile.ZIP_DEFLATED:
            what = f"is compressed by method {method}, and only deflate (8) is read"
            raise self._refused(_member(name), what)
        if stored and packed != size:
            raise _DamagedError(f"{shorten(name)} has two sizes")
        if size > max(_RATIO_FROM_BYTES, _MOST_RATIO * packed):
            raise self._refused(_member(name), self._growth(packed, size))
        return stored

    def _growth(self, packed: int, size: int) -> str:
        return (
            f"would grow from {format_bytes(packed)} to {format_bytes(size)}, more than "
            f"{_MOST_RATIO} times"
        )

    def _refuse_overlaps(self) -> None:
        """Members that share bytes would let a small file grow without bounds."""
        offsets, packed = (np.frombuffer(numbers, np.int64) for numbers in self._extents)
        order = np.argsort(offsets)
        ends = offsets[order] + LOCAL_HEADER.size + packed[order]
        if (ends[:-1] > offsets[order][1:]).any():
            raise damaged(self._url, "one of its members runs into what follows it")

    def _refused(self, what: str, why: str) -> InputError:
        return InputError(f"{self._url} is refused: {what} {why}; make the zip without it")


def _large(extra: bytes, *values: int) -> tuple[int, ...]:
    """Sizes and offset, those of more than 32 bits from the extra field, in that order."""
    place, given = 0, list(values)
    while place + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, place)
        place += _EXTRA.size
        if place + length > len(extra):
            raise _DamagedError(f"Corrupt extra field {kind:04x} (size={length})")
        if kind == _ZIP64:
            taken = place
            for number, value in enumerate(given):
                if value == _IN_EXTRA:
                    if taken + 8 > place + length:
                        raise _DamagedError("Corrupt zip64 extra field")
                    given[number] = int.from_bytes(extra[taken : taken + 8], "little")
                    taken += 8
        place += length
    return tuple(given)


def _member(name: str) -> str:
    return f"member {shown(name)}"
