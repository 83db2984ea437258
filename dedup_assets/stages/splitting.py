"""Videos into clips with their embeddings: which are to be done, and each in turn."""

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfileobj

import numpy as np
import pyarrow as pa

from dedup_assets.compute.threads import in_order, thread_count
from dedup_assets.engine import Engine, run_tasks
from dedup_assets.progress import Advance, track
from dedup_assets.stages.videos import Listed, Splitting, Video
from dedup_assets.store import processed
from dedup_assets.store.arrow import vectors_to_column
from dedup_assets.store.filesystem import Store
from dedup_assets.store.processed import Record
from dedup_assets.store.tables import write_table
from dedup_assets.video.apart import MEMORY, Splitter
from dedup_assets.video.cut import Clip, Prepared, SplitVideo
from dedup_assets.video.encoders import check_encoder, needs_hardware
from dedup_assets.video.errors import ClipError
from dedup_assets.video.ids import clip_id


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        todo: videos that are new, changed, were split in another way or have failed, the largest
            first.
        gone: how many videos are gone, or are replaced by those of `todo`.
    """

    todo: list[Video]
    gone: int


@dataclass(frozen=True)
class Outcome:
    """What came of a video: how many clips, or the reason why there are none."""

    video: str
    clips: int
    reason: str | None


def plan(
    common: Splitting,
    listed: Listed,
    keys: Collection[int] = processed.ALL_KEYS,
    limit: int | None = None,
) -> Plan:
    """Compare the videos that there are with the records.

    Args:
        common: of the dataset.
        listed: the videos.
        keys: the partitions to look at.
        limit: the most that are to be done.
    """
    found = {record for record in processed.records(common.store) if record.key in keys}
    expected = [video for video in listed.videos if video.record.key in keys]
    todo = [video for video in expected if video.record not in found]
    current = {video.record.video for video in expected if video.record in found}
    gone = {record.video for record in found if not record.failed} - current
    return Plan(sorted(todo[:limit], key=lambda video: (-video.bytes, video.name)), len(gone))


def check_cutting(common: Splitting, todo: list[Video]) -> None:
    """Refuse what no video could be split with, before anything is written.

    Raises:
        ClipError: the encoder is not there.
        EmbedError: the model cannot be loaded; on other machines that is found out by their tasks.
        SceneError: what finds scenes cannot be loaded; on other machines likewise.
    """
    if not todo:
        return
    if not common.videos.copy_video:
        check_encoder(common.videos.transcode_encoder)
    if common.settings.compute.engine == "local":
        _ = common.splitting
        _ = common.embedder


def unsplit_keys(listed: Listed, records: Collection[Record]) -> dict[int, int]:
    """How many videos of each partition are new, changed or were split in another way.

    One that failed is not among them: it would fail again, unless it is asked for.
    """
    done = {(record.video, record.made_from) for record in records}
    keys = (v.record.key for v in listed.videos if (v.record.video, v.record.made_from) not in done)
    return Counter(keys)


def split(common: Splitting, engine: Engine, todo: list[Video]) -> list[Outcome]:
    """Split and embed videos; what comes of each is in its record.

    Of each video the clips are written first and its record last, so a run that was stopped goes
    on with the next video.
    """
    done: list[Outcome] = []
    with track("splitting videos", len(todo), "videos") as advance:
        for outcomes in run_tasks(engine, _split, common, todo, advance, weight=lambda video: 1):
            done += outcomes
    return done


def _split(common: Splitting, tasks: Iterable[Video], advance: Advance) -> Iterator[Outcome]:
    threads = thread_count()
    # The driver of a GPU reserves more address space than there is memory.
    on_gpu = needs_hardware(common.videos.transcode_encoder) and not common.videos.copy_video
    with Splitter(threads, memory=None if on_gpu else MEMORY) as splitter:
        # One more than there are workers: while one video is written, the next is split.
        at_once = threads + 1
        for outcome in in_order(
            lambda video: _one(common, splitter, video), tasks, at_once, 2 * at_once
        ):
            advance(1)
            yield outcome


def _one(common: Splitting, splitter: Splitter, video: Video) -> Outcome:
    store, embedder = common.store, common.embedder
    with tempfile.TemporaryDirectory(prefix="dedup-assets-clips-") as scratch:
        with _on_disk(common.source, video.name, Path(scratch)) as path:
            try:
                made = splitter.split(path, Path(scratch) / "clips", common.cutting)
            except ClipError as error:
                reason = str(error).replace(str(path), video.url)
                failed = replace(video.record, failed=True)
                document = {"source_video": video.url, "reason": reason}
                store.write_bytes(failed.name, json.dumps(document).encode())
                return Outcome(video.name, 0, reason)
        ids = [
            clip_id(common.videos.clip_id_recipe, video.url, clip.span, made.source.fps)
            for clip in made.clips
        ]
        vectors = embedder.embed(Prepared(made.clips))
        for id_, clip in zip(ids, made.clips, strict=True):
            _write_clip(common, id_, clip, made, video.url)
        rows = _rows(ids, vectors, made, video.url)
        write_table(store, video.record.name, rows, {"source_video": video.url})
    return Outcome(video.name, len(ids), None)


@contextmanager
def _on_disk(source: Store, name: str, scratch: Path) -> Iterator[Path]:
    """The path of a video: a copy, where it lies on S3."""
    if source.is_local:
        yield Path(source.path(name))
        return
    copy = scratch / f"video{Path(name).suffix}"
    with source.open(name) as remote, copy.open("wb") as local:
        copyfileobj(remote, local, 16 << 20)
    yield copy
    copy.unlink()


def _write_clip(common: Splitting, id_: str, clip: Clip, made: SplitVideo, url: str) -> None:
    store = common.store
    if common.videos.upload_clips:
        with clip.file.open("rb") as file, store.write(processed.clip(id_)) as out:
            copyfileobj(file, out, 1 << 20)
    else:
        store.delete(processed.clip(id_))  # of an earlier way to split
    document = {
        "span_uuid": id_,
        "source_video": url,
        "duration_span": [clip.span.start_s, clip.span.end_s],
        "width_source": made.source.width,
        "height_source": made.source.height,
        "framerate_source": made.source.fps,
        "bit_rate_source": made.source.bit_rate,
        "codec_source": made.source.codec,
        "clip_location": store.url(processed.clip(id_)) if common.videos.upload_clips else None,
        "width": clip.width,
        "height": clip.height,
        "framerate": clip.fps,
        "num_frames": clip.frames,
        "bit_rate": clip.bit_rate,
        "codec": clip.codec,
        "num_bytes": clip.bytes,
    }
    store.write_bytes(processed.meta(id_), json.dumps(document, indent=2).encode())


def _rows(ids: list[str], vectors: np.ndarray, made: SplitVideo, url: str) -> pa.Table:
    count, source = len(ids), made.source
    columns = {
        "id": ids,
        "embedding": vectors_to_column(vectors, processed.CLIP.field("embedding").type),
        "source_video": [url] * count,
        "span_start": [clip.span.start_s for clip in made.clips],
        "span_end": [clip.span.end_s for clip in made.clips],
        "duration": [clip.duration_s for clip in made.clips],
        "width": [source.width] * count,
        "height": [source.height] * count,
        "resolution": [source.width * source.height] * count,
        "bit_rate": [source.bit_rate] * count,
    }
    return pa.table(columns, schema=processed.CLIP)
