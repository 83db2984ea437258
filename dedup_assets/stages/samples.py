"""Write samples: WebDataset tars, or plain files."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from dedup_assets.engine import Common
from dedup_assets.progress import Advance
from dedup_assets.settings import Settings
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.members import Members, sample_key
from dedup_assets.store.source import Source, open_source

_AHEAD = 8
"""Clips in memory that come from a remote store; each may be large."""

_FILES_OF_A_TASK = 1000
"""Samples of a task where each is a file or a few."""


@dataclass(frozen=True)
class Sample:
    """A kept clip: its `members`, our JSON, which is one of them, and the folder it goes to."""

    id: Any
    key: str
    members: Members
    record: bytes
    folder: str = ""

    def read(self, media: Source) -> dict[str, bytes]:
        """The bytes of each member, by extension."""
        return {
            extension: self.record if file is None else media.read_bytes(file)
            for extension, file in self.members.items()
        }


@dataclass(frozen=True)
class Part:
    """Some samples that are written together, such as those of a tar.

    Attributes:
        number: of the part among all.
        tar: its number among those of its folder.
        folder: below that of the set; empty where samples are not divided.
    """

    number: int
    tar: int
    folder: str
    samples: list[Sample]


@dataclass(frozen=True)
class Packing(Common):
    """What all parts of a set have in common.

    Attributes:
        eps: of the set.
        set_digest: its fingerprint.
        clips: the folder of the media.
        id_type: of the ids.
        opened: that folder, where it is open already: in the process that plans.
    """

    settings: Settings
    eps: str
    set_digest: str
    clips: str
    id_type: pa.DataType
    opened: Source | None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"opened": None}

    @cached_property
    def media(self) -> Source:
        access, links = self.settings.input_access, self.settings.source.allow_links
        return self.opened or open_source(self.clips, access, allow_links=links)

    @cached_property
    def store(self) -> Store:
        return self.settings.storage.open_output()


def parts(settings: Settings, samples: Iterator[Sample]) -> Iterator[Part]:
    """Cut samples into what is written together."""
    tars = settings.shards.export == "shards"
    size = settings.shards.samples_per_shard if tars else _FILES_OF_A_TASK
    number = tar = 0
    part: list[Sample] = []
    for sample in samples:
        divided = bool(part) and sample.folder != part[0].folder
        if divided or len(part) == size:
            yield Part(number, tar, part[0].folder, part)
            number, tar, part = number + 1, 0 if divided else tar + 1, []
        part.append(sample)
    if part:
        yield Part(number, tar, part[0].folder, part)


def pack(
    common: Packing, tasks: Iterable[Part], advance: Advance
) -> Iterator[tuple[int, pa.Table]]:
    """Write some parts; of each its number, and its rows of `schemas.shard_index`."""
    write = _write_tars if common.settings.shards.export == "shards" else _write_media
    yield from write(common, tasks, advance)


def _write_tars(
    common: Packing, tasks: Iterable[Part], advance: Advance
) -> Iterator[tuple[int, pa.Table]]:
    import webdataset  # takes half a second to import

    begun: deque[Part] = deque()

    def samples() -> Iterator[Sample]:
        for part in tasks:
            begun.append(part)
            yield from part.samples

    def read(sample: Sample) -> tuple[Any, dict[str, Any]]:
        return sample.id, {"__key__": sample.key, **sample.read(common.media)}

    entries = common.media.map(read, samples(), ahead=_AHEAD)
    following: tuple[Any, dict[str, Any]] | None = next(entries, None)
    while following is not None:
        part = begun.popleft()
        name = layout.shard(common.set_digest, part.tar, part.folder)
        rows: list[dict[str, Any]] = []
        with common.store.write(f"{layout.shards(common.eps)}/{name}") as file:
            # Owner, mode and time are fixed, so equal content gives equal bytes; the pax format
            # because ustar refuses names beyond 100 characters. Extensions may begin with an
            # underscore, which the writer would take for its own without keep_meta.
            writer = webdataset.TarWriter(
                file, user="", group="", mode=0o644, mtime=0, encoder=False,
                keep_meta=True, format="PAX_FORMAT",
            )  # fmt: skip
            with writer:
                for _ in part.samples:
                    assert following is not None
                    id_, entry = following
                    start = writer.tarstream.offset
                    writer.write(entry)
                    rows.append(_index_row(id_, name, start, writer.tarstream.offset - start))
                    advance(1)
                    following = next(entries, None)
        yield part.number, _as_table(common, rows)


def _write_media(
    common: Packing, tasks: Iterable[Part], advance: Advance
) -> Iterator[tuple[int, pa.Table]]:
    def copy(sample: Sample) -> dict[str, Any]:
        data = sample.read(common.media)
        folder = layout.media_folder(common.set_digest, sample.folder)
        for extension, content in data.items():
            name = f"{folder}/{sample.key}.{extension}"
            common.store.write_bytes(f"{layout.shards(common.eps)}/{name}", content)
        return _index_row(sample.id, folder, None, sum(map(len, data.values())))

    either = common.store if common.media.is_local else common.media
    for part in tasks:
        rows = []
        for row in either.map(copy, part.samples, ahead=_AHEAD):
            rows.append(row)
            advance(1)
        yield part.number, _as_table(common, rows)


def _index_row(id_: Any, shard: str, offset: int | None, size: int) -> dict[str, Any]:
    return {"id": id_, "key": sample_key(id_), "shard": shard, "offset": offset, "size": size}


def _as_table(common: Packing, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schemas.shard_index(common.id_type))
