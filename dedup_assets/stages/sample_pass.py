"""The pass behind `dedup_assets.stages.missed`: a sample of rows against all rows, or new ones."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.arrays import to_device
from dedup_assets.compute.missed import BestPartners, Found
from dedup_assets.engine import Common, run_tasks
from dedup_assets.progress import Advance, track
from dedup_assets.stages.machine import compute_budget, compute_module, engine_of
from dedup_assets.stages.memory import cut
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
from dedup_assets.store.vectors import read_chosen_vectors

GROUPS = ("group", "within_group", "across_group")
"""Columns beside those of `schemas.missed`, as in `Former`."""

_TILE_ROWS = {"numpy": 1024, "cupy": 1 << 14}
_BYTES_OF_A_TASK = 512 << 20  # of vectors
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
    sides = (within, across)
    with track("comparing a sample", total, "rows") as advance:
        for lines, fragments in ((lost, listed), (others, new)):
            if not len(lines):
                continue
            common = _Comparing(snapshot, *_queries(snapshot, sample, lines, listed, sides))
            for finished in run_tasks(
                engine_of(snapshot.settings),
                _compare_with,
                common,
                cut(fragments, _BYTES_OF_A_TASK // (4 * snapshot.manifest.dim)),
                advance,
                weight=count,
            ):
                for found in finished:
                    for side, best in zip(sides, found, strict=True):
                        side.merge(lines, best)
    return Compared(_table(snapshot, sample, within, across), len(lost))


def _queries(
    snapshot: Snapshot,
    sample: pa.Table,
    lines: np.ndarray,
    listed: list[Fragment],
    sides: tuple["_Side", "_Side"],
) -> tuple[pa.Array, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Ids, clusters, vectors and known scores of some rows of the sample."""
    rows = sample.take(pa.array(lines))
    ids = rows["id"].combine_chunks()
    within, across = sides
    known = (within.known_scores(lines), across.known_scores(lines))
    return ids, rows["cluster"].to_numpy(), _vectors(snapshot, rows, ids, listed), known


def _vectors(
    snapshot: Snapshot, rows: pa.Table, ids: pa.Array, listed: list[Fragment]
) -> np.ndarray:
    """The vectors of some rows, of shape (k, d), float32, from the fragments that hold them."""
    store, dim = snapshot.store, snapshot.manifest.dim
    values = np.empty((len(ids), dim), dtype=np.float32)
    columns = (rows[name].to_pylist() for name in ("cluster", "group"))
    places = set(zip(*columns, strict=True))
    holding = [f for f in listed if (f.cluster, f.group) in places]

    def read(fragment: Fragment) -> list[tuple[np.ndarray, np.ndarray]]:
        found: list[np.ndarray] = []

        def choose(there: pa.ChunkedArray) -> np.ndarray:
            place, row = matches(ids, there.combine_chunks())
            found.append(place)
            return row

        chosen = read_chosen_vectors(store, fragment.path, dim, choose)
        return [(found[-1], vectors) for _, vectors in chosen]

    with track("reading the sample", len(holding), "fragments") as advance:
        for parts in store.map(read, holding):
            for place, vectors in parts:
                values[place] = vectors
            advance(1)
    return values


@dataclass(frozen=True)
class _Best:
    """What a task found: queries that have a better partner, with it.

    Attributes:
        queries: numbers among those of the task.
        partners: of each, the id, cluster, score and group of its best partner.
    """

    queries: list[int]
    partners: list["_Partner"]

    @classmethod
    def of(cls, best: dict[int, "_Partner"]) -> "_Best":
        return cls(list(best), list(best.values()))


_Partner = tuple[Any, int, float, int]
"""Id, cluster, score and group."""


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

    def merge(self, lines: np.ndarray, best: _Best) -> None:
        """Take in what a task found for the queries at ``lines``, where it is better."""
        for number, (id_, cluster, score, group) in zip(best.queries, best.partners, strict=True):
            query = int(lines[number])
            known = self.scores[query]
            if known is None or score > known or (score == known and id_ < self.ids[query]):
                self._set(query, id_, cluster, score, group)

    def _set(self, query: int, id_: Any, cluster: int, score: float, group: int) -> None:
        self.ids[query] = id_
        self.clusters[query] = cluster
        self.scores[query] = score
        self.groups[query] = group


@dataclass(frozen=True)
class _Comparing(Common):
    """What the tasks of the pass have in common: the queries.

    Attributes:
        ids: of k queries.
        clusters: of shape (k,), ascending.
        vectors: of shape (k, d), float32, host.
        known: scores of their best partners within and across, two arrays of shape (k,), float32,
            -inf where there is none.
    """

    snapshot: Snapshot
    ids: pa.Array
    clusters: np.ndarray
    vectors: np.ndarray
    known: tuple[np.ndarray, np.ndarray]


def _compare_with(
    common: _Comparing, tasks: Iterable[list[Fragment]], advance: Advance
) -> Iterator[tuple[_Best, _Best]]:
    """Look for better partners among the rows of fragments, one batch in memory at a time."""
    settings, dim = common.snapshot.settings, common.snapshot.manifest.dim
    xp = compute_module(settings)
    search = BestPartners(
        to_device(xp, common.vectors),
        common.clusters,
        known=common.known,
        memory_budget=compute_budget(settings) // 4,
    )
    # A batch is held as read and gathered. On a CPU its norms take float64 beside that, which is
    # well below a quarter of the budget in all.
    share = 32 if xp is np else 8
    most = settings.compute.memory_budget // share // (4 * dim)
    few = max(1, min(_MOST_TILES, _TILE_QUERIES // len(common.ids)))
    rows = max(1, min(few * _TILE_ROWS[xp.__name__], most))
    budget = settings.compute.memory_budget // 8
    for fragments in tasks:
        best: tuple[dict[int, _Partner], dict[int, _Partner]] = ({}, {})
        for batch in read_rows(common.snapshot.store, fragments, rows, dim, budget):
            rank = np.empty(len(batch.ids), dtype=np.int64)
            rank[pc.sort_indices(batch.ids).to_numpy()] = np.arange(len(batch.ids))
            own = matches(common.ids, batch.ids)
            found = search.add(to_device(xp, batch.vectors), batch.clusters, rank, own)
            for side, new in zip(best, found, strict=True):
                _take(side, new, batch)
            advance(len(batch.ids))
        yield _Best.of(best[0]), _Best.of(best[1])


def _take(best: dict[int, _Partner], found: Found, batch: Batch) -> None:
    """Take in what was found in a batch: rows that score at least as high as all before."""
    rows = zip(found.query.tolist(), found.row.tolist(), found.score.tolist(), strict=True)
    for query, row, score in rows:
        id_ = batch.ids[row].as_py()
        if query not in best or best[query][2] != score or id_ < best[query][0]:
            best[query] = (id_, int(batch.clusters[row]), score, int(batch.groups[row]))


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
