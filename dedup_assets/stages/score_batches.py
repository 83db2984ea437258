"""Batches of clusters on their way through comparing: read, compared, written, side by side."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from dedup_assets.compute.arrays import copy_to, device_memory
from dedup_assets.compute.threads import in_order, thread_count
from dedup_assets.progress import Advance
from dedup_assets.settings import Settings
from dedup_assets.stages import comparing
from dedup_assets.stages.comparing import Cluster, Compared, compare_clusters
from dedup_assets.stages.known import Known, known_matches
from dedup_assets.stages.machine import compute_budget, compute_module
from dedup_assets.stages.memory import cut
from dedup_assets.stages.ranked import Digested, RankedRows, read_ranked
from dedup_assets.stages.score_keys import Task, before_of, is_made_from
from dedup_assets.state.scores import write_pruning_table
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import REQUESTS
from dedup_assets.store.tables import read_table

_WRITTEN_AHEAD = 2
_MOST_ROWS_ON_DEVICE = 1 << 19
_BYTES_OF_A_ROW = 200  # on a GPU, of its match, norm and place


@dataclass(frozen=True)
class Scored:
    """A cluster whose pruning table is written.

    Attributes:
        task: which cluster.
        ledger: its rows as the ledger of its key has them.
        bytes: of the pruning table.
        searched: rows that were compared with all others; ``updated``: the others were not.
    """

    task: Task
    ledger: pa.Table
    bytes: int
    searched: int
    updated: bool


@dataclass
class _Batch:
    """Clusters that are compared together.

    Attributes:
        tasks: one of each cluster.
        x: of shape (n, d), float32, on the device that computes: their rows in rank order, one
            cluster after the other; none once they are compared.
        spans: where those of each cluster lie.
        rows: ids and digests of each cluster.
        before: of each cluster, what was scored earlier.
        recovered: pruning tables that a run has written which was stopped then.
        best: what comparing found of the other clusters.
    """

    tasks: list[Task]
    x: Any
    spans: dict[int, slice]
    rows: dict[int, RankedRows]
    before: dict[int, Digested | None]
    recovered: dict[int, pa.Table]
    best: dict[int, Compared]


def score_batches(
    snapshot: Snapshot, clusters: list[Task], advance: Advance
) -> Iterator[list[Scored]]:
    """Read, rank and compare the rows of clusters and write their pruning tables.

    Small clusters go through it together, a batch at a time; yields what is written. Where the
    store is remote, a batch is read and another one written while a third is compared. On a local
    disk that is slower: there is little to wait for, and more threads share the caches.
    """
    most = most_rows(snapshot.settings, snapshot.manifest.dim)
    overlaps = _overlaps(snapshot)
    batches = list(cut(clusters, most // 2 if overlaps else most))
    read = (
        _read_ahead(snapshot, batches, most) if overlaps else map(partial(_read, snapshot), batches)
    )
    compared = (_compare(snapshot, batch, advance) for batch in read)
    write = partial(_write, snapshot)
    yield from in_order(write, compared, 1, _WRITTEN_AHEAD) if overlaps else map(write, compared)


def _overlaps(snapshot: Snapshot) -> bool:
    """Whether batches are read and written beside others: not on a GPU, whose memory they fill."""
    return not snapshot.store.is_local and compute_module(snapshot.settings) is np


def most_rows(settings: Settings, dim: int) -> int:
    """Rows of a batch.

    On a GPU they lie there, since many small products are slow: beside each row its half and, where
    rows repeat, a copy of the distinct ones, in half of the budget.
    """
    if compute_module(settings) is np:
        return settings.compute.memory_budget // 8 // (4 * dim)
    return min(_MOST_ROWS_ON_DEVICE, compute_budget(settings) // 2 // (12 * dim + _BYTES_OF_A_ROW))


def _read_ahead(snapshot: Snapshot, batches: list[list[Task]], most: int) -> Iterator[_Batch]:
    """Read each batch while the one before is in use, if both have ``most`` rows together."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-clusters") as pool:
        ahead: Future[_Batch] | None = None
        for batch, following in pairwise([*batches, []]):
            read = _read(snapshot, batch) if ahead is None else ahead.result()
            both = sum(task.rows for task in (*batch, *following))
            ahead = pool.submit(_read, snapshot, following) if following and both <= most else None
            yield read
            del read  # or its rows are held while the next batch is awaited


