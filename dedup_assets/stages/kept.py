"""The clips that stay at an eps: all that the list of ids to remove does not name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.progress import track
from dedup_assets.settings import Settings
from dedup_assets.stages.commits import current_fragments, rejected_ids
from dedup_assets.stages.duplicates import part_fingerprint
from dedup_assets.stages.embeddings import Manifest
from dedup_assets.stages.scores import Cluster
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import read_current, read_table

CLUSTER = "cluster"
METADATA = "metadata."
"""Begins the names of the user's columns, so that none hides one of ours."""

_ODD = r"(?s)[^A-Za-z0-9_-]|^.{160}"


@dataclass(frozen=True)
class Kept:
    """The kept clips of an eps.

    Attributes:
        rows: in order of id: ``id, cluster, score`` (null without an earlier clip), metadata.
        others: ids that are not kept and could own a media file that looks like one of a kept
            id: those that are not their own sample key, or are long enough to be one of another.
    """

    rows: pa.Table
    others: list[Any]

    @property
    def ids(self) -> list[Any]:
        return self.rows[schemas.ID].to_pylist()


def read_kept(
    settings: Settings, store: Store, manifest: Manifest, clusters: list[Cluster], eps: str
) -> Kept:
    """Read the kept clips.

    Raises:
        StaleError: a table was rewritten meanwhile.
    """
    fragments = current_fragments(settings, store, manifest).by_cluster

    def read(cluster: Cluster) -> tuple[pa.Table, list[Any]]:
        rows, removed = _kept_of(store, cluster, eps)
        names = [layout.fragment(cluster.number, f["fragment"]) for f in fragments[cluster.number]]
        return _with_metadata(settings, store, rows, names), list(_odd(removed))

    parts, others = [], []
    with track("reading kept clips", len(clusters), "clusters") as advance:
        for part, odd in store.map(read, clusters):
            parts.append(part)
            others += odd
            advance(1)
    if settings.on_invalid == "quarantine":
        for ids in rejected_ids(settings, store, manifest):
            others += _odd(ids)
    rows = pa.concat_tables(parts, promote_options="default").sort_by(schemas.ID)
    return Kept(rows, others)


def _odd(ids: pa.ChunkedArray) -> Iterator[Any]:
    if pa.types.is_string(ids.type):
        yield from ids.filter(pc.match_substring_regex(ids, _ODD)).to_pylist()


def _kept_of(store: Store, cluster: Cluster, eps: str) -> tuple[pa.Table, pa.ChunkedArray]:
    """The kept rows of a cluster, and the ids that are removed."""
    pairs = read_current(store, layout.scores(cluster.number), cluster.fingerprint)
    part = layout.unique_ids_part(eps, cluster.number)
    removed = read_current(store, part, part_fingerprint(cluster, eps), [schemas.ID])[schemas.ID]
    rows = pairs.filter(pc.invert(pc.is_in(pairs[schemas.ID], value_set=removed)))
    first = pc.equal(rows[schemas.ID], rows[schemas.MAX_ID])
    kept = {
        schemas.ID: rows[schemas.ID],
        CLUSTER: pa.array([cluster.number] * rows.num_rows, pa.int32()),
        schemas.SCORE: pc.if_else(first, pa.scalar(None, pa.float32()), rows[schemas.SCORE]),
    }
    return pa.table(kept), removed


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
        table = table.append_column(METADATA + column, source[column])
    return table
