"""All results of an output in one ZIP file."""

import io
import shutil
import stat
import zipfile
from dataclasses import dataclass

from dedup_assets.errors import SettingsError, StaleError
from dedup_assets.progress import track
from dedup_assets.store import layout, locks
from dedup_assets.store.access import Access
from dedup_assets.store.filesystem import TEMPORARY, Store
from dedup_assets.store.s3 import ChangedError

MACHINE_STATE = {layout.INSTANCE, locks.FILE.partition("/")[0], TEMPORARY}
"""Folders below an output that mean nothing elsewhere: events, leases, files half-written."""

_BUFFER_BYTES = 8 << 20
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


@dataclass(frozen=True)
class Packed:
    """A ZIP file that was written.

    Attributes:
        url: where it is.
        files: how many it holds.
        bytes: of the ZIP file.
    """

    url: str
    files: int
    bytes: int


def pack(store: Store, path: str, access: Access | None = None) -> Packed:
    """Write every file below the root, but for `MACHINE_STATE`, into a ZIP file.

    Parquet and video do not shrink, so they are stored as they are. Equal files give equal bytes:
    names are sorted, times left out. The ZIP file appears whole, or not at all.

    Args:
        store: what to pack.
        path: absolute path or URL of the ZIP file, outside the root.
        access: credentials and endpoint for a URL.

    Raises:
        SettingsError: it cannot be written there.
        StaleError: a file changed meanwhile.
    """
    folder, _, name = path.rpartition("/")
    target = Store(folder or "/", access)
    found = _results(store)
    try:
        with target.write(name) as file:
            with (
                zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
                track("packing", len(found), "files") as advance,
            ):
                for entry in sorted(found):
                    _add(archive, store, entry)
                    advance(1)
            size = file.tell()
            if _results(store) != found:
                raise ChangedError
    except (ChangedError, FileNotFoundError) as error:
        raise StaleError(
            f"{store.url()} changed while it was packed, so {target.url(name)} was not written; "
            "run again when nothing else writes there"
        ) from error
    except OSError as error:
        raise SettingsError(
            f"{target.url(name)} cannot be written ({error.strerror or error}); choose another "
            "--output-zip and run again: nothing is computed twice"
        ) from error
    finally:
        target.sweep()
    return Packed(target.url(name), len(found), size)


def _results(store: Store) -> dict[str, str]:
    return {
        name: version
        for name, version in store.list_versions("").items()
        if name.partition("/")[0] not in MACHINE_STATE
    }


def _add(archive: zipfile.ZipFile, store: Store, name: str) -> None:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    entry.create_system = _UNIX
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    with store.open(name) as source:
        entry.file_size = source.seek(0, io.SEEK_END)  # decides whether ZIP64 is needed
        source.seek(0)
        with archive.open(entry, "w") as target:
            shutil.copyfileobj(source, target, _BUFFER_BYTES)
