"""The input as it was listed: files, columns, and the groups that they are shuffled in."""

import base64
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dedup_assets.errors import SettingsError, StaleError
from dedup_assets.settings import Settings
from dedup_assets.state.groups import Group, cut_groups, named_group
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.tables import info_of, read_table, write_table

FORMAT = 2
"""Version of everything that is kept as state; 1 had no groups in the manifest and no ledgers."""


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
        group_of: number of the group of each file; None: the manifest has format 1.
    """

    files: list[dict[str, Any]]
    dim: int
    id_type: pa.DataType
    metadata: pa.Schema
    fingerprint: str
    clips: str | None = None
    group_of: list[int] | None = None

    @property
    def rows(self) -> int:
        return sum(file["rows"] for file in self.files)

    @property
    def bytes(self) -> int:
        return sum(file["bytes"] for file in self.files)


def write_manifest(store: Store, manifest: Manifest, dataset: str, place: str) -> None:
    """Commit the manifest of a dataset; ``place`` is where the input lies."""
    carried = pa.schema([pa.field("id", manifest.id_type), *manifest.metadata])
    write_table(
        store,
        layout.MANIFEST,
        pa.Table.from_pylist(manifest.files, schema=schemas.MANIFEST),
        {
            "format": FORMAT,
            "fingerprint": manifest.fingerprint,
            "dim": manifest.dim,
            "columns": base64.b64encode(carried.serialize().to_pybytes()).decode(),
            "input": place,
            "clips": manifest.clips,
            "groups": manifest.group_of,
            "dataset": dataset,
        },
    )


def load_manifest(settings: Settings, store: Store) -> Manifest:
    """Read the manifest.

    Raises:
        StaleError: there is none, or it was made with other settings.
        SettingsError: a newer version of the product wrote it.
    """
    manifest = found_manifest(store)
    if manifest is None:
        raise StaleError(f"{store.url(layout.MANIFEST)} is missing; materialize embeddings first")
    prints = [file["fingerprint"] for file in manifest.files]
    if manifest.fingerprint != manifest_fingerprint(settings, manifest.dim, prints):
        raise StaleError(
            f"{store.url(layout.MANIFEST)} was made with another id_field, embedding_field or "
            "metadata_fields; materialize embeddings again"
        )
    return manifest


def found_manifest(store: Store) -> Manifest | None:
    """The manifest of whatever settings, or None if there is none.

    Raises:
        SettingsError: a newer version of the product wrote it.
    """
    try:
        table = read_table(store, layout.MANIFEST)
    except FileNotFoundError:
        return None
    info = info_of(table.schema)
    found = info.get("format", 1)
    if found > FORMAT:
        raise SettingsError(
            f"{store.url()} has state of format {found}, written by a newer dedup-assets; this "
            f"version reads up to {FORMAT}: upgrade it, or choose another output_path"
        )
    columns = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(info["columns"])))
    return Manifest(
        table.to_pylist(),
        info["dim"],
        columns.field(0).type,
        columns.remove(0),
        info["fingerprint"],
        info.get("clips"),
        info.get("groups"),
    )


def manifest_fingerprint(settings: Settings, dim: int, files: list[str]) -> str:
    """Digest of the files and of how they are read."""
    return fingerprint(
        "embeddings",
        1,
        settings.source.id_field,
        settings.source.embedding_field,
        settings.carried_columns,
        dim,
        files,
    )


def groups_of(settings: Settings, manifest: Manifest) -> list[Group]:
    """The file groups that the manifest records."""
    numbers = manifest.group_of
    if numbers is None:  # format 1 cut them anew in each step, by the rule for new files
        numbers = cut_groups(settings, manifest.files)
    files: dict[int, list[dict[str, Any]]] = {}
    for number, file in zip(numbers, manifest.files, strict=True):
        files.setdefault(number, []).append(file)
    # Rows of other columns, or of another length, are other rows.
    columns = [settings.source.id_field, settings.source.embedding_field, manifest.dim]
    return [named_group(columns, files[number]) for number in sorted(files)]
