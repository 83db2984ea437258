"""A zip read as a folder: nothing is unpacked that stays behind, and nothing it says is trusted."""

import errno
import io
import shutil
import stat
import struct
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, cast

from dedup_assets.errors import InputError, StaleError, first_line, shown
from dedup_assets.store.filesystem import Store
from dedup_assets.store.rangefile import Window
from dedup_assets.store.s3 import ChangedError, Entries
from dedup_assets.store.sizes import format_bytes

_LOCAL_HEADER = struct.Struct("<4s22xHH")
_LOCAL_SIGNATURE = b"PK\3\4"
_ENCRYPTED = 0x1 | 0x40
_CHUNK_BYTES = 1 << 20
_IN_MEMORY_BYTES = 8 << 20
_SHARED_BYTES = 1 << 20
_MOST_RATIO = 200
_RATIO_FROM_BYTES = 16 << 20
_IGNORED_FOLDER = "__MACOSX"


@dataclass(frozen=True)
class _Member:
    """A file in the archive: where its header lies, its sizes in bytes and its CRC."""

    offset: int
    packed: int
    size: int
    crc: int
    stored: bool

    @property
    def version(self) -> str:
        return f"{self.size} {self.crc:08x}"


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
        members = self._read_directory()
        top = _single_top(members)
        if top:
            members = {name.removeprefix(top): member for name, member in members.items()}
        prefix = f"{folder.strip('/')}/".removeprefix(top) if folder.strip("/") else ""
        self._folder = prefix.rstrip("/")
        self._is_file = self._folder in members
        if prefix:
            members = {
                name.removeprefix(prefix): member
                for name, member in members.items()
                if name.startswith(prefix)
            }
        self._members = members

    def url(self, name: str = "") -> str:
        return "/".join(part for part in (self._url, self._folder, name) if part)

    def is_file(self) -> bool:
        """Whether the folder that was given is a file."""
        return self._is_file

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name, or for the root whether it is there itself."""
        return name in self._members if name else bool(self._members) or not self._folder

    def entries(self) -> Entries:
        """What lies directly below."""
        folders = {name.partition("/")[0] for name in self._members if "/" in name}
        files = (name for name in self._members if "/" not in name)
        return Entries(sorted(folders), sorted(files))

    def links(self) -> Iterator[tuple[str, str]]:
        """None: a zip with links is refused."""
        return iter(())

    def list_versions(self, folder: str, suffix: str = "") -> dict[str, str]:
        """Names of all files below ``folder``, relative to it, with size and CRC."""
        prefix = f"{folder}/" if folder else ""
        return {
            name.removeprefix(prefix): member.version
            for name, member in self._members.items()
            if name.startswith(prefix) and name.endswith(suffix)
        }

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
            raise self._damaged(f"{name} does not hold what its checksum says")
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

    def _read_small(self, name: str, member: _Member) -> bytes:
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
            raise self._damaged(f"{name} ends too early")
        return packed

    def _changed(self) -> StaleError:
        return StaleError(
            f"{self._url} changed since this step began; materialize embeddings again"
        )

    def _member(self, name: str) -> _Member:
        try:
            return self._members[name]
        except KeyError:
            text = "No such file or directory"
            raise FileNotFoundError(errno.ENOENT, text, self.url(name)) from None

    def _begin(self, file: IO[bytes], name: str, member: _Member) -> int:
        """Where the bytes of a member begin: its own header may be longer than the directory's."""
        file.seek(member.offset)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != _LOCAL_SIGNATURE:
            raise self._damaged(f"{name} does not begin where its directory says")
        _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        return int(member.offset + _LOCAL_HEADER.size + name_bytes + extra_bytes)

    def _inflate(self, name: str, member: _Member, packed: IO[bytes]) -> IO[bytes]:
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
        self, target: IO[bytes], name: str, member: _Member, packed: IO[bytes]
    ) -> None:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        size = crc = 0
        waiting = b""
        while not inflater.eof:
            waiting = waiting or packed.read(_CHUNK_BYTES)
            try:
                data = inflater.decompress(waiting, _CHUNK_BYTES)
            except zlib.error as error:
                raise self._damaged(f"{name} cannot be inflated") from error
            if not waiting and not data:
                raise self._damaged(f"{name} ends too early")
            waiting = inflater.unconsumed_tail
            size += len(data)
            if size > member.size:
                raise self._damaged(f"{name} holds more than the {member.size} bytes it states")
            crc = zlib.crc32(data, crc)
            target.write(data)
        if (size, crc) != (member.size, member.crc):
            raise self._damaged(f"{name} does not hold what its checksum says")

    def _read_directory(self) -> dict[str, _Member]:
        try:
            with self._archive.open("") as file, zipfile.ZipFile(file) as directory:
                found, end = directory.infolist(), directory.start_dir
        except (
            *(zipfile.BadZipFile, NotImplementedError, ValueError, struct.error),
            *(EOFError, OverflowError, MemoryError),
        ) as error:
            raise self._damaged(first_line(error)) from error
        except OSError as error:
            if error.errno != errno.EINVAL:  # a place before the beginning of the file
                raise
            raise self._damaged(first_line(error)) from error
        self._refuse_overlaps(found, end)
        members: dict[str, _Member] = {}
        for info in found:
            self._refuse_unsafe(info)
            parts = info.filename.split("/")
            hidden = any(part.startswith(".") or part == _IGNORED_FOLDER for part in parts)
            if hidden or info.is_dir():
                continue
            if info.filename in members:
                raise self._refused(info, "is there twice")
            members[info.filename] = self._described(info)
        return members

    def _refuse_unsafe(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        parts = name.removesuffix("/").split("/")
        # The name as it is written: on Windows Python would turn its slashes around.
        if (
            any(part in ("", ".", "..") for part in parts)
            or "\\" in info.orig_filename
            or "\0" in info.orig_filename
            or name[1:2] == ":"
        ):
            raise self._refused(info, "has a path that leads out of the zip, or is none")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise self._refused(info, "is a link, or another thing that is no file")
        if info.flag_bits & _ENCRYPTED:
            raise self._refused(info, "is encrypted")

    def _described(self, info: zipfile.ZipInfo) -> _Member:
        stored = info.compress_type == zipfile.ZIP_STORED
        if not stored and info.compress_type != zipfile.ZIP_DEFLATED:
            method = f"is compressed by method {info.compress_type}, and only deflate (8) is read"
            raise self._refused(info, method)
        if stored and info.compress_size != info.file_size:
            raise self._damaged(f"{info.filename} has two sizes")
        most = max(_RATIO_FROM_BYTES, _MOST_RATIO * info.compress_size)
        if info.file_size > most:
            raise self._refused(
                info,
                f"would grow from {format_bytes(info.compress_size)} to "
                f"{format_bytes(info.file_size)}, more than {_MOST_RATIO} times",
            )
        return _Member(info.header_offset, info.compress_size, info.file_size, info.CRC, stored)

    def _refuse_overlaps(self, found: Iterable[zipfile.ZipInfo], end: int) -> None:
        """Members that share bytes would let a small file grow without bounds."""
        for info in sorted(found, key=lambda info: info.header_offset, reverse=True):
            least = info.header_offset + _LOCAL_HEADER.size + info.compress_size
            if info.header_offset < 0 or least > end:
                raise self._damaged(f"{info.filename} runs into what follows it")
            end = info.header_offset

    def _refused(self, info: zipfile.ZipInfo, why: str) -> InputError:
        return InputError(
            f"{self._url} is refused: member {shown(info.orig_filename)} {why}; make the zip "
            "without it"
        )

    def _damaged(self, why: str) -> InputError:
        return InputError(
            f"{self._url} is not a readable zip ({why}); make it again, or copy it again"
        )


def _single_top(names: Iterable[str]) -> str:
    """The folder, with a slash, that all names lie in; empty if there is none."""
    tops = {name.partition("/")[0] if "/" in name else "" for name in names}
    top = tops.pop() if len(tops) == 1 else ""
    return f"{top}/" if top else ""
