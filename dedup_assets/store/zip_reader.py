"""A zip read as a folder: nothing is unpacked that stays behind, and nothing it says is trusted."""

import errno
import io
import os
import shutil
import tempfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, cast
from weakref import WeakValueDictionary

from dedup_assets.errors import InputError, StaleError
from dedup_assets.store.filesystem import Store
from dedup_assets.store.rangefile import Window
from dedup_assets.store.s3 import ChangedError, Entries
from dedup_assets.store.sizes import format_bytes
from dedup_assets.store.zip_directory import LOCAL_HEADER, damaged, read_directory
from dedup_assets.store.zip_members import Directory, Member, Versions

_LOCAL_SIGNATURE = b"PK\3\4"
_CHUNK_BYTES = 1 << 20
_IN_MEMORY_BYTES = 8 << 20
_SHARED_BYTES = 1 << 20
_LISTED = 1_000

_open_directories: WeakValueDictionary[tuple[str, str], Directory] = WeakValueDictionary()
"""Those in use, by path and version: a step opens its input more than once."""


class ZipStore:
    """The files of a zip below a folder in it, as those of a `Store`, to read.

    A single folder at the top counts for the archive itself; hidden files and ``__MACOSX`` are
    left out. A member that is not compressed is read where it lies; another is inflated, when it
    is opened, into memory or a temporary file without a name.

    Args:
        archive: the zip, as the root of a store.
        folder: in the zip, relative to its top.

    Raises:
        InputError: it is no zip, is damaged, or has a member that is refused: a path that leads
            out, a link, one that is encrypted, of a name that another has, or far larger
            than what it is packed into.
    """

    version_is_content = True

    def __init__(self, archive: Store, folder: str = "") -> None:
        self._archive = archive
        self.is_local = archive.is_local
        self.map = archive.map
        self.threads = archive.threads
        self._url = archive.url()
        self._version = archive.version("")
        self._shared: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._directory = self._read_directory()
        top = _single_top(self._directory)
        prefix = f"{folder.strip('/')}/".removeprefix(top) if folder.strip("/") else ""
        self._folder = prefix.rstrip("/")
        self._is_file = bool(prefix) and self._directory.row(top + self._folder) is not None
        self._prefix = top + prefix
        self._rows = self._directory.below(self._prefix)

    def url(self, name: str = "") -> str:
        return "/".join(part for part in (self._url, self._folder, name) if part)

    def is_file(self) -> bool:
        """Whether the folder that was given is a file."""
        return self._is_file

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name, or for the root whether it is there itself."""
        if not name:
            return bool(self._rows) or not self._folder
        return self._directory.row(self._prefix + name) is not None

    def entries(self) -> Entries:
        """What lies directly below: all folders, and of the files the first thousand."""
        folders: set[str] = set()
        files: list[str] = []
        for name in self.list_versions(""):
            first, separator, _ = name.partition("/")
            if separator:
                folders.add(first)
            elif len(files) < _LISTED:
                files.append(name)
        return Entries(sorted(folders), files)

    def links(self) -> Iterator[tuple[str, str]]:
        """None: a zip with links is refused."""
        return iter(())

    def list_versions(self, folder: str) -> Mapping[str, str]:
        """Names of all files below ``folder``, relative to it, sorted, with size and CRC."""
        return Versions(self._directory, self._prefix + (f"{folder}/" if folder else ""))

    def size(self, name: str) -> int:
        return self._member(name).size

    def version(self, name: str) -> str:
        """Size and CRC of a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return self._member(name).version

    def read_bytes(self, name: str) -> bytes:
        """The whole of a file.

        Raises:
            InputError: it is damaged, which `open` does not see where it is read in place.
        """
        with self.open(name) as file:
            data = file.read()
        member = self._member(name)
        if member.stored and zlib.crc32(data) != member.crc:
            raise damaged(self._url, f"{name} does not hold what its checksum says")
        return data

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading in binary.

        Raises:
            FileNotFoundError: there is no such file.
            InputError: it is damaged, or there is no room to inflate it.
            StaleError: the zip was replaced since it was listed.
        """
        member = self._member(name)
        if not self._archive.is_local and member.packed <= _SHARED_BYTES:
            packed = io.BytesIO(self._read_small(name, member))
            return packed if member.stored else self._inflate(name, member, packed)
        file = self._open_archive()
        try:
            window = cast(IO[bytes], Window(file, self._begin(file, name, member), member.packed))
            if member.stored:
                return window
            inflated = self._inflate(name, member, window)
        except BaseException:
            file.close()
            raise
        file.close()
        return inflated

    def _open_archive(self) -> IO[bytes]:
        try:
            if self._archive.version("") == self._version:
                return self._archive.open("")
        except FileNotFoundError:
            pass
        raise self._changed()

    def _read_small(self, name: str, member: Member) -> bytes:
        """A member as it is packed, through one open file: it keeps what lies next to it, and a
        request for each of many small members would take hours."""
        with self._lock:
            self._shared = self._shared or self._open_archive()
            try:
                self._shared.seek(self._begin(self._shared, name, member))
                packed = self._shared.read(member.packed)
            except ChangedError as error:
                raise self._changed() from error
        if len(packed) < member.packed:
            raise damaged(self._url, f"{name} ends too early")
        return packed

    def _changed(self) -> StaleError:
        return StaleError(
            f"{self._url} changed since this step began; materialize embeddings again"
        )

    def _member(self, name: str) -> Member:
        row = self._directory.row(self._prefix + name)
        if row is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.url(name))
        return self._directory.member(row)

    def _begin(self, file: IO[bytes], name: str, member: Member) -> int:
        """Where the bytes of a member begin: its own header may be longer than the directory's."""
        file.seek(member.offset)
        header = file.read(LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size or header[:4] != _LOCAL_SIGNATURE:
            raise damaged(self._url, f"{name} does not begin where its directory says")
        _, name_bytes, extra_bytes = LOCAL_HEADER.unpack(header)
        return int(member.offset + LOCAL_HEADER.size + name_bytes + extra_bytes)

    def _inflate(self, name: str, member: Member, packed: IO[bytes]) -> IO[bytes]:
        target: IO[bytes] = io.BytesIO()
        if member.size > _IN_MEMORY_BYTES:
            scratch = tempfile.gettempdir()
            free = shutil.disk_usage(scratch).free
            if member.size > free:
                raise InputError(
                    f"{self.url(name)} takes {format_bytes(member.size)} to read, and {scratch} "
                    f"has {format_bytes(free)} free; free space there, point TMPDIR elsewhere, or "
                    "make the zip without compression (zip -0)"
                )
            target = tempfile.TemporaryFile(prefix="dedup-assets-")  # noqa: SIM115
        try:
            self._inflate_into(target, name, member, packed)
        except BaseException:
            target.close()
            raise
        target.seek(0)
        return target

    def _inflate_into(
        self, target: IO[bytes], name: str, member: Member, packed: IO[bytes]
    ) -> None:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        size = crc = 0
        waiting = b""
        while not inflater.eof:
            waiting = waiting or packed.read(_CHUNK_BYTES)
            try:
                data = inflater.decompress(waiting, _CHUNK_BYTES)
            except zlib.error as error:
                raise damaged(self._url, f"{name} cannot be inflated") from error
            if not waiting and not data:
                raise damaged(self._url, f"{name} ends too early")
            waiting = inflater.unconsumed_tail
            size += len(data)
            if size > member.size:
                raise damaged(
                    self._url, f"{name} holds more than the {member.size} bytes it states"
                )
            crc = zlib.crc32(data, crc)
            target.write(data)
        if (size, crc) != (member.size, member.crc):
            raise damaged(self._url, f"{name} does not hold what its checksum says")

    def _read_directory(self) -> Directory:
        key = (self._url, self._version)
        directory = _open_directories.get(key)
        if directory is None:
            with self._archive.open("") as file:
                directory = read_directory(file, self._url)
            _open_directories[key] = directory
        return directory


def _single_top(directory: Directory) -> str:
    """The folder, with a slash, that all files lie in; empty if there is none."""
    if not len(directory):
        return ""
    first = next(directory.names(range(1)))
    top = f"{first.partition('/')[0]}/" if "/" in first else ""
    return top if directory.below(top) == range(len(directory)) else ""
