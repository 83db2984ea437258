"""The clips that stay at an eps: all that the list of ids to remove does not name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.progress import track
from dedup_assets.stages.duplicates import removed_mask
from dedup_assets.state.commits import rejected_ids
from dedup_assets.state.scores import read_scores
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.tables import read_table

METADATA = "metadata."
"""Begins the names of the user's columns, so that none hides one of ours."""

_ODD = r"(?s)[^A-Za-z0-9_-]|^.{160}"
_COLUMNS = [schemas.CLUSTER, schemas.ID, schemas.MAX_ID, schemas.SCORE]


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


def read_kept(snapshot: Snapshot, eps: str) -> Kept:
    """Read the kept clips.

    Raises:
        StaleError: a ledger was rewritten meanwhile.
    """
    parts: list[pa.Table] = []
    others: list[Any] = []
    with track("reading kept clips", snapshot.rows, "rows") as advance:
        for key, ledger in snapshot.ledgers.items():
            table = read_scores(snapshot.store, ledger, _COLUMNS)
            removed = removed_mask(table, eps)
            kept = _described(table.filter(pc.invert(removed)))
            parts.append(_with_metadata(snapshot, kept, key))
            others += _odd(table[schemas.ID].filter(removed))
            advance(table.num_rows)
    if snapshot.settings.on_invalid == "quarantine":
        for ids in rejected_ids(snapshot.store, snapshot.groups):
            others += _odd(ids)
    rows = pa.concat_tables(parts, promote_options="default").sort_by(schemas.ID)
    return Kept(rows, others)


def _odd(ids: pa.ChunkedArray) -> Iterator[Any]:
    if pa.types.is_string(ids.type):
        yield from ids.filter(pc.match_substring_regex(ids, _ODD)).to_pylist()


def _described(rows: pa.Table) -> pa.Table:
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
        table = table.append_column(METADATA + column, source[column])
    return table
