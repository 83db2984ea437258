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
from dedup_assets.store.local import special_kind
from dedup_assets.store.s3 import ChangedError
from dedup_assets.store.source import folder_and_name

MACHINE_STATE = {layout.INSTANCE, locks.FILE.partition("/")[0], TEMPORARY}
"""Folders below an output that mean nothing elsewhere: events, leases, files half-written."""

_BUFFER_BYTES = 8 << 20
_COMMENT = b"Results of dedup-assets; the next run may replace this file.\n"
"""Of the ZIP file: only one that ends with it is overwritten."""

_END_RECORD = b"PK\5\6"
_END_BYTES = 22 + len(_COMMENT)

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
    folder, name = folder_and_name(path)
    target = Store(folder, access)
    found = _results(store)
    try:
        with target.write(name) as file:
            with (
                zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
                track("packing", len(found), "files") as advance,
            ):
                archive.comment = _COMMENT
                for entry in sorted(found):
                    _add(archive, store, entry)
                    advance(1)
            size = file.tell()
            if _results(store) != found:
                raise ChangedError
            refuse_other_file(path, access)  # it may have come meanwhile
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


def refuse_other_file(path: str, access: Access | None = None) -> None:
    """Refuse to overwrite anything but a ZIP file that `pack` wrote.

    Raises:
        SettingsError: there is something else, or it cannot be read.
    """
    folder, name = folder_and_name(path)
    target = Store(folder, access)
    url = target.url(name)
    kind = special_kind(path) if target.is_local else None
    if kind is not None:
        raise SettingsError(f"{url} is {kind}, not a ZIP file; choose another --output-zip")
    try:
        with target.open(name) as file:
            file.seek(max(0, file.seek(0, io.SEEK_END) - _END_BYTES))
            end = file.read()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SettingsError(
            f"{url} cannot be written ({error.strerror or error}); choose another --output-zip"
        ) from error
    if not (end.startswith(_END_RECORD) and end.endswith(_COMMENT)):
        raise SettingsError(
            f"{url} is there and is not a ZIP file that dedup-assets wrote; choose another "
            "--output-zip, or move that file away"
        )


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
