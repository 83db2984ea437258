"""Videos into clips with their embeddings: which are to be done, each in turn, and what is gone."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from shutil import copyfileobj
from typing import Any

import numpy as np
import pyarrow as pa

from dedup_assets.compute.threads import in_order, thread_count
from dedup_assets.engine import Common, Engine, run_tasks
from dedup_assets.errors import InputError
from dedup_assets.progress import Advance, track
from dedup_assets.settings.videos import Videos
from dedup_assets.store import processed
from dedup_assets.store.access import Access
from dedup_assets.store.arrow import vectors_to_column
from dedup_assets.store.filesystem import Store, size_of
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.processed import Record, record_of
from dedup_assets.store.split import PARQUET_SUFFIX
from dedup_assets.store.tables import read_info, read_table, write_table
from dedup_assets.video.apart import Splitter
from dedup_assets.video.cut import Clip, SplitVideo
from dedup_assets.video.embed import Embedder
from dedup_assets.video.errors import ClipError
from dedup_assets.video.ids import clip_id

VERSION = 1
VIDEOS = (".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm", ".wmv")


@dataclass(frozen=True)
class Video:
    """A video to be split: its path below the folder, its bytes, and the record to be written."""

    name: str
    bytes: int
    record: Record


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        videos: all that there are.
        todo: those that are new, changed, were split in another way or have failed, the largest
            first.
        gone: records of videos that are gone, or are replaced by those of `todo`.
    """

    videos: int
    todo: list[Video]
    gone: list[Record]


@dataclass(frozen=True)
class Outcome:
    """What came of a video: how many clips, or the reason why there are none."""

    video: str
    clips: int
    reason: str | None


@dataclass(frozen=True)
class Done:
    """What a run did.

    Attributes:
        videos: all that there are; ``split``: how many of them were split now.
        clips: of all videos.
        failed: reasons by video, of all that could not be split.
    """

    videos: int
    split: int
    clips: int
    failed: dict[str, str]


@dataclass(frozen=True)
class Splitting(Common):
    """What the tasks have in common."""

    videos: Videos
    reading: Access
    writing: Access
    device: str

    @cached_property
    def source(self) -> Store:
        assert self.videos.video_dir is not None
        return Store(self.videos.video_dir, self.reading)

    @cached_property
    def store(self) -> Store:
        assert self.videos.output_clip_path is not None
        return Store(self.videos.output_clip_path, self.writing)

    @cached_property
    def embedder(self) -> Embedder:
        return self.videos.embedder(self.device)


def plan(common: Splitting, limit: int | None = None) -> Plan:
    """Compare the videos that there are with the records; at most ``limit`` are to be done.

    Raises:
        InputError: there is no video.
    """
    versions = {
        name: version
        for name, version in common.source.list_versions("").items()
        if name.lower().endswith(VIDEOS)
    }
    if not versions:
        raise InputError(
            f"{common.source.url()} holds no video ({', '.join(VIDEOS)}); set video_dir"
        )
    how = _how(common.videos)
    expected = {name: record_of(name, version, VERSION, how) for name, version in versions.items()}
    found = _records(common.store)
    todo = [
        Video(name, size_of(versions[name]), record)
        for name, record in sorted(expected.items())
        if record not in found
    ]
    chosen, later = todo[:limit], {video.record.video for video in todo[len(todo[:limit]) :]}
    # What a later run is to replace stays until then.
    current = set(expected.values())
    gone = {
        record
        for record in found
        if record.video not in later and replace(record, failed=False) not in current
    }
    return Plan(
        len(versions),
        sorted(chosen, key=lambda video: (-video.bytes, video.name)),
        sorted(gone, key=lambda record: record.name),
    )


def split(common: Splitting, engine: Engine, planned: Plan) -> Done:
    """Split and embed what is planned, delete what videos that are gone left, list failures.

    Of each video the clips are written first and its record last, so a run that was stopped goes
    on with the next video.
    """
    failed = 0
    with track("splitting videos", len(planned.todo), "videos") as advance:
        for outcomes in run_tasks(
            engine, _split, common, planned.todo, advance, weight=lambda video: 1
        ):
            failed += sum(outcome.reason is not None for outcome in outcomes)
    gone = set(planned.gone)
    records = _records(common.store) - gone
    # A video that failed in one run and succeeded in a later one has two.
    outdated = {r for r in records if r.failed and replace(r, failed=False) in records}
    records, gone = records - outdated, gone | outdated
    clips = 0
    for key in range(processed.KEYS):
        own, left = ({r for r in of if r.key == key} for of in (records, gone))
        clips += _collect(common, key, [record for record in own if not record.failed])
        _delete(common, key, left)
    _delete_other_embeddings(common)
    failures = _list_failures(common.store, [record for record in records if record.failed])
    return Done(planned.videos, len(planned.todo) - failed, clips, failures)


