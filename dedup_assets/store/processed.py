"""Where a split pipeline keeps clips, what is known of them, and which videos are done.

What there is of a video is told by names alone: a record is named after the video's path and what
it was made from, so the plan of a run opens no file.
"""

import re
from dataclasses import dataclass

import pyarrow as pa

from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import digest, fingerprint

CLIPS = "clips"
METAS = "metas/v0"
RECORDS = "processed_videos"
VIDEOS = f"{RECORDS}/videos.parquet"
FAILED = "failed_videos.parquet"
KEYS = 16
ALL_KEYS = range(KEYS)
KEY_NAMES = {f"{key:02d}": key for key in ALL_KEYS}
"""The partitions by the names of their partition keys."""

_RECORD = re.compile(r"([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]+)\.(parquet|json)")


@dataclass(frozen=True)
class Record:
    """What is done of one video.

    Attributes:
        video: digest of its path or URL, which ids of its clips are made from too.
        made_from: digest of its version and of how it was split and embedded.
        model: digest of what its clips were embedded with.
        failed: whether it could not be split; the record is a JSON document with the reason.
    """

    video: str
    made_from: str
    model: str
    failed: bool = False

    @property
    def name(self) -> str:
        suffix = "json" if self.failed else "parquet"
        return f"{RECORDS}/{self.video}-{self.made_from}-{self.model}.{suffix}"

    @property
    def key(self) -> int:
        """The partition of the video, 0 to `KEYS` - 1."""
        return int(self.video[0], KEYS)

    @classmethod
    def parse(cls, name: str) -> "Record | None":
        """The record of a name below `RECORDS`; None for a file that is none."""
        found = _RECORD.fullmatch(name)
        return found and cls(found[1], found[2], found[3], found[4] == "json")


def record_of(url: str, version: str, how: str, model: str) -> Record:
    """The record that a video is to have: its path or URL, version, and how it becomes clips."""
    return Record(digest(url.encode()), fingerprint(version, how), model)


def records(store: Store) -> set[Record]:
    """The records that there are."""
    return set(filter(None, map(Record.parse, store.list(RECORDS))))


def clip(id_: str) -> str:
    return f"{CLIPS}/{id_}.mp4"


def meta(id_: str) -> str:
    return f"{METAS}/{id_}.json"


def part(folder: str, key: int) -> str:
    """The embeddings of the videos of a partition."""
    return f"{folder}/part-{key:05d}.parquet"


CLIP = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.field("element", pa.float32(), nullable=False))),
        pa.field("source_video", pa.string(), nullable=False),
        pa.field("span_start", pa.float64(), nullable=False),
        pa.field("span_end", pa.float64(), nullable=False),
        pa.field("duration", pa.float64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("resolution", pa.int64(), nullable=False),
        pa.field("bit_rate", pa.int64(), nullable=False),
    ]
)
"""Of a clip: ``duration`` in seconds; size, resolution (in pixels) and bit rate are those of the
source video."""

VIDEO = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
    ]
)
"""Of a video: its path below the folder, and a text that changes when the file does."""

FAILURE = pa.schema(
    [
        pa.field("source_video", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)
