"""The rows of a cluster in rank order."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.hashing import row_digests
from dedup_assets.compute.ranking import RankKey, rank_order
from dedup_assets.errors import StaleError
from dedup_assets.settings import Settings
from dedup_assets.state.commits import missing_fragment
from dedup_assets.state.scores import ranking
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.arrow import column_to_vectors, hash_ids
from dedup_assets.store.tables import read_table


@dataclass(frozen=True)
class RankedRows:
    """The rows of a cluster in rank order.

    Attributes:
        ids: of length n.
        digests: of length n, fixed-size binary, of each row's vector.
    """

    ids: pa.Array
    digests: pa.Array


def read_ranked(
    snapshot: Snapshot, cluster: int, fragments: list[str], out: np.ndarray
) -> RankedRows:
    """Read a cluster's rows in rank order into ``out``, of shape (n, d), float32, host.

    Raises:
        StaleError: a fragment is missing, or has other rows than its commit says.
    """
    manifest = snapshot.manifest
    if not fragments:
        return RankedRows(pa.array([], manifest.id_type), digest_column(out))
    table = pa.concat_tables([_read_fragment(snapshot, cluster, name) for name in fragments])
    if table.num_rows != len(out):
        raise StaleError(
            f"the fragments of cluster {cluster} hold {table.num_rows} rows and not the "
            f"{len(out)} that were written; materialize cluster_partitions again"
        )
    vectors = column_to_vectors(table[schemas.EMBEDDING], manifest.dim)
    table = table.drop_columns([schemas.EMBEDDING])
    by_id = pc.sort_indices(table[schemas.ID])
    table = table.take(by_id)
    order = _rank(snapshot.settings, table)
    np.take(vectors, by_id.to_numpy()[order], axis=0, out=out, mode="clip")
    ids = table[schemas.ID].combine_chunks().take(pa.array(order))
    return RankedRows(ids, digest_column(out))


def digest_column(rows: np.ndarray) -> pa.Array:
    """A digest of each row of ``rows``, of shape (n, d), float32, host."""
    data = np.ascontiguousarray(row_digests(rows, schemas.DIGEST_BYTES))
    return pa.Array.from_buffers(
        pa.binary(schemas.DIGEST_BYTES), len(rows), [None, pa.py_buffer(data)]
    )


def _read_fragment(snapshot: Snapshot, cluster: int, name: str) -> pa.Table:
    path = layout.fragment(cluster, name)
    try:
        return read_table(snapshot.store, path)
    except FileNotFoundError:
        raise missing_fragment(snapshot.store, path) from None


def _rank(settings: Settings, table: pa.Table) -> np.ndarray:
    """Rank order of the rows of a table that is sorted by id."""
    n = table.num_rows
    match ranking(settings):
        case ["columns", *specs]:
            return rank_order(n, [_rank_key(settings, table, str(spec)) for spec in specs])
        case ["random", int(seed)]:
            return rank_order(n, [RankKey(hash_ids(table[schemas.ID], seed))])
        case [keep, metric]:
            column = schemas.COSINE_DISTANCE if metric == "cosine" else schemas.L2_DISTANCE
            hard = keep == "hard"
            distances = table[column].to_numpy()
            return rank_order(n, [RankKey(distances, descending=hard)], id_descending=hard)
    raise AssertionError("ranking() returns one of the three")


def _rank_key(settings: Settings, table: pa.Table, spec: str) -> RankKey:
    name, _, direction = spec.rpartition(":")
    column = table[schemas.ID if name == settings.source.id_field else name].combine_chunks()
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    # Ordinals of Arrow's sort stand for the values, so any type that Arrow can order will do.
    if pa.types.is_floating(column.type):
        values = column.to_numpy(zero_copy_only=False)
    else:
        ordinal = pc.rank(column, sort_keys="ascending", tiebreaker="dense")
        values = ordinal.to_numpy(zero_copy_only=False).astype(np.int64)
    return RankKey(values, direction == "desc", missing)