def _records(store: Store) -> set[Record]:
    return set(filter(None, map(Record.parse, store.list(processed.RECORDS))))


def _how(videos: Videos) -> dict[str, Any]:
    """The settings that decide what is made of a video."""
    places = {"video_dir", "output_clip_path"}
    return videos.model_dump(mode="json", exclude=places | {"trust_remote_code"})


def _split(common: Splitting, tasks: Iterable[Video], advance: Advance) -> Iterator[Outcome]:
    threads = thread_count()
    with Splitter(threads) as splitter:
        for outcome in in_order(
            lambda video: _one(common, splitter, video), tasks, threads, 2 * threads
        ):
            advance(1)
            yield outcome


def _one(common: Splitting, splitter: Splitter, video: Video) -> Outcome:
    store, embedder = common.store, common.embedder
    cutting = common.videos.cutting(embedder)
    with tempfile.TemporaryDirectory(prefix="dedup-assets-clips-") as scratch:
        with _on_disk(common.source, video.name, Path(scratch)) as path:
            try:
                made = splitter.split(path, Path(scratch) / "clips", cutting)
            except ClipError as error:
                reason = str(error).replace(str(path), common.source.url(video.name))
                failed = Record(video.record.video, video.record.made_from, failed=True)
                document = {"source_video": video.name, "reason": reason}
                store.write_bytes(failed.name, json.dumps(document).encode())
                return Outcome(video.name, 0, reason)
        url = common.source.url(video.name)
        ids = [_id(common.videos, url, made, clip) for clip in made.clips]
        vectors = embedder.embed([clip.prepared for clip in made.clips])
        for id_, clip in zip(ids, made.clips, strict=True):
            _write_clip(common, id_, clip, made, url)
        rows = _rows(ids, vectors, made, url)
        write_table(store, video.record.name, rows, {"source_video": video.name})
    return Outcome(video.name, len(ids), None)


def _id(videos: Videos, url: str, made: SplitVideo, clip: Clip) -> str:
    return clip_id(videos.clip_id_recipe, url, clip.span, made.source.fps)


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
        "bit_rate": [source.bit_rate] * count,
    }
    return pa.table(columns, schema=processed.CLIP)


def _collect(common: Splitting, key: int, records: list[Record]) -> int:
    """Write the embeddings of a partition, unless they are current. Returns how many there are."""
    store, name = common.store, processed.part(common.videos.folder, key)
    if not records:
        store.delete(name)
        return 0
    own = sorted(record.name for record in records)
    made_from = fingerprint(VERSION, own)
    info = read_info(store, name) or {}
    if info.get("fingerprint") != made_from:
        tables = list(store.map(lambda record: read_table(store, record), own))
        rows = pa.concat_tables(tables).sort_by("id")
        info = {"fingerprint": made_from, "rows": rows.num_rows}
        write_table(store, name, rows, info)
    return int(info["rows"])


def _delete(common: Splitting, key: int, gone: set[Record]) -> None:
    """Delete records of a partition, each after the clips that it alone names."""
    if not gone:
        return
    store, name = common.store, processed.part(common.videos.folder, key)
    kept = set(read_table(store, name, ["id"])["id"].to_pylist()) if store.exists(name) else set()
    for record in sorted(gone, key=lambda record: record.name):
        if not record.failed:
            for id_ in read_table(store, record.name, ["id"])["id"].to_pylist():
                if id_ not in kept:
                    store.delete(processed.clip(id_))
                    store.delete(processed.meta(id_))
        store.delete(record.name)


def _delete_other_embeddings(common: Splitting) -> None:
    """Delete what an earlier run embedded with another model: its records are replaced by now.

    A folder of embeddings of two models is no input of `run`. What others wrote there stays.
    """
    store = common.store
    for folder in store.entries().folders:
        if not folder.endswith(PARQUET_SUFFIX) or folder == common.videos.folder:
            continue
        for key in range(processed.KEYS):
            name = processed.part(folder, key)
            if "fingerprint" in (read_info(store, name) or {}):
                store.delete(name)


def _list_failures(store: Store, records: list[Record]) -> dict[str, str]:
    """Write what could not be split, or delete the list where there is nothing to list.

    Returns the reasons by video.
    """
    documents = [json.loads(store.read_bytes(record.name)) for record in records]
    failures = {d["source_video"]: d["reason"] for d in documents}
    if not failures:
        store.delete(processed.FAILED)
        return failures
    columns = {"source_video": sorted(failures), "reason": [failures[v] for v in sorted(failures)]}
    write_table(store, processed.FAILED, pa.table(columns, schema=processed.FAILURE), {})
    return failures