def _read(snapshot: Snapshot, tasks: list[Task]) -> _Batch:
    settings = snapshot.settings
    offsets = np.cumsum([0, *(task.rows for task in tasks)]).tolist()
    xp = compute_module(settings)
    with device_memory(xp, f"for {offsets[-1]} rows of clusters"):
        x = xp.empty((offsets[-1], snapshot.manifest.dim), dtype=np.float32)
    spans = {t.number: slice(*s) for t, s in zip(tasks, pairwise(offsets), strict=True)}
    before = {task.number: _before(snapshot, task) for task in tasks}

    def read(task: Task) -> RankedRows:
        own, number = x[spans[task.number]], task.number
        if xp is np:
            return read_ranked(snapshot, number, task.fragments, own, before[number])
        host = np.empty(own.shape, dtype=np.float32)
        ranked = read_ranked(snapshot, number, task.fragments, host, before[number])
        copy_to(own, host)
        return ranked

    rows = _of_each(snapshot, tasks, read)
    whole = [task for task in tasks if task.number in task.key.sizes]
    tables = _of_each(snapshot, whole, lambda task: _recover(snapshot, task, rows[task.number]))
    recovered = {number: table for number, table in tables.items() if table is not None}
    return _Batch(tasks, x, spans, rows, before, recovered, {})


def _compare(snapshot: Snapshot, batch: _Batch, advance: Advance) -> _Batch:
    """Find the best earlier match of each row, and let go of the vectors."""
    clusters = []
    for task in batch.tasks:
        number = task.number
        if number in batch.recovered:
            advance(task.rows)
            continue
        known = _known(snapshot, task, batch.rows[number], batch.before[number])
        clusters.append(Cluster(number, batch.spans[number], known))
    batch.best = compare_clusters(snapshot.settings, batch.x, clusters, advance)
    batch.x = None
    return batch


def _write(snapshot: Snapshot, batch: _Batch) -> list[Scored]:
    scored = _of_each(snapshot, batch.tasks, lambda task: _write_one(snapshot, batch, task))
    return list(scored.values())


def _write_one(snapshot: Snapshot, batch: _Batch, task: Task) -> Scored:
    number, id_type = task.number, snapshot.manifest.id_type
    rows, searched, updated = batch.rows[number], 0, False
    if number in batch.recovered:
        table, size = batch.recovered[number], task.key.sizes[number]
    else:
        found = batch.best[number]
        searched, updated = found.searched, found.updated
        columns = [rows.ids, rows.ids.take(pa.array(found.index)), found.score]
        table = pa.table(columns, schema=schemas.pairs(id_type))
        size = write_pruning_table(snapshot.store, number, task.fingerprint, table)
    numbers = pa.array(np.full(task.rows, number, dtype=np.int32))
    columns = [numbers, *table.columns, rows.digests]
    ledger = pa.table(columns, schema=schemas.score_ledger(id_type))
    return Scored(task, ledger, size, searched, updated)


def _of_each(
    snapshot: Snapshot, tasks: list[Task], function: Callable[[Task], Any]
) -> dict[int, Any]:
    """What ``function`` returns for each cluster, in threads.

    A remote reader or writer holds up to 16 MiB beside the rows: an eighth of the budget in all.
    """
    remote = min(REQUESTS, max(2, snapshot.settings.compute.memory_budget // (128 << 20)))
    threads = snapshot.store.threads(thread_count(), remote)
    found = in_order(function, tasks, threads, 2 * threads)
    return {task.number: result for task, result in zip(tasks, found, strict=True)}


def _recover(snapshot: Snapshot, task: Task, rows: RankedRows) -> pa.Table | None:
    """The pruning table of a cluster, if a run that was stopped has written it already."""
    name = layout.scores(task.number)
    if not is_made_from(snapshot.store, task.number, task.fingerprint):
        return None
    table = read_table(snapshot.store, name)
    schema = schemas.pairs(snapshot.manifest.id_type)
    if table.schema.names != schema.names or not table[schemas.ID].combine_chunks().equals(
        rows.ids
    ):
        return None
    return table.replace_schema_metadata(None)


def _before(snapshot: Snapshot, task: Task) -> Digested | None:
    """The rows of a cluster that were scored before, by the same rules."""
    found = task.key.found
    if (
        found is None
        or found.compared_by != snapshot.compared_by
        or task.number not in found.clusters
    ):
        return None
    return Digested(found.groups, before_of(snapshot.store, task.key).rows(task.number))


def _known(
    snapshot: Snapshot, task: Task, rows: RankedRows, before: Digested | None
) -> Known | None:
    """What earlier scores say of a cluster, if there are any that can be brought up to date."""
    exact = snapshot.settings.compute.precision == "exact"
    if before is None or not exact or task.rows < comparing.FEWEST_UPDATED:
        return None
    return known_matches(rows, before.rows)
