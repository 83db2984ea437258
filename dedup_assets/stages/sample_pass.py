"""The pass behind `dedup_assets.stages.missed`: a sample of rows against all rows, or new ones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.arrays import to_device
from dedup_assets.compute.missed import BestPartners, Found
from dedup_assets.progress import Advance, track
from dedup_assets.stages.machine import compute_budget, compute_module
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
_TILE_QUERIES, _MOST_TILES = 512, 16  # with fewer queries a batch is larger, up to so many times


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

    The table depends on the rows, clusters and ``random_state`` only. A row whose partners in
    ``former`` are both there still is compared with the rows of new groups only.

    Raises:
        StaleError: a fragment is missing.
    """
    listed = list_fragments(snapshot)
    sample = draw(snapshot, listed, size, former)
    new = [f for f in listed if f.group not in former.groups]
    ids = sample["id"].combine_chunks()
    within, across = (_Side.from_former(ids, former.table, side) for side in ("within", "across"))
    known = within.known & across.known
    lost = np.flatnonzero(~known)
    others = np.flatnonzero(known) if new else np.empty(0, dtype=np.int64)
    total = (count(listed) if len(lost) else 0) + (count(new) if len(others) else 0)
    first, second = _Vectors(snapshot, sample, lost), _Vectors(snapshot, sample, others)
    first.read(listed)
    if not len(lost):
        second.read(listed)
    with track("comparing a sample", total, "rows") as advance:
        run = _Pass(snapshot, sample, (within, across), advance)
        if len(lost):  # it meets the vectors of the others on its way
            run.compare(first, listed, second.take)
        if len(others):
            run.compare(second, new)
    return Compared(_table(snapshot, sample, within, across), len(lost))


class _Vectors:
    """The vectors of some rows of the sample.

    Attributes:
        lines: of shape (k,), ascending, which rows these are.
        values: of shape (k, d), float32.
    """

    def __init__(self, snapshot: Snapshot, sample: pa.Table, lines: np.ndarray) -> None:
        self._snapshot = snapshot
        self.lines = lines
        self.rows = sample.take(pa.array(lines))
        self.ids = self.rows["id"].combine_chunks()
        self.values = np.empty((len(lines), snapshot.manifest.dim), dtype=np.float32)

    def read(self, listed: list[Fragment]) -> None:
        """Take them from the fragments that hold them."""
        store, dim = self._snapshot.store, self._snapshot.manifest.dim
        columns = (self.rows[name].to_pylist() for name in ("cluster", "group"))
        places = set(zip(*columns, strict=True))
        holding = [f for f in listed if (f.cluster, f.group) in places]
        with track("reading the sample", len(holding), "fragments") as advance:
            for fragment in holding:
                for batch in read_rows(store, [fragment], _TILE_ROWS["numpy"], dim, 0):
                    self.take(batch)
                advance(1)

    def take(self, batch: Batch) -> None:
        """Take those that are rows of a batch."""
        place, row = matches(self.ids, batch.ids)
        self.values[place] = batch.vectors[row]


class _Side:
    """For each query the best row so far; of equally good ones that with the lowest id.

    Attributes:
        known: of shape (q,), bool: the best row of the kept groups is known, or that there is none.
    """

    def __init__(self, queries: int) -> None:
        self.ids: list[Any] = [None] * queries
        self.clusters: list[int | None] = [None] * queries
        self.scores: list[float | None] = [None] * queries
        self.groups = [NO_GROUP] * queries
        self.known = np.zeros(queries, dtype=bool)

    @classmethod
    def from_former(cls, ids: pa.Array, former: pa.Table, name: str) -> "_Side":
        """What was found for queries before, as far as the row found is still there."""
        side = cls(len(ids))
        cluster = "cluster" if name == "within" else "across_cluster"
        columns = (f"{name}_id", cluster, f"{name}_score", f"{name}_group")
        rows = zip(*(former[column].to_pylist() for column in columns), strict=True)
        there = pc.index_in(former["id"], value_set=ids).to_pylist()
        for query, (id_, cluster_, score, group) in zip(there, rows, strict=True):
            if query is not None and group is not None:
                side.known[query] = True
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


def _ignore(batch: Batch) -> None:
    pass


@dataclass(frozen=True)
class _Pass:
    """Compares the sample with rows; what is found goes into ``sides``: within, and across."""

    snapshot: Snapshot
    sample: pa.Table
    sides: tuple[_Side, _Side]
    advance: Advance

    def compare(
        self, queries: _Vectors, fragments: list[Fragment], met: Callable[[Batch], None] = _ignore
    ) -> None:
        """Look for better partners among the rows of fragments, one batch in memory at a time.

        Args:
            queries: what of the sample is compared.
            fragments: where the rows lie.
            met: called with each batch.
        """
        settings, dim, lines = self.snapshot.settings, self.snapshot.manifest.dim, queries.lines
        xp = compute_module(settings)
        within, across = self.sides
        search = BestPartners(
            to_device(xp, queries.values),
            queries.rows["cluster"].to_numpy(),
            known=(within.known_scores(lines), across.known_scores(lines)),
            memory_budget=compute_budget(settings) // 4,
        )
        # A batch is held as read and gathered. On a CPU its norms take float64 beside that, which
        # is well below a quarter of the budget in all.
        share = 32 if xp is np else 8
        most = settings.compute.memory_budget // share // (4 * dim)
        few = max(1, min(_MOST_TILES, _TILE_QUERIES // len(lines)))
        rows = max(1, min(few * _TILE_ROWS[xp.__name__], most))
        budget = settings.compute.memory_budget // 8
        for batch in read_rows(self.snapshot.store, fragments, rows, dim, budget):
            rank = np.empty(len(batch.ids), dtype=np.int64)
            rank[pc.sort_indices(batch.ids).to_numpy()] = np.arange(len(batch.ids))
            own = matches(queries.ids, batch.ids)
            found = search.add(to_device(xp, batch.vectors), batch.clusters, rank, own)
            for side, new in zip(self.sides, found, strict=True):
                side.take(new, lines, batch)
            met(batch)
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
