"""The embeddings of the clips of each partition in one table, and the end of what is gone."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from dedup_assets.progress import track
from dedup_assets.stages.videos import VERSION, Listed, Splitting
from dedup_assets.store import processed
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.processed import Record
from dedup_assets.store.split import PARQUET_SUFFIX
from dedup_assets.store.tables import read_info, read_table, write_table


@dataclass(frozen=True)
class Part:
    """What a partition holds.

    Attributes:
        clips: their number; ``videos``: that of the videos that they are of.
        failed: how many videos could not be split.
        fingerprint: of what the table was made from.
        reused: whether it was current.
    """

    clips: int
    videos: int
    failed: int
    fingerprint: str
    reused: bool


def collect(
    common: Splitting, listed: Listed, keys: Collection[int] = processed.ALL_KEYS
) -> dict[int, Part]:
    """Write the tables of some partitions, delete what gone videos left, and list failures."""
    store = common.store
    kept, gone = sort_records(listed, processed.records(store))
    with track("collecting embeddings", len(keys), "partitions") as advance:
        parts = {}
        for key in sorted(keys):
            own = [record for record in kept if record.key == key]
            parts[key] = _collect(common, listed, key, own)
            _delete(common, own, [record for record in gone if record.key == key])
            advance(1)
    # A folder of the embeddings of two models is no input of `run`. What others wrote there stays.
    others = {record.key for record in kept if record.model != listed.model}
    for folder in store.entries().folders:
        if folder.endswith(PARQUET_SUFFIX) and folder != common.folder:
            for key in set(keys) - others:
                name = processed.part(folder, key)
                if "fingerprint" in (read_info(store, name) or {}):
                    store.delete(name)
    _list_failures(store, kept)
    return parts


def lacking_keys(common: Splitting, listed: Listed) -> list[int]:
    """The partitions whose table is missing or stale, or that hold what is to be deleted."""
    kept, gone = sort_records(listed, processed.records(common.store))
    left = {record.key for record in gone}
    lacking = []
    for key in processed.ALL_KEYS:
        names = _tables(listed, [record for record in kept if record.key == key])
        info = read_info(common.store, processed.part(common.folder, key))
        made_from = None if info is None else info.get("fingerprint")
        if key in left or made_from != (fingerprint(VERSION, names) if names else None):
            lacking.append(key)
    return lacking


def failures(store: Store, records: Iterable[Record]) -> dict[str, str]:
    """Of videos that could not be split, the reason by path."""
    names = sorted(record.name for record in records if record.failed)
    documents = [json.loads(data) for data in store.map(partial(_found, store), names) if data]
    return {document["source_video"]: document["reason"] for document in documents}


def _found(store: Store, name: str) -> bytes:
    """A record; nothing if another run has split the video meanwhile."""
    try:
        return store.read_bytes(name)
    except FileNotFoundError:
        return b""


def sort_records(listed: Listed, records: Iterable[Record]) -> tuple[list[Record], list[Record]]:
    """Records that hold, and those of videos that are gone or have been split anew.

    What a later run is to replace holds until then.
    """
    expected = {video.record.video: video.record for video in listed.videos}
    of_video = defaultdict(set)
    for record in records:
        of_video[record.video].add(record)
    kept: list[Record] = []
    for video, found in of_video.items():
        if video not in expected:
            continue
        made_from = expected[video].made_from
        of_now = sorted((r for r in found if r.made_from == made_from), key=lambda r: r.failed)
        kept += of_now[:1] or found
    held = set(kept)
    gone = [record for found in of_video.values() for record in found if record not in held]
    return sorted(kept, key=lambda r: r.name), sorted(gone, key=lambda r: r.name)


def _tables(listed: Listed, records: list[Record]) -> list[str]:
    """The records whose embeddings belong together: of one model, whatever clips they are of."""
    return sorted(r.name for r in records if not r.failed and r.model == listed.model)


def _collect(common: Splitting, listed: Listed, key: int, records: list[Record]) -> Part:
    """Write the embeddings of a partition, unless they are current."""
    store, name = common.store, processed.part(common.folder, key)
    own = _tables(listed, records)
    failed = sum(record.failed for record in records)
    made_from = fingerprint(VERSION, own)
    info = read_info(store, name) or {}
    if not own:
        store.delete(name)
        return Part(0, 0, failed, made_from, reused=not info)
    reused = info.get("fingerprint") == made_from
    if not reused:
        tables = list(store.map(lambda record: read_table(store, record), own))
        rows = pa.concat_tables(tables).sort_by("id")
        info = {"fingerprint": made_from, "rows": rows.num_rows}
        write_table(store, name, rows, info)
    return Part(int(info["rows"]), len(own), failed, made_from, reused)


def _delete(common: Splitting, held: list[Record], gone: list[Record]) -> None:
    """Delete records of a partition, each after the clips that no record that holds names.

    Ids are made from what the partition is made from, so no other partition has them.
    """
    if not gone:
        return
    store = common.store
    kept = {id_ for record in held for id_ in _ids(store, record)}
    for record in gone:
        for id_ in _ids(store, record):
            if id_ not in kept:
                store.delete(processed.clip(id_))
                store.delete(processed.meta(id_))
        store.delete(record.name)


def _ids(store: Store, record: Record) -> list[str]:
    if record.failed:
        return []
    return [str(id_) for id_ in read_table(store, record.name, ["id"])["id"].to_pylist()]


def _list_failures(store: Store, records: list[Record]) -> None:
    """Write what could not be split, or delete the list where there is nothing to list."""
    reasons = failures(store, records)
    if not reasons:
        store.delete(processed.FAILED)
        return
    columns = {"source_video": sorted(reasons), "reason": [reasons[v] for v in sorted(reasons)]}
    write_table(store, processed.FAILED, pa.table(columns, schema=processed.FAILURE), {})
