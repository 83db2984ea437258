"""Write the kept clips: WebDataset tars or plain files, and last the index that names them."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.errors import InputError
from dedup_assets.progress import track
from dedup_assets.settings import Settings
from dedup_assets.stages.duplicates import require_duplicates
from dedup_assets.stages.embeddings import clips_folder
from dedup_assets.stages.kept import METADATA, Kept, read_kept
from dedup_assets.stages.records import json_values
from dedup_assets.stages.replacing import kind_of, refuse_loss
from dedup_assets.stages.samples import Sample, index_row, write_media, write_tars
from dedup_assets.state.manifest import Manifest
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store, size_of
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.media import MediaFiles
from dedup_assets.store.members import Members, refuse_shared_keys, sample_key, shown_some
from dedup_assets.store.tables import read_info, read_table, write_table

VERSION = 1


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
    kept = read_kept(snapshot, eps)
    refuse_shared_keys(kept.ids)
    clips = clips_folder(settings, manifest)
    media = _media(settings, clips)
    found, missing = _match_media(settings, kept, media)
    set_print = _fingerprint(settings, listed, media, found)
    index_name = layout.shard_index(eps)
    info = {
        "fingerprint": set_print,
        "eps": eps,
        "made_from": _made_from(settings, listed, media),
        "missing": len(missing),
    }
    before = read_info(store, index_name) or {}
    if before.get("fingerprint") == set_print:
        index = read_table(store, index_name)
        current = Curated(eps, index, kept.rows.num_rows, len(missing), set_print, True, clips)
        if _lost(store, eps, index) == 0:
            _restore_missing(store, manifest, current, missing)
            _delete_other_sets(store, eps, set_print)
            if before != info:  # files of other clips came or went
                write_table(store, index_name, index, info)
            return current
    if not replace_shards:
        kind = kind_of(None if media is None else settings.export)
        refuse_loss(store, eps, kind, missing, clips)
    if media is None:
        rows = [index_row(id_, None, None, None) for id_ in kept.ids]
    else:
        samples = _samples(kept.rows, found)
        write = write_tars if settings.export == "shards" else write_media
        total = kept.rows.num_rows - len(missing)
        with track(f"writing clips at eps {eps}", total, "clips") as advance:
            rows = []
            for row in write(settings, store, media, eps, set_print, samples):
                rows.append(row)
                advance(1)
    _write_missing(store, manifest, eps, missing, set_print)
    index = pa.Table.from_pylist(rows, schema=schemas.shard_index(manifest.id_type))
    write_table(store, index_name, index, info)
    _delete_other_sets(store, eps, set_print)
    return Curated(eps, index, kept.rows.num_rows, len(missing), set_print, False, clips)


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
        return f"{lost} of its {'shards' if settings.export == 'shards' else 'samples'} are lost"
    expected = _missing_info(info["fingerprint"], eps) if info.get("missing") else None
    if read_info(store, layout.missing_media(eps)) != expected:
        return "its list of missing media is not of this set"
    others = any(True for _ in _other_sets(store, eps, info["fingerprint"]))
    return "files of other sets are to be deleted" if others else ""


def _media(settings: Settings, clips: str | None) -> MediaFiles | None:
    if clips is None:
        return None
    return MediaFiles(clips, settings.input_access, allow_links=settings.allow_links)


def _made_from(settings: Settings, listed: str, media: MediaFiles | None) -> str:
    """Digest of all that can change the set; unlike its fingerprint it needs no look at the ids."""
    files = sorted(media.versions.items()) if media is not None else None
    return _set_fingerprint(settings, listed, files)


def _lost(store: Store, eps: str, index: pa.Table) -> int:
    """How many tars, or plain samples, of an index are absent or cut."""
    sizes = {name: size_of(v) for name, v in store.list_versions(layout.shards(eps)).items()}
    index = index.filter(index["shard"].is_valid())
    in_tars = index["offset"].is_valid()
    tars = index.filter(in_tars)
    ends = pa.table({"shard": tars["shard"], "end": pc.add(tars["offset"], tars["size"])})
    ends = ends.group_by("shard").aggregate([("end", "max")])
    lost = sum(
        sizes.get(name, -1) < end
        for name, end in zip(ends["shard"].to_pylist(), ends["end_max"].to_pylist(), strict=True)
    )
    plain = index.filter(pc.invert(in_tars))
    if plain.num_rows:
        found: Counter[str] = Counter()
        for name, size in sizes.items():
            folder, _, file = name.rpartition("/")
            found[f"{folder}/{file.partition('.')[0]}"] += size
        columns = (plain[name].to_pylist() for name in ("shard", "key", "size"))
        lost += sum(
            found[f"{shard}/{key}"] != size for shard, key, size in zip(*columns, strict=True)
        )
    return lost


def _match_media(
    settings: Settings, kept: Kept, media: MediaFiles | None
) -> tuple[dict[Any, Members], list[Any]]:
    """The members of each kept id with media, and the ids that have none."""
    if media is None:
        return {}, []
    found = media.match(kept.ids, kept.others)
    missing = [id_ for id_, members in found.items() if not any(members.values())]
    if missing and settings.missing_media == "fail":
        raise InputError(
            f"{len(missing)} of {len(found)} kept clips have no media file below "
            f"{media.store.url()}: {shown_some(missing)}; add the files, or set missing_media to "
            "skip"
        )
    return {id_: members for id_, members in found.items() if any(members.values())}, missing


def _fingerprint(
    settings: Settings,
    listed: str,
    media: MediaFiles | None,
    found: dict[Any, Members],
) -> str:
    files = None
    if media is not None:
        names = (name for members in found.values() for name in members.values() if name)
        files = sorted((name, media.versions[name]) for name in names)
    return _set_fingerprint(settings, listed, files)


def _set_fingerprint(settings: Settings, listed: str, files: list[tuple[str, str]] | None) -> str:
    return fingerprint(
        "shards",
        VERSION,
        listed,
        settings.export,
        settings.samples_per_shard,
        settings.metadata_fields,
        files,
    )


def _samples(kept: pa.Table, found: dict[Any, Members]) -> Iterator[Sample]:
    metadata = [name for name in kept.column_names if name.startswith(METADATA)]
    for batch in kept.to_batches(max_chunksize=1024):
        ids, clusters, scores = (
            json_values(batch[name]) for name in (schemas.ID, schemas.CLUSTER, schemas.SCORE)
        )
        columns = {name.removeprefix(METADATA): json_values(batch[name]) for name in metadata}
        for i, id_ in enumerate(ids):
            if id_ not in found:
                continue
            record: dict[str, Any] = {"id": id_, "cluster": clusters[i], "score": scores[i]}
            if columns:
                record["metadata"] = {name: values[i] for name, values in columns.items()}
            text = json.dumps(record, ensure_ascii=False, sort_keys=True, default=str)
            yield Sample(id_, sample_key(id_), found[id_], text.encode())


def _write_missing(
    store: Store, manifest: Manifest, eps: str, missing: list[Any], set_print: str
) -> None:
    name = layout.missing_media(eps)
    if missing:
        table = pa.table({schemas.ID: missing}, schema=schemas.missing_media(manifest.id_type))
        write_table(store, name, table, _missing_info(set_print, eps))
    else:
        store.delete(name)


def _missing_info(set_print: str, eps: str) -> dict[str, Any]:
    return {"fingerprint": set_print, "eps": eps}


def _restore_missing(
    store: Store, manifest: Manifest, current: Curated, missing: list[Any]
) -> None:
    """Write the list of missing media again if it is of a set whose run was stopped."""
    found = read_info(store, layout.missing_media(current.eps))
    expected = _missing_info(current.fingerprint, current.eps) if missing else None
    if found != expected:
        _write_missing(store, manifest, current.eps, missing, current.fingerprint)


def _delete_other_sets(store: Store, eps: str, set_print: str) -> None:
    """Delete the sets that the index, which is written by now, does not name."""
    for name in list(_other_sets(store, eps, set_print)):
        store.delete(name)


def _other_sets(store: Store, eps: str, set_print: str) -> Iterator[str]:
    """The files of all sets but one."""
    for name in store.list(layout.shards(eps)):
        if "/" in name and name.split("/")[0] != set_print:
            yield f"{layout.shards(eps)}/{name}"
