"""Where input is read from: a folder, a file, or either inside a zip."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Protocol, TypeVar

from dedup_assets.store.access import Access, is_remote
from dedup_assets.store.filesystem import REQUESTS, Store
from dedup_assets.store.local import refuse_special
from dedup_assets.store.s3 import Entries
from dedup_assets.store.zip_reader import ZipStore

ZIP = ".zip"

_Item = TypeVar("_Item")
_T = TypeVar("_T")


class Source(Protocol):
    """The reading side of `Store`."""

    version_is_content: bool
    """Whether equal versions mean equal bytes, so that nothing else has to be looked at."""

    is_local: bool

    def url(self, name: str = "") -> str: ...
    def exists(self, name: str) -> bool: ...
    def is_file(self) -> bool: ...
    def entries(self) -> Entries: ...
    def links(self) -> Iterator[tuple[str, str]]: ...
    def list_versions(self, folder: str) -> Mapping[str, str]: ...
    def open(self, name: str) -> IO[bytes]: ...
    def read_bytes(self, name: str) -> bytes: ...
    def size(self, name: str) -> int: ...
    def version(self, name: str) -> str: ...
    def threads(self, local: int, remote: int = REQUESTS) -> int: ...
    def map(
        self, function: Callable[[_Item], _T], items: Iterable[_Item], ahead: int = 2 * REQUESTS
    ) -> Iterator[_T]: ...


def open_source(path: str, access: Access | None = None, *, allow_links: bool = True) -> Source:
    """What lies at ``path``, which may name a zip, or something in one: ``clips.zip/clips``.

    Raises:
        InputError: it is in a zip that is damaged, or holds what is refused; or it is a pipe, a
            device or a socket.
    """
    if not is_remote(path):
        refuse_special(path.rstrip("/"))
    parts = path.rstrip("/").split("/")
    for number, part in enumerate(parts, start=1):
        if part.lower().endswith(ZIP):
            archive = Store("/".join(parts[:number]), access, allow_links=allow_links)
            if archive.is_file():
                return ZipStore(archive, "/".join(parts[number:]))
    return Store(path, access, allow_links=allow_links)


def folder_and_name(path: str) -> tuple[str, str]:
    """The folder that a file is in, as a path to open, and its name there."""
    folder, slash, name = path.rstrip("/").rpartition("/")
    return folder or slash or ".", name
