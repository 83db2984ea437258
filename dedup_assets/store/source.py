"""Where input is read from: a folder, a file, or either inside a zip."""

from collections.abc import Callable, Iterable, Iterator
from typing import IO, Protocol, TypeVar

from dedup_assets.store.access import Access
from dedup_assets.store.archive import ZipStore
from dedup_assets.store.filesystem import REQUESTS, Store
from dedup_assets.store.s3 import Entries

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
    def list_versions(self, folder: str, suffix: str = "") -> dict[str, str]: ...
    def open(self, name: str) -> IO[bytes]: ...
    def read_bytes(self, name: str) -> bytes: ...
    def size(self, name: str) -> int: ...
    def version(self, name: str) -> str: ...
    def threads(self, local: int, remote: int = REQUESTS) -> int: ...
    def map(
        self, function: Callable[[_Item], _T], items: Iterable[_Item], ahead: int = 2 * REQUESTS
    ) -> Iterator[_T]: ...


def open_source(path: str, access: Access | None = None) -> Source:
    """What lies at ``path``, which may name a zip, or something in one: ``clips.zip/clips``.

    Raises:
        InputError: it is in a zip that is damaged, or holds what is refused.
    """
    parts = path.rstrip("/").split("/")
    for number, part in enumerate(parts, start=1):
        if part.lower().endswith(ZIP):
            archive = Store("/".join(parts[:number]), access)
            if archive.is_file():
                return ZipStore(archive, "/".join(parts[number:]))
    return Store(path, access)
