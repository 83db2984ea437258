"""List the input, check it as far as footers and ids tell, and write the manifest."""

import os
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from dedup_assets.errors import InputError, SettingsError, StaleError, listed, shown
from dedup_assets.progress import track
from dedup_assets.settings import Settings
from dedup_assets.stages.overlaps import refuse_links_to_output
from dedup_assets.state.groups import Group, cut_groups, regroup
from dedup_assets.state.ids import find_duplicate_ids, forget_other_ids
from dedup_assets.state.manifest import (
    Manifest,
    found_manifest,
    groups_of,
    manifest_fingerprint,
    write_manifest,
)
from dedup_assets.store import schemas
from dedup_assets.store.access import is_remote
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.inputs import InputFile, InputFiles
from dedup_assets.store.local import refuse_outside
from dedup_assets.store.media import refuse_missing_folder
from dedup_assets.store.processed import FAILED
from dedup_assets.store.source import open_source
from dedup_assets.store.split import PARQUET_SUFFIX


def input_files(settings: Settings) -> InputFiles:
    """The input, opened.

    Raises:
        InputError: it cannot be told what of it to read.
    """
    if settings.begins_with_videos:
        source = open_source(settings.input_path, settings.input_access)
        if not any(name.endswith(PARQUET_SUFFIX) for name in source.entries().folders):
            raise InputError(
                f"{source.url()} holds no embeddings: no video has been split, or none could be; "
                f"materialize clips and clip_embeddings, and look at {FAILED} there"
            )
    return InputFiles(
        settings.input_path,
        settings.source.id_field,
        settings.source.embedding_field,
        settings.carried_columns,
        settings.input_access,
        settings.source.input_filetype,
    )


def input_digest(settings: Settings) -> str:
    """A text that changes when a file comes, goes or is written; only the listing is read.

    Raises:
        InputError: there are no files, or it cannot be told what to read.
    """
    files = input_files(settings)
    files.names()
    if files.single is not None:
        return fingerprint("input", files.single, files.store.version(files.single))
    return fingerprint("input", sorted(files.store.list_versions("").items()))


def clips_folder(settings: Settings, manifest: Manifest) -> str | None:
    """Where the clips are: as configured, or beside the embeddings of a split pipeline's output."""
    return manifest.clips if settings.source.clips_path is None else settings.source.clips_path


def survey_embeddings(settings: Settings) -> Manifest:
    """What the input is, from its listing, footers and first rows; nothing is written.

    Raises:
        InputError: no files or rows, a missing column, or files that disagree.
    """
    files = input_files(settings)
    names = files.names()
    with track("reading footers", len(names), "files") as advance:
        probed = []
        for name in names:
            probed.append(files.probe(name))
            advance(1)
    if sum(file.rows for file in probed) == 0 and settings.begins_with_videos:
        raise InputError(
            f"{files.store.url()} holds no clip: no video is long enough; lower "
            "fixed_stride_min_clip_length_s or transnetv2_min_length_s"
        )
    if sum(file.rows for file in probed) == 0:
        raise InputError(f"{files.store.url()} holds no rows in {len(names)} files; nothing to do")
    reference = _agree(probed, settings)
    _check_rank_columns(reference, settings)
    dim = _dimension(probed, settings)
    return Manifest(
        [
            {"file": f.name, "rows": f.rows, "bytes": f.bytes, "fingerprint": f.fingerprint}
            for f in probed
        ],
        dim,
        reference.id_type,
        reference.metadata,
        manifest_fingerprint(settings, dim, [f.fingerprint for f in probed]),
        None if files.clips is None else open_source(files.clips, settings.input_access).url(),
    )


def list_embeddings(settings: Settings, store: Store) -> Manifest:
    """Check the input and write its manifest.

    Raises:
        InputError: no files or rows, a missing column, files that disagree, a repeated id, or
            more clusters than rows.
        SettingsError: a column named as the cluster folders.
    """
    files = input_files(settings)
    refuse_links_to_output(settings, files.store)
    _check_clips(settings, files.clips)
    column = store.layout.cluster_column
    if column in settings.carried_columns:
        raise SettingsError(
            f"metadata_fields cannot hold {shown(column)}: readers of the output make a column of "
            f"that name from its folders {column}=0, ...; name yours otherwise in the input"
        )
    manifest = survey_embeddings(settings)
    if settings.clustering.n_clusters > manifest.rows:
        raise InputError(
            f"n_clusters={settings.clustering.n_clusters} must be at most the number of rows, and "
            f"{files.store.url()} has {manifest.rows}; lower n_clusters"
        )
    manifest = replace(manifest, group_of=_groups(settings, manifest, found_manifest(store)))
    groups = groups_of(settings, manifest)
    _refuse_duplicate_ids(files, store, groups, settings)
    write_manifest(store, manifest, settings.dataset, files.store.url())
    forget_other_ids(store, groups)
    return manifest


@dataclass(frozen=True)
class Delivery:
    """How an input differs from what it was; a changed file is one that went and one that came."""

    files_added: int
    files_removed: int
    rows_added: int
    rows_removed: int
    bytes_added: int


