"""Write the kept clips: WebDataset tars or plain files, and last the index that names them."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.errors import InputError
from dedup_assets.progress import track
from dedup_assets.settings import Settings
from dedup_assets.stages.duplicates import removed_mask, require_duplicates
from dedup_assets.stages.embeddings import clips_folder
from dedup_assets.stages.samples import (
    Sample,
    file_extension,
    index_row,
    write_media,
    write_tars,
)
from dedup_assets.state.manifest import Manifest
from dedup_assets.state.scores import read_scores
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.media import MediaFiles, sample_key
from dedup_assets.store.tables import read_info, read_table, write_table

VERSION = 1
_NAMED = 10
_METADATA = "metadata."  # so that no column of the user hides one of ours


@dataclass(frozen=True)
class Curated:
    """What was written for an eps.

    Attributes:
        index: rows of `schemas.shard_index`.
        kept: kept clips, those without media included.
        missing: kept clips without media, skipped.
        reused: whether all of it was there already.
        clips: where the media came from; None: only the index was written.
    """

    eps: str
    index: pa.Table
    kept: int
    missing: int
    fingerprint: str
    reused: bool
    clips: str | None

    @property
    def shards(self) -> list[str]:
        return sorted(pc.unique(self.index["shard"].drop_null()).to_pylist())

    @property
    def bytes(self) -> int:
        return pc.sum(self.index["size"]).as_py() or 0


def write_shards(snapshot: Snapshot, eps: str) -> Curated:
    """Write the kept clips at ``eps``; nothing if what is there is current.

    Raises:
        StaleError: the duplicates at this eps are missing or stale.
        InputError: a kept clip has no media file (unless skipped), or two of one name.
    """
    settings, store, manifest = snapshot.settings, snapshot.store, snapshot.manifest
    listed = require_duplicates(snapshot, eps)
    kept = kept_rows(snapshot, eps)
    media = None
    clips = clips_folder(settings, manifest)
    if clips is not None:
        media = MediaFiles(clips, settings.input_access)
    found, missing = _match_media(settings, kept, media)
    set_print = _fingerprint(settings, listed, media, found)
    index_name = layout.shard_index(eps)
    if (read_info(store, index_name) or {}).get("fingerprint") == set_print:
        index = read_table(store, index_name)
        current = Curated(eps, index, kept.num_rows, len(missing), set_print, True, clips)
        if _is_whole(settings, store, current, found):
            _mend_missing(store, manifest, current, missing)
            _delete_other_sets(store, eps, set_print)
            return current
    if media is None:
        rows = [index_row(id_, None, None, None) for id_ in kept[schemas.ID].to_pylist()]
    else:
        samples = _samples(settings, kept, found)
        write = write_tars if settings.export == "shards" else write_media
        total = kept.num_rows - len(missing)
        with track(f"writing clips at eps {eps}", total, "clips") as advance:
            rows = []
            for row in write(settings, store, media, eps, set_print, samples):
                rows.append(row)
                advance(1)
    _write_missing(store, manifest, eps, missing, set_print)
    index = pa.Table.from_pylist(rows, schema=schemas.shard_index(manifest.id_type))
    write_table(store, index_name, index, {"fingerprint": set_print, "eps": eps})
    _delete_other_sets(store, eps, set_print)
    return Curated(eps, index, kept.num_rows, len(missing), set_print, False, clips)


def _is_whole(
    settings: Settings, store: Store, current: Curated, found: dict[Any, dict[str, str]]
) -> bool:
    there = set(store.list(layout.shards(current.eps)))
    if settings.export == "shards":
        return there.issuperset(current.shards)
    folder = layout.media_folder(current.fingerprint)
    return there.issuperset(
        f"{folder}/{sample_key(id_)}.{extension}"
        for id_, files in found.items()
        for extension in ("json", *map(file_extension, files))
    )


def kept_rows(snapshot: Snapshot, eps: str) -> pa.Table:
    """Kept clips by id: ``id, cluster, score`` (null without an earlier clip), metadata."""
    store = snapshot.store
    parts = []
    with track("reading kept clips", snapshot.rows, "rows") as advance:
        for key, ledger in snapshot.ledgers.items():
            table = read_scores(store, ledger, _COLUMNS)
            kept = _kept_of(table, eps)
            parts.append(_with_metadata(snapshot, kept, key))
            advance(table.num_rows)
    return pa.concat_tables(parts, promote_options="default").sort_by(schemas.ID)


_COLUMNS = [schemas.CLUSTER, schemas.ID, schemas.MAX_ID, schemas.SCORE]


def _kept_of(table: pa.Table, eps: str) -> pa.Table:
    rows = table.filter(pc.invert(removed_mask(table, eps)))
    first = pc.equal(rows[schemas.ID], rows[schemas.MAX_ID])
    return pa.table(
        {
            schemas.ID: rows[schemas.ID],
            schemas.CLUSTER: rows[schemas.CLUSTER],
            schemas.SCORE: pc.if_else(first, pa.scalar(None, pa.float32()), rows[schemas.SCORE]),
        }
    )


def _with_metadata(snapshot: Snapshot, table: pa.Table, key: str) -> pa.Table:
    """The kept rows of a partition key with the columns that are carried along."""
    settings, store = snapshot.settings, snapshot.store
    columns = [c for c in settings.metadata_fields if c in settings.carried_columns]
    names = [
        layout.fragment(cluster, fragment["fragment"])
        for cluster, fragments in snapshot.fragments([key]).items()
        for fragment in fragments
    ]
    if not columns or not names:
        return table
    wanted = [schemas.ID, *columns]
    source = pa.concat_tables(store.map(lambda name: read_table(store, name, wanted), names))
    source = source.take(pc.index_in(table[schemas.ID], value_set=source[schemas.ID]))
    for column in columns:
        table = table.append_column(_METADATA + column, source[column])
    return table


def _match_media(
    settings: Settings, kept: pa.Table, media: MediaFiles | None
) -> tuple[dict[Any, dict[str, str]], list[Any]]:
    """Media files of each kept id, and the ids that have none."""
    if media is None:
        return {}, []
    found = {id_: media.of(id_) for id_ in kept[schemas.ID].to_pylist()}
    missing = [id_ for id_, files in found.items() if not files]
    if missing and settings.missing_media == "fail":
        named = ", ".join(repr(id_) for id_ in missing[:_NAMED])
        raise InputError(
            f"{len(missing)} of {len(found)} kept clips have no media file below "
            f"{media.store.url()}: {named}{' ...' if len(missing) > _NAMED else ''}; add the "
            "files, or set missing_media to skip"
        )
    return {id_: files for id_, files in found.items() if files}, missing


def _fingerprint(
    settings: Settings,
    listed: str,
    media: MediaFiles | None,
    found: dict[Any, dict[str, str]],
) -> str:
    files = (
        sorted((name, media.versions[name]) for f in found.values() for name in f.values())
        if media
        else None
    )
    return fingerprint(
        "shards",
        VERSION,
        listed,
        settings.export,
        settings.samples_per_shard,
        settings.metadata_fields,
        files,
    )


def _samples(
    settings: Settings, kept: pa.Table, found: dict[Any, dict[str, str]]
) -> Iterator[Sample]:
    for batch in kept.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            media = found.get(row[schemas.ID])
            if media is None:
                continue
            record: dict[str, Any] = {
                "id": row.pop(schemas.ID),
                "cluster": row.pop(schemas.CLUSTER),
                "score": row.pop(schemas.SCORE),
            }
            if row:
                record["metadata"] = {
                    k.removeprefix(_METADATA): _json_value(v) for k, v in row.items()
                }
            text = json.dumps(record, ensure_ascii=False, sort_keys=True, default=str)
            yield Sample(record["id"], sample_key(record["id"]), media, text.encode())


def _json_value(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_json_value(v) for v in value]
    if isinstance(value, dict):
        return {k: _json_value(v) for k, v in value.items()}
    return value


def _write_missing(
    store: Store, manifest: Manifest, eps: str, missing: list[Any], set_print: str
) -> None:
    name = layout.missing_media(eps)
    if missing:
        table = pa.table({schemas.ID: missing}, schema=schemas.missing_media(manifest.id_type))
        write_table(store, name, table, {"fingerprint": set_print, "eps": eps})
    else:
        store.delete(name)


def _mend_missing(store: Store, manifest: Manifest, current: Curated, missing: list[Any]) -> None:
    """Write the list of missing media again if it is of a set whose run was stopped."""
    found = read_info(store, layout.missing_media(current.eps))
    expected = {"fingerprint": current.fingerprint, "eps": current.eps} if missing else None
    if found != expected:
        _write_missing(store, manifest, current.eps, missing, current.fingerprint)


def _delete_other_sets(store: Store, eps: str, set_print: str) -> None:
    """Delete the sets that the index, which is written by now, does not name."""
    for name in store.list(layout.shards(eps)):
        folder = name.split("/")[0] if "/" in name else None
        if folder is not None and folder != set_print:
            store.delete(f"{layout.shards(eps)}/{name}")


def shards_lacking(snapshot: Snapshot, eps: str) -> str:
    """Temporary."""
    info = read_info(snapshot.store, layout.shard_index(eps))
    return "" if info else "not written yet"
