"""The rows of a cluster in rank order."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.hashing import row_digests
from dedup_assets.compute.ranking import RankKey, rank_order
from dedup_assets.settings import Settings
from dedup_assets.state.commits import missing_fragment
from dedup_assets.state.scores import ranking
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.arrow import hash_ids
from dedup_assets.store.vectors import read_vectors


@dataclass(frozen=True)
class RankedRows:
    """The rows of a cluster in rank order.

    Attributes:
        ids: of length n.
        digests: of length n, fixed-size binary, of each row's vector.
    """

    ids: pa.Array
    digests: pa.Array


@dataclass(frozen=True)
class Digested:
    """Rows whose vectors were digested before.

    Attributes:
        groups: the file groups that they came from. Fragments are never changed, so the rows of
            these groups are still the same.
        rows: ids and digests, columns of `schemas.score_ledger`.
    """

    groups: frozenset[str]
    rows: pa.Table


def read_ranked(
    snapshot: Snapshot,
    cluster: int,
    fragments: list[dict[str, Any]],
    out: np.ndarray,
    before: Digested | None = None,
) -> RankedRows:
    """Read a cluster's rows in rank order.

    Args:
        snapshot: of the output.
        cluster: its number.
        fragments: of the cluster, as its commit lists them.
        out: of shape (n, d), float32, host; takes the vectors.
        before: rows whose digests are taken over, which saves most of the time.

    Raises:
        StaleError: a fragment is missing, or has other rows than its commit says.
    """
    manifest = snapshot.manifest
    if not fragments:
        return RankedRows(pa.array([], manifest.id_type), digest_column(out))
    vectors, tables, known = np.empty_like(out), [], np.zeros(len(out), dtype=bool)
    columns = [f.name for f in schemas.fragment(manifest.id_type, manifest.metadata)]
    columns.remove(schemas.EMBEDDING)
    start = 0
    for fragment in fragments:
        span = slice(start, start + fragment["rows"])
        tables.append(_read_fragment(snapshot, cluster, fragment, vectors[span], columns))
        known[span] = before is not None and fragment["group"] in before.groups
        start = span.stop
    table = pa.concat_tables(tables)
    by_id = pc.sort_indices(table[schemas.ID])
    table = table.take(by_id)
    order = _rank(snapshot.settings, table)
    row_of = by_id.to_numpy()[order]
    np.take(vectors, row_of, axis=0, out=out, mode="clip")
    ids = table[schemas.ID].combine_chunks().take(pa.array(order))
    return RankedRows(ids, _digests(ids, out, known[row_of], before))


def _digests(
    ids: pa.Array, rows: np.ndarray, known: np.ndarray, before: Digested | None
) -> pa.Array:
    """The digest of each row; of those that are ``known`` it is looked up."""
    if before is None or not known.any():
        return digest_column(rows)
    found = pc.index_in(ids, value_set=before.rows[schemas.ID].combine_chunks())
    looked_up = known & found.is_valid().to_numpy(zero_copy_only=False)
    new = digest_column(rows[~looked_up])
    place = np.empty(len(ids), dtype=np.int64)
    place[~looked_up] = np.arange(len(new))
    place[looked_up] = found.filter(pa.array(looked_up)).to_numpy() + len(new)
    old = before.rows[schemas.DIGEST].combine_chunks()
    return pa.concat_arrays([new, old]).take(pa.array(place))


def digest_column(rows: np.ndarray) -> pa.Array:
    """A digest of each row of ``rows``, of shape (n, d), float32, host."""
    data = np.ascontiguousarray(row_digests(rows, schemas.DIGEST_BYTES))
    return pa.Array.from_buffers(
        pa.binary(schemas.DIGEST_BYTES), len(rows), [None, pa.py_buffer(data)]
    )


def _read_fragment(
    snapshot: Snapshot, cluster: int, fragment: dict[str, Any], out: np.ndarray, columns: list[str]
) -> pa.Table:
    path = layout.fragment(cluster, fragment["fragment"])
    try:
        return read_vectors(snapshot.store, path, out, columns)
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
