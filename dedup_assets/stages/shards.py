"""Write the kept clips: WebDataset tars or plain files, and last the index that names them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from dedup_assets.engine import run_tasks
from dedup_assets.errors import InputError
from dedup_assets.progress import track
from dedup_assets.settings import Settings
from dedup_assets.stages.duplicates import require_duplicates
from dedup_assets.stages.embeddings import clips_folder
from dedup_assets.stages.kept import Kept, read_kept
from dedup_assets.stages.machine import engine_of
from dedup_assets.stages.records import json_values
from dedup_assets.stages.replacing import kind_of, refuse_loss
from dedup_assets.stages.samples import Packing, Sample, pack, parts
from dedup_assets.state.manifest import Manifest
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store, size_of
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.media import MediaFiles
from dedup_assets.store.members import (
    keys_of_others,
    refuse_shared_keys,
    sample_key,
    sample_keys,
    shown_some,
)
from dedup_assets.store.tables import read_info, read_table, to_frame, to_table, write_table

VERSION = 1
_CLIPS_AT_ONCE = 4096


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
        return (
            to_frame(self.index.select(["shard"]))["shard"].drop_nulls().unique().sort().to_list()
        )

    @property
    def bytes(self) -> int:
        return int(to_frame(self.index.select(["size"]))["size"].sum())


def write_shards(snapshot: Snapshot, eps: str, *, replace_shards: bool = False) -> Curated:
    """Write the kept clips at ``eps``; nothing if what is there is current.

    Raises:
        StaleError: the duplicates at this eps are missing or stale.
        InputError: a kept clip has no media file (unless skipped), or one that cannot be in its
            sample; or it would lose media that an earlier run wrote.
        SettingsError: the kind of export would change; neither with ``replace_shards``.
    """
    settings, store, manifest = snapshot.settings, snapshot.store, snapshot.manifest
    listed = require_duplicates(snapshot, eps)
    clips = clips_folder(settings, manifest)
    media = _media(settings, clips)
    kept = read_kept(snapshot, eps, media=media is not None)
    refuse_shared_keys(kept.ids)
    clip_files = None if media is None else _ClipFiles(media, kept)
    missing, files = (kept.ids.clear(), None) if clip_files is None else clip_files.look_up()
    _refuse_missing(settings, kept, media, missing)
    set_digest = _set_fingerprint(settings, listed, files)
    index_name = layout.shard_index(eps)
    info = {
        "fingerprint": set_digest,
        "eps": eps,
        "made_from": _made_from(settings, listed, media),
        "missing": len(missing),
    }
    before = read_info(store, index_name) or {}
    if before.get("fingerprint") == set_digest:
        index = read_table(store, index_name)
        current = Curated(eps, index, len(kept.ids), len(missing), set_digest, True, clips)
        if _lost(store, eps, index) == 0:
            _restore_missing(store, manifest, current, missing)
            _delete_other_sets(store, eps, set_digest)
            if before != info:  # files of other clips came or went
                write_table(store, index_name, index, info)
            return current
    if not replace_shards:
        kind = kind_of(None if media is None else settings.shards.export)
        refuse_loss(store, eps, kind, missing, clips)
    schema = schemas.shard_index(manifest.id_type)
    if clip_files is None:
        index = _index_of_ids(kept.ids, schema)
    else:
        assert clips is not None
        common = Packing(
            *(settings, eps, set_digest, clips, manifest.id_type), clip_files.media.store
        )
        written: dict[int, pa.Table] = {}
        with track(f"writing clips at eps {eps}", len(kept.ids) - len(missing), "clips") as advance:
            for finished in run_tasks(
                engine_of(settings),
                pack,
                common,
                parts(settings, clip_files.samples()),
                advance,
                weight=lambda part: len(part.samples),
                computes=False,
            ):
                written.update(finished)
        index = pa.concat_tables([schema.empty_table(), *(written[n] for n in sorted(written))])
    _write_missing(store, manifest, eps, missing, set_digest)
    write_table(store, index_name, index, info)
    _delete_other_sets(store, eps, set_digest)
    return Curated(eps, index, len(kept.ids), len(missing), set_digest, False, clips)


def shards_lacking(snapshot: Snapshot, eps: str) -> str:
    """Why the kept clips at ``eps`` have to be looked at; empty if they are written and whole.

    Raises:
        StaleError: the duplicates at this eps are missing or stale.
    """
    settings, store = snapshot.settings, snapshot.store
    listed = require_duplicates(snapshot, eps)
    info = read_info(store, layout.shard_index(eps))
    if info is None:
        return "not written yet"
    clips = clips_folder(settings, snapshot.manifest)
    media = _media(settings, clips)
    if info.get("made_from") != _made_from(settings, listed, media):
        return "made from other lists, clips or settings"
    index = read_table(store, layout.shard_index(eps), ["key", "shard", "offset", "size"])
    if lost := _lost(store, eps, index):
        parts = "shards" if settings.shards.export == "shards" else "samples"
        return f"{lost} of its {parts} are lost"
    expected = _missing_info(info["fingerprint"], eps) if info.get("missing") else None
    if read_info(store, layout.missing_media(eps)) != expected:
        return "its list of missing media is not of this set"
    others = any(True for _ in _other_sets(store, eps, info["fingerprint"]))
    return "files of other sets are to be deleted" if others else ""


def _media(settings: Settings, clips: str | None) -> MediaFiles | None:
    if clips is None:
        return None
    return MediaFiles(clips, settings.input_access, allow_links=settings.source.allow_links)


def _made_from(settings: Settings, listed: str, media: MediaFiles | None) -> str:
    """Digest of all that can change the set; unlike its fingerprint it needs no look at the ids."""
    files = sorted(media.versions.items()) if media is not None else None
    return _set_fingerprint(settings, listed, files)


def _lost(store: Store, eps: str, index: pa.Table) -> int:
    """How many tars, or plain samples, of an index are absent or cut."""
    listed = store.list_versions(layout.shards(eps))
    sizes = pl.DataFrame(
        {"name": list(listed), "bytes": list(map(size_of, listed.values()))},
        {"name": pl.String, "bytes": pl.Int64},
    )
    placed = to_frame(index).filter(pl.col("shard").is_not_null())
    tars = placed.filter(pl.col("offset").is_not_null())
    ends = tars.group_by("shard").agg(end=(pl.col("offset") + pl.col("size")).max())
    found = ends.join(sizes, left_on="shard", right_on="name", how="left")
    lost = found.filter(pl.col("bytes").fill_null(-1) < pl.col("end")).height
    folder, file = (pl.col("name").str.extract(rule) for rule in (r"^(.*)/", r"([^/.]*)[^/]*$"))
    samples = sizes.group_by(shard=folder, key=file).agg(pl.col("bytes").sum())
    plain = placed.filter(pl.col("offset").is_null())
    found = plain.join(samples, on=["shard", "key"], how="left")
    return lost + found.filter(pl.col("bytes").fill_null(0) != pl.col("size")).height


def _refuse_missing(
    settings: Settings, kept: Kept, media: MediaFiles | None, missing: pl.Series
) -> None:
    """Refuse kept clips without media, unless they are to be skipped.

    Raises:
        InputError: there are some.
    """
    if media is not None and len(missing) and settings.shards.missing_media == "fail":
        raise InputError(
            f"{len(missing)} of {len(kept.ids)} kept clips have no media file below "
            f"{media.store.url()}: {shown_some(missing)}; add the files, or set missing_media to "
            "skip"
        )


class _ClipFiles:
    """The media of the kept clips, looked up some clips at a time: there may be very many."""

    def __init__(self, media: MediaFiles, kept: Kept) -> None:
        self.media, self._kept = media, kept
        self._shared = keys_of_others(kept.unusual)

    def look_up(self) -> tuple[pl.Series, list[tuple[str, str]]]:
        """The kept ids without media, and all files that belong to one, with their versions."""
        ids, versions = self._kept.ids, self.media.versions
        without = [ids.clear()]
        files: list[tuple[str, str]] = []
        for start in range(0, len(ids), _CLIPS_AT_ONCE):
            part = ids.slice(start, _CLIPS_AT_ONCE)
            found = self.media.match(part, self._shared).values()
            without.append(part.filter([not any(members.values()) for members in found]))
            names = (name for members in found for name in members.values() if name)
            files += ((name, versions[name]) for name in names)
        return pl.concat(without), sorted(files)

    def samples(self) -> Iterator[Sample]:
        """The kept clips that have media."""
        rows, carried = self._kept.rows, self._kept.carried
        for start in range(0, len(rows), _CLIPS_AT_ONCE):
            part = rows.slice(start, _CLIPS_AT_ONCE)
            found = self.media.match(part[schemas.ID], self._shared)
            columns = {
                name: json_values(carried[name].slice(start, _CLIPS_AT_ONCE))
                for name in carried.column_names
            }
            folders = self._kept.folders.slice(start, _CLIPS_AT_ONCE)
            for i, (id_, cluster, score) in enumerate(part.iter_rows()):
                if not any(found[id_].values()):
                    continue
                record: dict[str, Any] = {"id": id_, "cluster": cluster, "score": score}
                if columns:
                    record["metadata"] = {name: values[i] for name, values in columns.items()}
                text = json.dumps(record, ensure_ascii=False, sort_keys=True, default=str)
                key = sample_key(id_)
                yield Sample(id_, key, found[id_], text.encode(), folders[i])


def _index_of_ids(ids: pl.Series, schema: pa.Schema) -> pa.Table:
    """The index where there is no clips folder."""
    nothing = [pl.lit(None).alias(name) for name in ("shard", "offset", "size")]
    frame = pl.DataFrame({schemas.ID: ids, "key": sample_keys(ids)}).with_columns(nothing)
    return to_table(frame, schema)


def _set_fingerprint(settings: Settings, listed: str, files: list[tuple[str, str]] | None) -> str:
    return fingerprint(
        "shards",
        VERSION,
        listed,
        settings.shards.export,
        settings.shards.samples_per_shard,
        settings.sample_columns,
        files,
        *([settings.shards.bucket_by] if settings.shards.bucket_by else []),
    )


def _write_missing(
    store: Store, manifest: Manifest, eps: str, missing: pl.Series, set_digest: str
) -> None:
    name = layout.missing_media(eps)
    if len(missing):
        table = to_table(missing.to_frame(), schemas.missing_media(manifest.id_type))
        write_table(store, name, table, _missing_info(set_digest, eps))
    else:
        store.delete(name)


def _missing_info(set_digest: str, eps: str) -> dict[str, Any]:
    return {"fingerprint": set_digest, "eps": eps}


def _restore_missing(
    store: Store, manifest: Manifest, current: Curated, missing: pl.Series
) -> None:
    """Write the list of missing media again if it is of a set whose run was stopped."""
    found = read_info(store, layout.missing_media(current.eps))
    expected = _missing_info(current.fingerprint, current.eps) if len(missing) else None
    if found != expected:
        _write_missing(store, manifest, current.eps, missing, current.fingerprint)


def _delete_other_sets(store: Store, eps: str, set_digest: str) -> None:
    """Delete the sets that the index, which is written by now, does not name."""
    for name in list(_other_sets(store, eps, set_digest)):
        store.delete(name)


def _other_sets(store: Store, eps: str, set_digest: str) -> Iterator[str]:
    """The files of all sets but one."""
    for name in store.list(layout.shards(eps)):
        if "/" in name and name.split("/")[0] != set_digest:
            yield f"{layout.shards(eps)}/{name}"
