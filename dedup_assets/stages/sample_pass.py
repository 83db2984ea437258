"""The pass behind `dedup_assets.stages.missed`: a sample of rows against all rows, or new ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.arrays import device_array_module, resolve_device
from dedup_assets.compute.missed import BestPartners, Found
from dedup_assets.progress import Advance, track
from dedup_assets.stages.sample_draw import NO_GROUP, Former, draw
from dedup_assets.stages.sample_rows import (
    Batch,
    Fragment,
    count,
    list_fragments,
    matches,
    read_rows,
)
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import schemas

GROUPS = ("group", "within_group", "across_group")
"""Columns beside those of `schemas.missed`, as in `Former`."""

_TILE_ROWS = {"numpy": 1024, "cupy": 1 << 14}


@dataclass(frozen=True)
class Compared:
    """The sample with its partners.

    Attributes:
        table: rows of `schemas.missed`, and `GROUPS`, by id.
        with_all: how many of them were compared with all rows; the others with new rows only.
    """

    table: pa.Table
    with_all: int


def compare_sample(snapshot: Snapshot, size: int, former: Former) -> Compared:
    """Draw ``size`` rows (or all, if fewer) and find their best partners among all rows.

    The table depends on the rows, clusters and ``random_state`` only. A row with its partners in
    ``former`` is compared with the rows of new groups only: the others it has lost to before.

    Raises:
        StaleError: a fragment is missing.
    """
    listed = list_fragments(snapshot)
    sample = draw(snapshot, listed, size, former)
    new = [f for f in listed if f.group not in former.groups]
    kept = [f for f in listed if f.group in former.groups]
    ids = sample["id"].combine_chunks()
    within, across = (_Side.known(ids, former.table, side) for side in ("within", "across"))
    lost = np.flatnonzero(~(within.sure & across.sure))
    lines = np.arange(len(sample)) if new else lost
    vectors = _read_sample(snapshot, listed, sample, lines)
    total = count(new) + (count(kept) if len(lost) else 0)
    with track("comparing a sample", total, "rows") as advance:
        run = _Pass(snapshot, sample, (within, across), advance)
        run.compare(new, lines, vectors)
        if len(lost) and kept:
            vectors = vectors[np.searchsorted(lines, lost)]
            run.compare(kept, lost, vectors)
    return Compared(_table(snapshot, sample, within, across), len(lost))


def _read_sample(
    snapshot: Snapshot, listed: list[Fragment], sample: pa.Table, lines: np.ndarray
) -> np.ndarray:
    """The vectors of some rows of the sample, (k, d) float32."""
    store, dim = snapshot.store, snapshot.manifest.dim
    wanted = sample.take(pa.array(lines))
    ids = wanted["id"].combine_chunks()
    vectors = np.empty((len(ids), dim), dtype=np.float32)
    places = set(zip(wanted["cluster"].to_pylist(), wanted["group"].to_pylist(), strict=True))
    holding = [f for f in listed if (f.cluster, f.group) in places]
    with track("reading the sample", len(holding), "fragments") as advance:
        for fragment in holding:
            for batch in read_rows(store, [fragment], _TILE_ROWS["numpy"], dim, 0):
                place, row = matches(ids, batch.ids)
                vectors[place] = batch.vectors[row]
            advance(1)
    return vectors


class _Side:
    """For each query the best row so far; of equally good ones that with the lowest id.

    Attributes:
        sure: of shape (q,), bool: no row of a kept group is better than the one from before.
    """

    def __init__(self, queries: int) -> None:
        self.ids: list[Any] = [None] * queries
        self.clusters: list[int | None] = [None] * queries
        self.scores: list[float | None] = [None] * queries
        self.groups = [NO_GROUP] * queries
        self.sure = np.zeros(queries, dtype=bool)

    @classmethod
    def known(cls, ids: pa.Array, former: pa.Table, name: str) -> "_Side":
        """What was found for queries before, as far as the row found is still there."""
        side = cls(len(ids))
        cluster = "cluster" if name == "within" else "across_cluster"
        columns = (f"{name}_id", cluster, f"{name}_score", f"{name}_group")
        rows = zip(*(former[column].to_pylist() for column in columns), strict=True)
        there = pc.index_in(former["id"], value_set=ids).to_pylist()
        for query, (id_, cluster_, score, group) in zip(there, rows, strict=True):
            if query is not None and group is not None:
                side.sure[query] = True
                if group != NO_GROUP:
                    side._set(query, id_, cluster_, score, group)
        return side

    def known_scores(self, lines: np.ndarray) -> np.ndarray:
        """Of some queries, -inf where nothing was found."""
        scores = [self.scores[line] for line in lines.tolist()]
        return np.array([-np.inf if s is None else s for s in scores], dtype=np.float32)

    def take(self, found: Found, lines: np.ndarray, batch: Batch) -> None:
        """Take in what was found in a batch: rows that score at least as high as all before."""
        query_of = lines[found.query].tolist()
        for query, row, score in zip(query_of, found.row, found.score.tolist(), strict=True):
            id_ = batch.ids[row].as_py()
            if self.scores[query] != score or id_ < self.ids[query]:
                self._set(query, id_, int(batch.clusters[row]), score, int(batch.groups[row]))

    def _set(self, query: int, id_: Any, cluster: int, score: float, group: int) -> None:
        self.ids[query] = id_
        self.clusters[query] = cluster
        self.scores[query] = score
        self.groups[query] = group


@dataclass(frozen=True)
class _Pass:
    """Compares the sample with rows; what is found goes into ``sides``: within, and across."""

    snapshot: Snapshot
    sample: pa.Table
    sides: tuple[_Side, _Side]
    advance: Advance

    def compare(self, fragments: list[Fragment], lines: np.ndarray, vectors: np.ndarray) -> None:
        """Look for better partners among the rows of fragments, one batch in memory at a time.

        Args:
            fragments: where the rows lie.
            lines: of shape (k,), ascending, which of the sample are compared.
            vectors: of shape (k, d), theirs.
        """
        settings, dim = self.snapshot.settings, self.snapshot.manifest.dim
        xp = device_array_module(resolve_device(settings.device))
        compared = self.sample.take(pa.array(lines))
        ids = compared["id"].combine_chunks()
        within, across = self.sides
        search = BestPartners(
            xp.asarray(vectors),
            compared["cluster"].to_numpy(),
            known=(within.known_scores(lines), across.known_scores(lines)),
            memory_budget=settings.memory_budget // 4,
        )
        # A batch is held as read, gathered and on the device; with the float64 of its norms that
        # is well below a quarter of the budget.
        most = settings.memory_budget // 32 // (4 * dim)
        rows = max(1, min(_TILE_ROWS[xp.__name__], most))
        budget = settings.memory_budget // 8
        for batch in read_rows(self.snapshot.store, fragments, rows, dim, budget):
            rank = np.empty(len(batch.ids), dtype=np.int64)
            rank[pc.sort_indices(batch.ids).to_numpy()] = np.arange(len(batch.ids))
            own = matches(ids, batch.ids)
            found = search.add(xp.asarray(batch.vectors), batch.clusters, rank, own)
            for side, new in zip(self.sides, found, strict=True):
                side.take(new, lines, batch)
            self.advance(len(batch.ids))


def _table(snapshot: Snapshot, sample: pa.Table, within: _Side, across: _Side) -> pa.Table:
    columns = [
        *(sample["id"].combine_chunks(), sample["cluster"].to_numpy(), within.ids, within.scores),
        *(across.ids, across.clusters, across.scores),
    ]
    schema = schemas.missed(snapshot.manifest.id_type)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    table = pa.table(arrays, schema=schema)
    groups = (sample["group"].to_numpy(), within.groups, across.groups)
    for name, numbers in zip(GROUPS, groups, strict=True):
        table = table.append_column(name, pa.array(numbers, pa.int64()))
    return table.sort_by("id")
