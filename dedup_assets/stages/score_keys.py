"""What there is of the scores of a partition key, and what has to be compared."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from dedup_assets.state.scores import Entry, ScoreLedger, read_scores
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import read_info


@dataclass(frozen=True)
class KeyTask:
    """A partition key whose scores are to be brought up to date.

    Attributes:
        key: its name.
        sizes: bytes of the pruning tables that are there, by cluster.
        unfinished: whether a run that was stopped may have changed some of them.
    """

    key: str
    sizes: dict[int, int]
    unfinished: bool


@dataclass(frozen=True)
class Task:
    """A cluster whose scores have to be found."""

    key: "Key"
    number: int
    fingerprint: str
    fragments: list[dict[str, Any]]
    rows: int


@dataclass(eq=False)
class Key:
    """A partition key at work.

    Attributes:
        sizes: bytes of the pruning tables that were there, by cluster.
        expected: what the scores of each cluster are to be made from.
        found: its ledger, current or not.
        current: the clusters whose rows in the ledger are current.
        waiting: clusters that are not compared yet.
        restored: clusters whose pruning table alone is missing.
        marked: whether a mark says that its tables are being changed.
        entries, tables: of the clusters that were compared.
        updated: how many of them were brought up to date; ``searched``: rows compared with all.
    """

    name: str
    clusters: range
    sizes: dict[int, int]
    expected: dict[int, str]
    found: ScoreLedger | None
    current: set[int]
    waiting: set[int]
    restored: set[int]
    marked: bool
    entries: dict[int, Entry] = field(default_factory=dict)
    tables: dict[int, pa.Table] = field(default_factory=dict)
    updated: int = 0
    searched: int = 0
    before: "Before | None" = None


class Before:
    """The rows of a ledger by cluster."""

    def __init__(self, store: Store, ledger: ScoreLedger) -> None:
        self._table = read_scores(store, ledger)
        sizes = [entry.rows for entry in ledger.clusters.values()]
        starts = np.cumsum([0, *sizes]).tolist()
        self._spans = dict(zip(ledger.clusters, zip(starts, sizes, strict=False), strict=True))

    def rows(self, cluster: int) -> pa.Table:
        return self._table.slice(*self._spans[cluster])


def begin_key(
    snapshot: Snapshot, asked: KeyTask, found: ScoreLedger | None
) -> tuple[Key, list[Task]]:
    """What there is of a key, and what has to be compared.

    A run that was stopped may have written tables that are not those of the ledger, and have
    their size: so it leaves a mark, and where there is one each table says what it is.
    """
    name, sizes, unfinished = asked.key, asked.sizes, asked.unfinished
    expected = snapshot.expected([name])
    current = found.current(expected) if found else set()
    entries = found.clusters if found else {}
    restored = {
        c
        for c in current
        if sizes.get(c) != entries[c].bytes
        or (unfinished and not is_made_from(snapshot.store, c, expected[c]))
    }
    waiting = set(expected) - current
    key = Key(
        *(name, snapshot.ranges[name], sizes, expected, found, current, waiting, restored),
        marked=unfinished,
    )
    tasks = []
    for cluster, fragments in snapshot.fragments([name]).items():
        if cluster in waiting:
            rows = sum(f["rows"] for f in fragments)
            tasks.append(Task(key, cluster, expected[cluster], fragments, rows))
    return key, tasks


def before_of(store: Store, key: Key) -> Before:
    if key.before is None:
        assert key.found is not None
        key.before = Before(store, key.found)
    return key.before


def is_made_from(store: Store, cluster: int, fingerprint: str) -> bool:
    return (read_info(store, layout.scores(cluster)) or {}).get("fingerprint") == fingerprint


def table_name(cluster: int) -> str:
    """The file of a pruning table, relative to `layout.SCORES`."""
    return layout.scores(cluster).removeprefix(f"{layout.SCORES}/")