def delivery(before: Manifest | None, after: Manifest) -> Delivery:
    """What came and went between two manifests."""
    sides = ([] if before is None else before.files, after.files)
    old, new = ({(file["file"], file["fingerprint"]): file for file in files} for files in sides)
    added = [new[key] for key in new.keys() - old.keys()]
    removed = [old[key] for key in old.keys() - new.keys()]
    return Delivery(
        len(added),
        len(removed),
        sum(file["rows"] for file in added),
        sum(file["rows"] for file in removed),
        sum(file["bytes"] for file in added),
    )


def _groups(settings: Settings, manifest: Manifest, before: Manifest | None) -> list[int]:
    """The group of each file; those of the last manifest stay."""
    earlier = {}
    if before is not None:
        numbers = before.group_of or cut_groups(settings, before.files)
        earlier = {
            file["file"]: (file["fingerprint"], number)
            for file, number in zip(before.files, numbers, strict=True)
        }
    return regroup(settings, manifest.files, earlier)


def check_unchanged(files: InputFiles, file: dict[str, Any]) -> None:
    """Refuse a file that is not the one the manifest lists.

    Raises:
        StaleError: it changed, or is gone.
    """
    try:
        now = files.fingerprint(file["file"])
    except FileNotFoundError:
        now = None
    if now != file["fingerprint"]:
        what = "is gone" if now is None else "changed"
        raise StaleError(
            f"{file['file']} {what} since embeddings was materialized; materialize embeddings again"
        )


def _check_clips(settings: Settings, found: str | None) -> None:
    """Refuse a clips folder now, rather than after hours.

    Args:
        settings: they may name one.
        found: the one of a split pipeline's output, if the input is one.
    """
    clips = found if settings.source.clips_path is None else settings.source.clips_path
    if clips is None:
        return
    if (
        settings.source.clips_path is None
        and not is_remote(clips)
        and not settings.source.allow_links
    ):
        root = settings.input_path
        refuse_outside(clips, os.path.realpath(clips), root)
    source = open_source(clips, settings.input_access, allow_links=settings.source.allow_links)
    refuse_missing_folder(source)
    refuse_links_to_output(settings, source)


def _agree(probed: list[InputFile], settings: Settings) -> InputFile:
    """The first file, after checking that all others have its id and metadata types."""
    reference = probed[0]
    for file in probed[1:]:
        if file.id_type != reference.id_type:
            raise InputError(
                f"id column {shown(settings.source.id_field)} is {reference.id_type} in "
                f"{reference.name} and {file.id_type} in {file.name}; write all files with one type"
            )
        for ours, theirs in zip(reference.metadata, file.metadata, strict=True):
            if ours.type != theirs.type:
                raise InputError(
                    f"column {shown(ours.name)} is {ours.type} in {reference.name} and "
                    f"{theirs.type} in {file.name}; write all files with one type"
                )
    return reference


def _check_rank_columns(file: InputFile, settings: Settings) -> None:
    for spec in settings.ranking.rank_by:
        name = spec.rpartition(":")[0]
        if name in (settings.source.embedding_field, schemas.EMBEDDING):
            raise InputError(f"rank_by cannot take {shown(name)}: an embedding has no order")
        if name not in file.metadata.names:
            continue
        type_ = file.metadata.field(name).type
        if pa.types.is_nested(type_) or pa.types.is_null(type_):
            raise InputError(
                f"rank_by cannot take {shown(name)}: it has type {type_}, which has no order; name "
                "a column of numbers, text or times"
            )


def _dimension(probed: list[InputFile], settings: Settings) -> int:
    found: Counter[int] = Counter()
    for file in probed:
        if file.dim:
            found[file.dim] += file.rows
    if settings.source.embedding_dim is not None:
        expected, where = settings.source.embedding_dim, "embedding_dim says"
    elif found:
        expected = found.most_common(1)[0][0]
        where = "most rows have"
    else:
        raise InputError(
            f"no first rows of {probed[0].name} hold an embedding; set embedding_dim if others do"
        )
    odd = next((f for f in probed if f.dim not in (None, expected)), None)
    if odd is not None and settings.source.on_invalid == "fail":
        raise InputError(
            f"embeddings of {odd.name} have {odd.dim} numbers, {where} {expected}; embed all "
            "clips with one model, or set on_invalid to quarantine"
        )
    if odd is not None and all(f.dim != expected for f in probed):
        raise InputError(
            f"no file has embeddings of {expected} numbers; {odd.name} has {odd.dim}: "
            "set embedding_dim to that"
        )
    return expected


def _refuse_duplicate_ids(
    files: InputFiles, store: Store, groups: list[Group], settings: Settings
) -> None:
    count, examples = find_duplicate_ids(files, store, groups, settings.compute.memory_budget)
    if count:
        first, places = next(iter(examples.items()))
        named = listed(repr(key) for key in examples)
        raise InputError(
            f"ids must be unique, and {count} occur more than once: {named} ({shown(first)} in "
            f"{' and '.join(places[:3])}); removal by id would lose every copy: make them unique"
        )
