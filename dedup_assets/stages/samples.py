"""Write samples: WebDataset tars, or plain files."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dedup_assets.settings import Settings
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.store.media import MediaFiles
from dedup_assets.store.members import Members, sample_key

_AHEAD = 8
"""Clips in memory that come from a remote store; each may be large."""


@dataclass(frozen=True)
class Sample:
    """A kept clip: its `members`, and our JSON, which is one of them."""

    id: Any
    key: str
    members: Members
    record: bytes

    def read(self, media: MediaFiles) -> dict[str, bytes]:
        """The bytes of each member, by extension."""
        return {
            extension: self.record if file is None else media.store.read_bytes(file)
            for extension, file in self.members.items()
        }


def write_tars(
    settings: Settings,
    store: Store,
    media: MediaFiles,
    eps: str,
    set_digest: str,
    samples: Iterator[Sample],
) -> Iterator[dict[str, Any]]:
    """Write samples into tars of ``samples_per_shard``; yields the index row of each one."""
    import webdataset  # takes half a second to import

    def read(sample: Sample) -> tuple[Any, dict[str, Any]]:
        return sample.id, {"__key__": sample.key, **sample.read(media)}

    entries = media.store.map(read, samples, ahead=_AHEAD)
    number, following = 0, next(entries, None)
    while following is not None:
        name = layout.shard(set_digest, number)
        with store.write(f"{layout.shards(eps)}/{name}") as file:
            # Owner, mode and time are fixed, so equal content gives equal bytes; the pax format
            # because ustar refuses names beyond 100 characters. Extensions may begin with an
            # underscore, which the writer would take for its own without keep_meta.
            writer = webdataset.TarWriter(
                file, user="", group="", mode=0o644, mtime=0, encoder=False,
                keep_meta=True, format="PAX_FORMAT",
            )  # fmt: skip
            with writer:
                for _ in range(settings.shards.samples_per_shard):
                    id_, entry = following
                    start = writer.tarstream.offset
                    writer.write(entry)
                    size = writer.tarstream.offset - start
                    yield index_row(id_, name, start, size)
                    following = next(entries, None)
                    if following is None:
                        break
        number += 1


def write_media(
    settings: Settings,
    store: Store,
    media: MediaFiles,
    eps: str,
    set_digest: str,
    samples: Iterator[Sample],
) -> Iterator[dict[str, Any]]:
    """Write the files of samples side by side; yields the index row of each one."""
    folder = layout.media_folder(set_digest)

    def copy(sample: Sample) -> dict[str, Any]:
        data = sample.read(media)
        for extension, content in data.items():
            name = f"{folder}/{sample.key}.{extension}"
            store.write_bytes(f"{layout.shards(eps)}/{name}", content)
        return index_row(sample.id, folder, None, sum(map(len, data.values())))

    either = store if media.store.is_local else media.store
    yield from either.map(copy, samples, ahead=_AHEAD)


def index_row(id_: Any, shard: str | None, offset: int | None, size: int | None) -> dict[str, Any]:
    """A row of `schemas.shard_index`."""
    return {"id": id_, "key": sample_key(id_), "shard": shard, "offset": offset, "size": size}
