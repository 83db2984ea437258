"""List the input, check it as far as footers and ids tell, and write the manifest."""

import base64
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dedup_assets.errors import InputError, SettingsError, StaleError, listed, shown
from dedup_assets.progress import track
from dedup_assets.settings import Settings
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.ids import find_duplicate_ids
from dedup_assets.store.inputs import InputFile, InputFiles
from dedup_assets.store.media import refuse_missing_folder
from dedup_assets.store.source import Source, open_source
from dedup_assets.store.tables import info_of, read_table, write_table


@dataclass(frozen=True)
class Manifest:
    """What the input is.

    Attributes:
        files: name, rows, bytes and fingerprint of each file, sorted by name.
        dim: length of the vectors.
        id_type: type of the ids in our files.
        metadata: fields of the carried columns.
        fingerprint: digest of the files and of how they are read.
        clips: where the clips are, if the input is the output of a split pipeline.
    """

    files: list[dict[str, Any]]
    dim: int
    id_type: pa.DataType
    metadata: pa.Schema
    fingerprint: str
    clips: str | None = None

    @property
    def rows(self) -> int:
        return sum(file["rows"] for file in self.files)

    @property
    def bytes(self) -> int:
        return sum(file["bytes"] for file in self.files)


def input_files(settings: Settings) -> InputFiles:
    """The input, opened.

    Raises:
        InputError: it cannot be told what of it to read.
    """
    return InputFiles(
        settings.input_embeddings_path,
        settings.id_field,
        settings.embedding_field,
        settings.carried_columns,
        settings.input_access,
        settings.input_filetype,
    )


def clips_folder(settings: Settings, manifest: Manifest) -> str | None:
    """Where the clips are: as configured, or beside the embeddings of a split pipeline's output."""
    return manifest.clips if settings.clips_path is None else settings.clips_path


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
        _fingerprint(settings, dim, [f.fingerprint for f in probed]),
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
    clips = files.clips if settings.clips_path is None else settings.clips_path
    if clips is not None:  # now, rather than after hours
        source = open_source(clips, settings.input_access)
        refuse_missing_folder(source)
        _refuse_inside_clips(source, store)
    _refuse_nested(files, store)
    column = store.layout.cluster_column
    if column in settings.carried_columns:
        raise SettingsError(
            f"metadata_fields cannot hold {shown(column)}: readers of the output make a column of "
            f"that name from its folders {column}=0, ...; name yours otherwise in the input"
        )
    manifest = survey_embeddings(settings)
    if settings.n_clusters > manifest.rows:
        raise InputError(
            f"n_clusters={settings.n_clusters} must be at most the number of rows, and "
            f"{files.store.url()} has {manifest.rows}; lower n_clusters"
        )
    names = [file["file"] for file in manifest.files]
    _refuse_duplicate_ids(files, names, manifest.rows, settings)
    carried = pa.schema([pa.field("id", manifest.id_type), *manifest.metadata])
    write_table(
        store,
        layout.MANIFEST,
        pa.Table.from_pylist(manifest.files, schema=schemas.MANIFEST),
        {
            "fingerprint": manifest.fingerprint,
            "dim": manifest.dim,
            "columns": base64.b64encode(carried.serialize().to_pybytes()).decode(),
            "input": files.store.url(),
            "clips": manifest.clips,
        },
    )
    return manifest


def load_manifest(settings: Settings, store: Store) -> Manifest:
    """Read the manifest.

    Raises:
        StaleError: there is none, or it was made with other settings.
    """
    try:
        table = read_table(store, layout.MANIFEST)
    except FileNotFoundError:
        raise StaleError(
            f"{store.url(layout.MANIFEST)} is missing; materialize embeddings first"
        ) from None
    info = info_of(table.schema)
    files = table.to_pylist()
    columns = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(info["columns"])))
    prints = [file["fingerprint"] for file in files]
    if info["fingerprint"] != _fingerprint(settings, info["dim"], prints):
        raise StaleError(
            f"{store.url(layout.MANIFEST)} was made with another id_field, embedding_field or "
            "metadata_fields; materialize embeddings again"
        )
    return Manifest(
        files,
        info["dim"],
        columns.field(0).type,
        columns.remove(0),
        info["fingerprint"],
        info.get("clips"),
    )


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


def _fingerprint(settings: Settings, dim: int, files: list[str]) -> str:
    return fingerprint(
        "embeddings",
        1,
        settings.id_field,
        settings.embedding_field,
        settings.carried_columns,
        dim,
        files,
    )


def _refuse_nested(files: InputFiles, store: Store) -> None:
    """What a run writes must not be taken for input by the next one."""
    output, inside = f"{store.url()}/", f"{files.store.url()}/"
    if files.single is None and (output.startswith(inside) or inside.startswith(output)):
        raise InputError(
            f"input_embeddings_path {files.store.url()} and output_path {store.url()} must lie "
            "beside each other, not one in the other; choose another output_path"
        )


def _refuse_inside_clips(clips: Source, store: Store) -> None:
    if f"{store.url()}/".startswith(f"{clips.url()}/"):
        raise InputError(
            f"output_path {store.url()} must not lie in clips_path {clips.url()}; choose "
            "another output_path"
        )


def _agree(probed: list[InputFile], settings: Settings) -> InputFile:
    """The first file, after checking that all others have its id and metadata types."""
    reference = probed[0]
    for file in probed[1:]:
        if file.id_type != reference.id_type:
            raise InputError(
                f"id column {shown(settings.id_field)} is {reference.id_type} in {reference.name} "
                f"and {file.id_type} in {file.name}; write all files with one type"
            )
        for ours, theirs in zip(reference.metadata, file.metadata, strict=True):
            if ours.type != theirs.type:
                raise InputError(
                    f"column {shown(ours.name)} is {ours.type} in {reference.name} and "
                    f"{theirs.type} in {file.name}; write all files with one type"
                )
    return reference


def _check_rank_columns(file: InputFile, settings: Settings) -> None:
    for spec in settings.rank_by:
        name = spec.rpartition(":")[0]
        if name in (settings.embedding_field, schemas.EMBEDDING):
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
    if settings.embedding_dim is not None:
        expected, where = settings.embedding_dim, "embedding_dim says"
    elif found:
        expected = found.most_common(1)[0][0]
        where = "most rows have"
    else:
        raise InputError(
            f"no first rows of {probed[0].name} hold an embedding; set embedding_dim if others do"
        )
    odd = next((f for f in probed if f.dim not in (None, expected)), None)
    if odd is not None and settings.on_invalid == "fail":
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
    files: InputFiles, names: list[str], rows: int, settings: Settings
) -> None:
    count, examples = find_duplicate_ids(files, names, rows, settings.memory_budget)
    if count:
        first, places = next(iter(examples.items()))
        named = listed(repr(key) for key in examples)
        raise InputError(
            f"ids must be unique, and {count} occur more than once: {named} ({shown(first)} in "
            f"{' and '.join(places[:3])}); removal by id would lose every copy: make them unique"
        )
