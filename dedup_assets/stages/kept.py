"""The clips that stay at an eps: all that the list of ids to remove does not name."""

from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.progress import track
from dedup_assets.stages.buckets import bucket_folders
from dedup_assets.stages.duplicates import is_removed
from dedup_assets.state.commits import rejected_ids
from dedup_assets.state.scores import score_frame
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.members import is_unusual
from dedup_assets.store.tables import read_table, to_frame


@dataclass(frozen=True)
class Kept:
    """The kept clips of an eps.

    Attributes:
        rows: in order of folder and id: ``id, cluster, score`` (null without an earlier clip).
        folders: of each, the folder of its shard or file, if they are divided; else empty texts.
        carried: the columns that are carried along, row by row; in Arrow, which has all types.
        unusual: ids of the input, as text, that decide about media files of others, whether kept
            or not: see `is_unusual`.
    """

    rows: pl.DataFrame
    folders: pl.Series
    carried: pa.Table
    unusual: pl.Series

    @property
    def ids(self) -> pl.Series:
        return self.rows[schemas.ID]


def read_kept(snapshot: Snapshot, eps: str, *, media: bool) -> Kept:
    """Read the kept clips.

    Args:
        snapshot: of the output.
        eps: whose list is left out.
        media: whether their media and carried columns are wanted too.

    Raises:
        StaleError: a ledger was rewritten meanwhile.
    """
    parts: list[pl.DataFrame] = []
    carried: list[pa.Table] = []
    unusual: list[pl.Series] = []
    with track("reading kept clips", snapshot.rows, "rows") as advance:
        for key, ledger in snapshot.ledgers.items():
            scored = score_frame(snapshot.store, ledger)
            first = pl.col(schemas.ID) == pl.col(schemas.MAX_ID)
            kept = scored.filter(~is_removed(eps)).select(
                schemas.ID,
                schemas.CLUSTER,
                pl.when(~first).then(pl.col(schemas.SCORE)).alias("score"),
            )
            parts.append(kept)
            if media:
                carried.append(_carried(snapshot, kept[schemas.ID], key))
                unusual.append(_unusual(scored[schemas.ID]))
            advance(scored.height)
    if media and snapshot.settings.source.on_invalid == "quarantine":
        for ids in rejected_ids(snapshot.store, snapshot.groups):
            unusual.append(_unusual(pl.Series(pl.from_arrow(ids))))
    rows = pl.concat(parts)
    others = pa.concat_tables(carried, promote_options="default") if carried else pa.table({})
    folders = _folders(snapshot, rows, others)
    by = pl.DataFrame({"folder": folders, "id": rows[schemas.ID]})
    order = by.select(pl.arg_sort_by("folder", "id")).to_series()
    return Kept(
        rows[order],
        folders[order],
        others.take(order.to_arrow()) if others.num_columns else others,
        pl.concat(unusual) if unusual else pl.Series(dtype=pl.String),
    )


def _folders(snapshot: Snapshot, rows: pl.DataFrame, carried: pa.Table) -> pl.Series:
    """The folder of each kept clip; empty texts where they are not divided."""
    shards = snapshot.settings.shards
    if not shards.bucket_by or not carried.num_columns:
        return pl.Series([""]).new_from_index(0, rows.height)
    needed = carried.select(list(dict.fromkeys(shards.columns)))
    return bucket_folders(to_frame(needed), list(shards.bucket_by))


def _unusual(ids: pl.Series) -> pl.Series:
    return ids.filter(is_unusual(ids)).cast(pl.String)


def _carried(snapshot: Snapshot, ids: pl.Series, key: str) -> pa.Table:
    """The columns that are carried along, of some ids of a partition key."""
    settings, store = snapshot.settings, snapshot.store
    columns = settings.sample_columns
    names = [
        layout.fragment(cluster, fragment["fragment"])
        for cluster, fragments in snapshot.fragments([key]).items()
        for fragment in fragments
    ]
    if not columns or not names:
        return pa.table({})
    wanted = [schemas.ID, *columns]
    source = pa.concat_tables(store.map(lambda name: read_table(store, name, wanted), names))
    listed = ids.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(source[schemas.ID].type)
    return source.take(pc.index_in(listed, value_set=source[schemas.ID])).select(columns)
