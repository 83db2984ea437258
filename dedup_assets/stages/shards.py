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
from dedup_assets.stages.commits import current_fragments
from dedup_assets.stages.duplicates import (
    current_duplicates,
    duplicates_fingerprint,
    part_fingerprint,
)
from dedup_assets.stages.embeddings import Manifest, clips_folder, load_manifest
from dedup_assets.stages.samples import (
    Sample,
    file_extension,
    index_row,
    write_media,
    write_tars,
)
from dedup_assets.stages.scores import Cluster
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.media import MediaFiles, sample_key
from dedup_assets.store.tables import read_current, read_info, read_table, write_table

VERSION = 1
_NAMED = 10
_CLUSTER = "cluster"
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


def write_shards(settings: Settings, store: Store, eps: str) -> Curated:
    """Write the kept clips at ``eps``; nothing if what is there is current.

    Raises:
        StaleError: the duplicates at this eps are missing or stale.
        InputError: a kept clip has no media file (unless skipped), or two of one name.
    """
    clusters = current_duplicates(settings, store, eps)
    manifest = load_manifest(settings, store)
    kept = kept_rows(settings, store, manifest, clusters, eps)
    media = None
    clips = clips_folder(settings, manifest)
    if clips is not None:
        media = MediaFiles(clips, settings.input_access, allow_links=settings.allow_links)
    found, missing = _match_media(settings, kept, media)
    set_print = _fingerprint(settings, clusters, eps, media, found)
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


def kept_rows(
    settings: Settings, store: Store, manifest: Manifest, clusters: list[Cluster], eps: str
) -> pa.Table:
    """Kept clips in order of id: ``id, cluster, score`` (null without an earlier clip), metadata.

    What is kept is what the list of ids to remove does not name.
    """
    fragments = current_fragments(settings, store, manifest).by_cluster
    parts = []

    def read(cluster: Cluster) -> pa.Table:
        names = [layout.fragment(cluster.number, f["fragment"]) for f in fragments[cluster.number]]
        return _with_metadata(settings, store, _kept_of(store, cluster, eps), names)

    with track("reading kept clips", len(clusters), "clusters") as advance:
        for part in store.map(read, clusters):
            parts.append(part)
            advance(1)
    return pa.concat_tables(parts, promote_options="default").sort_by(schemas.ID)


def _kept_of(store: Store, cluster: Cluster, eps: str) -> pa.Table:
    pairs = read_current(store, layout.scores(cluster.number), cluster.fingerprint)
    part = layout.unique_ids_part(eps, cluster.number)
    removed = read_current(store, part, part_fingerprint(cluster, eps), [schemas.ID])
    rows = pairs.filter(pc.invert(pc.is_in(pairs[schemas.ID], value_set=removed[schemas.ID])))
    first = pc.equal(rows[schemas.ID], rows[schemas.MAX_ID])
    return pa.table(
        {
            schemas.ID: rows[schemas.ID],
            _CLUSTER: pa.array([cluster.number] * rows.num_rows, pa.int32()),
            schemas.SCORE: pc.if_else(first, pa.scalar(None, pa.float32()), rows[schemas.SCORE]),
        }
    )


def _with_metadata(
    settings: Settings, store: Store, table: pa.Table, fragments: list[str]
) -> pa.Table:
    columns = [c for c in settings.metadata_fields if c in settings.carried_columns]
    if not columns or not fragments:
        return table
    wanted = [schemas.ID, *columns]
    source = pa.concat_tables([read_table(store, name, wanted) for name in fragments])
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
    clusters: list[Cluster],
    eps: str,
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
        duplicates_fingerprint(clusters, eps),
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
                "cluster": row.pop(_CLUSTER),
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
