"""The pass behind `dedup_assets.stages.missed`: a sample of rows against all rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.arrays import device_array_module, resolve_device
from dedup_assets.compute.missed import BestPartners, Found
from dedup_assets.progress import track
from dedup_assets.stages.readahead import REMOTE_READERS, read_ahead
from dedup_assets.state.commits import fragment_name, missing_fragment
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.arrow import column_to_vectors, hash_ids
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import read_batches

SEED_OFFSET = 0x6D697373656421
"""Added to ``random_state``. The hash of ``random_state`` itself chose the rows that k-means was
fitted on, and these lie closer to their centroids than others do."""

_TILE_ROWS = {"numpy": 1024, "cupy": 1 << 14}
_ID_ROWS = 1 << 18
_Fragment = tuple[int, str]


def compare_sample(snapshot: Snapshot, size: int) -> pa.Table:
    """Draw ``size`` rows (or all, if fewer) and find their best partners among all rows.

    Rows of `schemas.missed`. They depend on the rows, clusters and ``random_state`` only.

    Raises:
        StaleError: a fragment is missing.
    """
    listed = _listed(snapshot)
    sample = _draw(snapshot, listed, size)
    vectors = _read_sample(snapshot, listed, sample)
    return _compare(snapshot, listed, sample, vectors)


def _listed(snapshot: Snapshot) -> list[_Fragment]:
    """Cluster and path of each fragment, clusters side by side and ascending."""
    there = set(snapshot.store.list(layout.CLUSTERS))
    listed = []
    for cluster, fragments in snapshot.fragments().items():
        for fragment in fragments:
            path = layout.fragment(cluster, fragment["fragment"])
            if fragment_name(fragment) not in there:
                raise missing_fragment(snapshot.store, path)
            listed.append((cluster, path))
    return listed


def _draw(snapshot: Snapshot, listed: list[_Fragment], size: int) -> pa.Table:
    """The ``size`` rows whose hash is lowest: ``id``, and ``fragment``, its number in ``listed``.

    In the order of fragments, hence of clusters.
    """
    settings, store = snapshot.settings, snapshot.store
    seed = settings.random_state + SEED_OFFSET
    drawn: list[pa.Table] = []
    held, limit = 0, np.uint64(2**64 - 1)
    with track("sampling", snapshot.rows, "rows") as advance:
        columns = [schemas.ID]
        budget = settings.memory_budget // 8
        for number, batches in enumerate(_read(store, listed, columns, _ID_ROWS, budget)):
            for batch in batches:
                ids = batch.column(0)
                hashes = hash_ids(ids, seed)
                low = np.flatnonzero(hashes <= limit)
                numbers = np.full(len(low), number)
                drawn.append(
                    pa.table(
                        {"hash": hashes[low], "id": ids.take(pa.array(low)), "fragment": numbers}
                    )
                )
                held += len(low)
                if held > 2 * size:
                    drawn, held = [_lowest(drawn, size)], size
                    limit = drawn[0]["hash"].to_numpy()[-1]
                advance(len(ids))
    return _lowest(drawn, size).sort_by("fragment").select(["id", "fragment"])


def _lowest(parts: list[pa.Table], size: int) -> pa.Table:
    # Two ids will hardly share a hash, but nothing may depend on the order of the files.
    order = [("hash", "ascending"), ("id", "ascending")]
    return pa.concat_tables(parts).sort_by(order).slice(0, size).combine_chunks()


def _read_sample(snapshot: Snapshot, listed: list[_Fragment], sample: pa.Table) -> np.ndarray:
    """The vectors of the sample, (s, d) float32."""
    store, dim = snapshot.store, snapshot.manifest.dim
    ids = sample["id"].combine_chunks()
    vectors = np.empty((len(ids), dim), dtype=np.float32)
    holding = np.unique(sample["fragment"].to_numpy())
    with track("reading the sample", len(holding), "fragments") as advance:
        for number in holding:
            for batch in _batches(store, [listed[number]], _TILE_ROWS["numpy"], dim, 0):
                place, row = _matches(ids, batch.ids)
                vectors[place] = batch.vectors[row]
            advance(1)
    return vectors


def _compare(
    snapshot: Snapshot, listed: list[_Fragment], sample: pa.Table, vectors: np.ndarray
) -> pa.Table:
    """The best partners of the sample among all rows, one batch in memory at a time."""
    settings, store, manifest = snapshot.settings, snapshot.store, snapshot.manifest
    xp = device_array_module(resolve_device(settings.device))
    ids = sample["id"].combine_chunks()
    clusters = np.array([cluster for cluster, _ in listed])[sample["fragment"].to_numpy()]
    search = BestPartners(xp.asarray(vectors), clusters, memory_budget=settings.memory_budget // 4)
    winners = _Winners(len(ids)), _Winners(len(ids))
    # A batch is held as read, gathered and on the device; with the float64 of its norms that is
    # well below a quarter of the budget.
    most = settings.memory_budget // 32 // (4 * manifest.dim)
    rows = max(1, min(_TILE_ROWS[xp.__name__], most))
    with track("comparing a sample", snapshot.rows, "rows") as advance:
        for batch in _batches(store, listed, rows, manifest.dim, settings.memory_budget // 8):
            rank = np.empty(len(batch.ids), dtype=np.int64)
            rank[pc.sort_indices(batch.ids).to_numpy()] = np.arange(len(batch.ids))
            own = _matches(ids, batch.ids)
            found = search.add(xp.asarray(batch.vectors), batch.clusters, rank, own)
            for kept, new in zip(winners, found, strict=True):
                kept.take(new, batch)
            advance(len(batch.ids))
    within, across = winners
    columns = [
        *(ids, clusters, within.ids, within.scores),
        *(across.ids, across.clusters, across.scores),
    ]
    schema = schemas.missed(manifest.id_type)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema).sort_by("id")


class _Winners:
    """For each query the best row so far; of equally good ones that with the lowest id."""

    def __init__(self, queries: int) -> None:
        self.ids: list[Any] = [None] * queries
        self.clusters: list[int | None] = [None] * queries
        self.scores: list[float | None] = [None] * queries

    def take(self, found: Found, batch: "_Batch") -> None:
        """Take in what was found in a batch: rows that score at least as high as all before."""
        for query, row, score in zip(found.query, found.row, found.score.tolist(), strict=True):
            id_ = batch.ids[row].as_py()
            if self.scores[query] != score or id_ < self.ids[query]:
                self.ids[query] = id_
                self.clusters[query] = int(batch.clusters[row])
                self.scores[query] = score


@dataclass(frozen=True)
class _Batch:
    """Some rows: ids, (n, d) float32 vectors and the cluster of each, equal ones side by side."""

    ids: pa.Array
    vectors: np.ndarray
    clusters: np.ndarray


def _read(
    store: Store, listed: list[_Fragment], columns: list[str], rows: int, budget: int
) -> Iterator[Iterator[pa.RecordBatch]]:
    """Of each fragment its batches, which from a remote store are read ahead."""
    with read_ahead(
        listed,
        lambda fragment: read_batches(store, fragment[1], columns, rows),
        lambda batch: int(batch.nbytes),
        threads=store.threads(0, REMOTE_READERS),
        budget=budget,
        expected=budget // REMOTE_READERS,
    ) as sources:
        yield from sources


def _batches(
    store: Store, listed: list[_Fragment], rows: int, dim: int, budget: int
) -> Iterator[_Batch]:
    """The rows of fragments, at least ``rows`` at a time but for the last, and below twice that.

    Fragments may be small, and a product of small matrices is slow.
    """
    held: list[tuple[int, pa.RecordBatch]] = []
    columns = [schemas.ID, schemas.EMBEDDING]
    read = _read(store, listed, columns, rows, budget)
    for (cluster, _), parts in zip(listed, read, strict=True):
        for part in parts:
            held.append((cluster, part))
            if sum(len(part) for _, part in held) >= rows:
                yield _gather(held, dim)
                held = []
    if held:
        yield _gather(held, dim)


def _gather(held: list[tuple[int, pa.RecordBatch]], dim: int) -> _Batch:
    parts = [part for _, part in held]
    embeddings = pa.chunked_array([part.column(schemas.EMBEDDING) for part in parts])
    return _Batch(
        pa.concat_arrays([part.column(schemas.ID) for part in parts]),
        column_to_vectors(embeddings, dim),
        np.repeat([cluster for cluster, _ in held], [len(part) for part in parts]),
    )


def _matches(sample: pa.Array, ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Which of the sample are among ``ids``, and where: places in either, (k,) each."""
    found = pc.index_in(ids, value_set=sample)
    there = found.is_valid().to_numpy(zero_copy_only=False)
    return found.drop_null().to_numpy(), np.flatnonzero(there)
