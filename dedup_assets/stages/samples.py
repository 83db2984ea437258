"""Samples on their way out: WebDataset tars, or plain files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dedup_assets.settings import Settings
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.store.media import MediaFiles, sample_key

_AHEAD = 8
"""Clips in memory that come from a remote store; each may be large."""


@dataclass(frozen=True)
class Sample:
    """A kept clip: its media files by extension, and the JSON that goes with them."""

    id: Any
    key: str
    media: dict[str, str]
    record: bytes


def write_tars(
    settings: Settings,
    store: Store,
    media: MediaFiles,
    eps: str,
    set_print: str,
    samples: Iterator[Sample],
) -> Iterator[dict[str, Any]]:
    """Write samples into tars of ``samples_per_shard``; yields the index row of each one."""
    import webdataset  # takes half a second to import

    def read(sample: Sample) -> tuple[Any, dict[str, Any]]:
        return sample.id, _tar_entry(media, sample)

    entries = media.store.map(read, samples, ahead=_AHEAD)
    number, following = 0, next(entries, None)
    while following is not None:
        name = layout.shard(set_print, number)
        with store.write(f"{layout.shards(eps)}/{name}") as file:
            # Owner, mode and time are fixed, so equal content gives equal bytes; the pax format
            # because ustar refuses names beyond 100 characters. Extensions may begin with an
            # underscore, which the writer would take for its own without keep_meta.
            writer = webdataset.TarWriter(
                file, user="", group="", mode=0o644, mtime=0, encoder=False,
                keep_meta=True, format="PAX_FORMAT",
            )  # fmt: skip
            with writer:
                for _ in range(settings.samples_per_shard):
                    id_, entry = following
                    start = writer.tarstream.offset
                    writer.write(entry)
                    size = writer.tarstream.offset - start
                    yield index_row(id_, name, start, size)
                    following = next(entries, None)
                    if following is None:
                        break
        number += 1


def _tar_entry(media: MediaFiles, sample: Sample) -> dict[str, Any]:
    entry: dict[str, Any] = {"__key__": sample.key, "json": sample.record}
    for extension, name in sample.media.items():
        entry[file_extension(extension)] = media.store.read_bytes(name)
    return entry


def file_extension(extension: str) -> str:
    """A clip's own JSON file must not hide ours."""
    return "source.json" if extension == "json" else extension


def write_media(
    settings: Settings,
    store: Store,
    media: MediaFiles,
    eps: str,
    set_print: str,
    samples: Iterator[Sample],
) -> Iterator[dict[str, Any]]:
    """Write the files of samples side by side; yields the index row of each one."""
    folder = layout.media_folder(set_print)

    def copy(sample: Sample) -> dict[str, Any]:
        entry = _tar_entry(media, sample)
        key = entry.pop("__key__")
        for extension, data in entry.items():
            store.write_bytes(f"{layout.shards(eps)}/{folder}/{key}.{extension}", data)
        return index_row(sample.id, folder, None, sum(map(len, entry.values())))

    either = store if media.store.is_local else media.store
    yield from either.map(copy, samples, ahead=_AHEAD)


def index_row(id_: Any, shard: str | None, offset: int | None, size: int | None) -> dict[str, Any]:
    """A row of `schemas.shard_index`."""
    return {"id": id_, "key": sample_key(id_), "shard": shard, "offset": offset, "size": size}
