"""One root folder, local or remote, in which a file is either whole or not there."""

import contextlib
import errno
import itertools
import os
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import IO, TypeVar, cast

from dedup_assets.compute.threads import in_order
from dedup_assets.store import layout as layouts
from dedup_assets.store.access import S3, Access, is_remote
from dedup_assets.store.local import open_regular, refuse_outside, stat_of, walk
from dedup_assets.store.remotefile import RemoteFile
from dedup_assets.store.s3 import Entries, Info, S3Objects

TEMPORARY = ".tmp"
"""Folder under a root for files being written; never read, safe to delete when nothing runs."""

REQUESTS = 16
"""Requests to a remote store at the same time."""

_FOLDER_ATTEMPTS = 10
_IN_MEMORY_BYTES = 8 << 20
_T = TypeVar("_T")
_Item = TypeVar("_Item")

_sequence = itertools.count()


class Store:
    """Files below one root.

    Args:
        root: ``s3://bucket/prefix``, or else a local path, whatever characters it has.
        access: credentials and endpoint for S3.
        layout: how the names of `dedup_assets.store.layout` are spelled below the root.
        allow_links: whether links below a local root may lead out of it. They may not below an
            output, which may come from someone else: what is stale there is deleted.
    """

    version_is_content = False

    def __init__(
        self,
        root: str,
        access: Access | None = None,
        layout: str = layouts.COSMOS_CURATE,
        *,
        allow_links: bool = False,
    ) -> None:
        self.layout = layouts.LAYOUTS[layout]
        self.is_local = not is_remote(root)
        self._allow_links = allow_links
        self._objects: S3Objects | None = None
        if self.is_local:
            self.root = str(Path(root).absolute())
        else:
            self.root = root.removeprefix(S3).rstrip("/")
            self._objects = _open_s3(access or Access())

    @property
    def objects(self) -> S3Objects | None:
        """Access to the objects themselves, where the store is S3."""
        return self._objects

    def path(self, name: str) -> str:
        """The full path of ``name``, relative to the root."""
        return f"{self.root}/{self.layout.on_disk(name)}" if name else self.root

    def local_path(self, name: str) -> Path:
        """The path of a file that is to be written or deleted below a local root.

        Raises:
            InputError: a link that leads out would be followed to it.
        """
        path = Path(self.path(name))
        if not self._allow_links:
            refuse_outside(str(path.parent), os.path.realpath(path.parent), self.root)
        return path

    def url(self, name: str = "") -> str:
        """What a user can paste elsewhere: a plain path, or a URL with its protocol."""
        path = self.path(name)
        return path if self.is_local else f"{S3}{path}"

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name, or for the root whether it has any."""
        path = self.path(name)
        if self._objects is None:
            return Path(path).exists()
        if name and self._objects.info(path) is not None:
            return True
        return not name and self._objects.has_any(path)

    def has_any(self, start: str) -> bool:
        """Whether there is a file whose path on disk, in whatever layout, starts so."""
        folder, _, name = start.rpartition("/")
        base = f"{self.root}/{folder}"
        if self.is_local:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return any(path.name.startswith(name) for path in Path(base).iterdir())
            return False
        return any(path[len(base) + 1 :].startswith(name) for path, _ in self._found(base))

    def is_file(self) -> bool:
        """Whether the root is a file."""
        if self._objects is None:
            return Path(self.root).is_file()
        return "/" in self.root and self._objects.info(self.root) is not None

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading in binary.

        Raises:
            FileNotFoundError: there is no such file.
            InputError: it is a pipe, a device or a socket, or it is outside the root and links
                are not allowed.
        """
        path = self.path(name)
        if self._objects is not None:
            return RemoteFile(self._objects, path)  # type: ignore[return-value]
        if not self._allow_links:
            refuse_outside(path, os.path.realpath(path), self.root)
        return open_regular(path)

    def read_bytes(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read()

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for writing that appears under its name whole, or not at all."""
        if self.is_local:
            with self._write_local(name) as file:
                yield file
            return
        # On disk first if it is large, so that an object does not have to fit into memory.
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, prefix="dedup-assets-") as spooled:
            file = cast(IO[bytes], spooled)
            yield file
            cast(S3Objects, self._objects).upload(self.path(name), file)

    def write_bytes(self, name: str, data: bytes) -> None:
        with self.write(name) as file:
            file.write(data)

    @cached_property
    def _temporary(self) -> Path:
        """The folder of files that are being written, found to be below the root once."""
        return self.local_path(f"{TEMPORARY}/x").parent

    @contextlib.contextmanager
    def _write_local(self, name: str) -> Iterator[IO[bytes]]:
        target = self.local_path(name)
        folder = self._temporary
        temporary = folder / f"{socket.gethostname()}-{os.getpid()}-{next(_sequence)}"
        try:
            with _in_folder(folder, lambda: temporary.open("wb")) as file:
                yield file
            _in_folder(target.parent, lambda: temporary.replace(target))
        except OSError as error:
            temporary.unlink(missing_ok=True)
            # A failed write does not say where; an error without a number is of the caller's own.
            if error.filename is None and error.errno is not None:
                error.filename = str(target)
            raise
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def list(self, folder: str, suffix: str = "") -> list[str]:
        """Names of all files below ``folder``, relative to it, sorted; empty if it is absent."""
        return sorted(self.list_versions(folder, suffix))

    def entries(self, folder: str = "") -> Entries:
        """What lies directly below a folder, or the root.

        On S3 the first thousand, in one request: enough to tell folders of folders from others.
        """
        if self._objects is not None:
            return self._objects.entries(self.path(folder))
        names: dict[bool, list[str]] = {True: [], False: []}
        try:
            with os.scandir(self.path(folder)) as found:
                for entry in found:
                    names[entry.is_dir()].append(entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return Entries([], [])
        folders = (name for name in names[True] if name != TEMPORARY)
        return Entries(sorted(folders), sorted(names[False]))

    def list_versions(self, folder: str, suffix: str = "") -> dict[str, str]:
        """As `list`, with a text for each file that changes when its content does.

        `size_of` tells the size from it.
        """
        base = self.path(folder)
        return {
            name: version
            for path, version in sorted(self._found(base))
            if (name := self.layout.inside(folder, path[len(base) :].lstrip("/"))).endswith(suffix)
            and not name.startswith(f"{TEMPORARY}/")
        }

    def _found(self, base: str) -> Iterator[tuple[str, str]]:
        if self._objects is not None:
            for path, info in self._objects.list(base):
                yield path, info.version
            return
        for entry, _ in self._walk(base):
            with contextlib.suppress(FileNotFoundError):  # deleted just now
                found = stat_of(entry)
                if not stat.S_ISDIR(found.st_mode):
                    yield entry.path, _version(found)

    def links(self) -> Iterator[tuple[str, str]]:
        """Symbolic links below a local root: the path of each, and where it leads to."""
        if self.is_local:
            yield from ((e.path, real) for e, real in self._walk(self.root) if real is not None)

    def _walk(self, base: str) -> Iterator[tuple[os.DirEntry[str], str | None]]:
        for entry, real in walk(base):
            if real is not None and not self._allow_links:
                refuse_outside(entry.path, real, self.root)
            yield entry, real

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if self._objects is not None:
            return self._info(name).size
        return Path(self.path(name)).stat().st_size

    def version(self, name: str) -> str:
        """A text that changes when the content of the file does.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if self._objects is not None:
            return self._info(name).version
        return _version(Path(self.path(name)).stat())

    def _info(self, name: str) -> Info:
        info = self._objects.info(self.path(name)) if self._objects is not None else None
        if info is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.url(name))
        return info

    def map(
        self, function: Callable[[_Item], _T], items: Iterable[_Item], ahead: int = 2 * REQUESTS
    ) -> Iterator[_T]:
        """``function`` of each item, in their order, as results are asked for.

        On a remote store ``ahead`` calls are begun before that, in threads: they wait for answers.
        """
        if self.is_local:
            return map(function, items)
        return in_order(function, items, REQUESTS, ahead)

    def threads(self, local: int, remote: int = REQUESTS) -> int:
        """How many threads read or write here: more where they mostly wait for answers."""
        return local if self.is_local else max(local, remote)

    def delete(self, name: str) -> None:
        """Delete a file; it is no error if it is gone already. Empty local folders go with it."""
        if self._objects is not None:
            self._objects.delete(self.path(name))
            return
        path = self.local_path(name)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not empty
            path.parent.rmdir()

    def sweep(self) -> None:
        """Delete what processes of this host that are gone left half-written."""
        if not self.is_local:
            return
        temporary = self._temporary
        for leftover in temporary.glob(f"{socket.gethostname()}-*-*"):
            host, process, _ = leftover.name.rsplit("-", 2)
            ours = host == socket.gethostname() and process.isascii() and process.isdigit()
            if ours and not is_alive(int(process)):
                leftover.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is absent, or in use
            temporary.rmdir()


def _in_folder(folder: Path, act: Callable[[], _T]) -> _T:
    """Act in a folder; make it if it is not there, again if others delete it, empty, meanwhile."""
    for _ in range(_FOLDER_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            return act()
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return act()


def _open_s3(access: Access) -> S3Objects:
    from s3fs import S3FileSystem  # takes half a second to import

    return S3Objects(S3FileSystem(**access.s3_options()), access.retries)


def _version(found: os.stat_result) -> str:
    """Size, and when it was written."""
    return f"{found.st_size} {found.st_mtime}"


def size_of(version: str) -> int:
    """Bytes of a file, which every version begins with."""
    return int(version.partition(" ")[0])


def is_alive(process: int) -> bool:
    """Whether a process of this host is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
