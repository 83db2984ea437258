"""For each cluster: rank its rows and find each one's best earlier match."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from dedup_assets.compute.arrays import copy_to, device_memory
from dedup_assets.compute.threads import in_threads, thread_count
from dedup_assets.engine import Common, run_tasks
from dedup_assets.progress import Advance, track
from dedup_assets.settings import Settings
from dedup_assets.stages import comparing
from dedup_assets.stages.comparing import Cluster, compare_clusters
from dedup_assets.stages.known import Known, known_matches
from dedup_assets.stages.machine import compute_budget, compute_module, engine_of
from dedup_assets.stages.memory import cut
from dedup_assets.stages.ranked import Digested, RankedRows, read_ranked
from dedup_assets.stages.score_keys import (
    Key,
    KeyTask,
    Task,
    before_of,
    begin_key,
    is_made_from,
    table_name,
)
from dedup_assets.state.ranges import clusters_of
from dedup_assets.state.scores import (
    Entry,
    mark_unfinished,
    pruning_table,
    unfinished_keys,
    unmark,
    write_ledger,
)
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import REQUESTS, Store, size_of
from dedup_assets.store.sizes import format_bytes
from dedup_assets.store.tables import read_table, write_table

_MOST_ROWS_ON_DEVICE = 1 << 19
_BYTES_OF_A_ROW = 200  # on a GPU, of its match, norm and place


@dataclass(frozen=True)
class KeyScores:
    """What scoring did for one partition key.

    Attributes:
        key: the partition key.
        clusters: how many it has; ``reused``: how many of them were current.
        updated: how many of the others were brought up to date instead of compared anew.
        searched: rows that were compared with all others of their cluster.
        largest: rows of its largest cluster.
        fingerprint: of its ledger.
    """

    key: str
    rows: int
    clusters: int
    reused: int
    updated: int
    searched: int
    largest: int
    fingerprint: str


def score(snapshot: Snapshot, keys: list[str]) -> dict[str, KeyScores]:
    """Bring the scores of the clusters of ``keys`` up to date; what is current stays.

    Of each key the pruning tables are written first, for other people's readers, and then the
    ledger, which every later step reads. A pruning table that is absent or cut is written again
    from the ledger; a ledger that is missing is made again from whole pruning tables.

    Raises:
        StaleError: the fragments of a key are missing or stale.
    """
    clusters_of(snapshot.settings, keys)
    store = snapshot.store
    rows = {key: commit.rows for key, commit in snapshot.commits(keys).items()}
    sizes = {name: size_of(v) for name, v in store.list_versions(layout.SCORES).items()}
    unfinished = unfinished_keys(store)
    tasks = [
        KeyTask(
            key,
            {c: sizes[table_name(c)] for c in snapshot.ranges[key] if table_name(c) in sizes},
            key in unfinished,
        )
        for key in keys
    ]
    done: dict[str, KeyScores] = {}
    with track("comparing", sum(rows.values()), "rows") as advance:
        for finished in run_tasks(
            engine_of(snapshot.settings),
            _score_keys,
            _Comparing(snapshot),
            sorted(tasks, key=lambda task: -rows[task.key]),
            advance,
            weight=lambda task: rows[task.key],
        ):
            done |= {scores.key: scores for scores in finished}
    for name in scores_left_over(snapshot, sizes):
        store.delete(name)
    return {key: done[key] for key in keys}


@dataclass(frozen=True)
class _Comparing(Common):
    """What the tasks of comparing have in common."""

    snapshot: Snapshot


def _score_keys(
    common: _Comparing, tasks: Iterable[KeyTask], advance: Advance
) -> Iterator[KeyScores]:
    """Compare the clusters of some keys, small ones together, and commit each key."""
    snapshot, tasks = common.snapshot, list(tasks)
    found = snapshot.found_ledgers([task.key for task in tasks])
    work = [begin_key(snapshot, task, found[task.key]) for task in tasks]
    clusters = [cluster for _, clusters in work for cluster in clusters]
    rows = sum(commit.rows for commit in snapshot.commits([t.key for t in tasks]).values())
    advance(rows - sum(cluster.rows for cluster in clusters))
    open_ = [key for key, _ in work]
    _mark(snapshot.store, open_)
    for batch in cut(clusters, _most_rows(snapshot.settings, snapshot.manifest.dim)):
        _score_batch(snapshot, batch, advance)
        ready = [key for key in open_ if not key.waiting]
        open_ = [key for key in open_ if key.waiting]
        yield from _commit_all(snapshot, ready)
    yield from _commit_all(snapshot, open_)


def _mark(store: Store, keys: list[Key]) -> None:
    """Mark the keys whose tables will change and have a ledger."""
    unmarked = [k for k in keys if k.found and (k.waiting or k.restored) and not k.marked]
    for _ in store.map(lambda key: mark_unfinished(store, key.name), unmarked):
        pass
    for key in unmarked:
        key.marked = True


def _commit_all(snapshot: Snapshot, keys: list[Key]) -> list[KeyScores]:
    done: list[KeyScores] = []
    in_threads(
        lambda key: _commit(snapshot, key),
        keys,
        snapshot.store.threads(1),
        lambda key, scores: done.append(scores),
    )
    return done


def _commit(snapshot: Snapshot, key: Key) -> KeyScores:
    """Write the ledger of a key whose clusters are all compared, unless nothing changed."""
    found, store = key.found, snapshot.store
    id_type = snapshot.manifest.id_type
    entries = dict(key.entries)
    if found is not None:
        entries |= {cluster: found.clusters[cluster] for cluster in key.current}
    for cluster in sorted(key.restored):
        rows = before_of(store, key).rows(cluster)
        size = _write_table(store, cluster, key.expected[cluster], pruning_table(rows, id_type))
        entries[cluster] = replace(entries[cluster], bytes=size)
    if found is None or entries != found.clusters or found.compared_by != snapshot.compared_by:
        tables = [
            key.tables[c] if c in key.tables else before_of(store, key).rows(c)
            for c in key.clusters
        ]
        schema = schemas.score_ledger(id_type)
        table = pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
        groups = [group.name for group in snapshot.groups]
        found = write_ledger(store, key.name, snapshot.compared_by, entries, groups, table)
    if key.marked:
        unmark(store, key.name)
    key.tables.clear()
    key.before = None
    return KeyScores(
        key.name,
        found.rows,
        len(entries),
        len(key.current),
        key.updated,
        key.searched,
        max((entry.rows for entry in entries.values()), default=0),
        found.fingerprint,
    )


def warn_of_size(settings: Settings, largest: int, dim: int) -> str | None:
    """What to say of a cluster that does not fit into the budget; it is compared all the same.

    Its rows are held as they are read, and again in rank order.
    """
    needed = 2 * largest * dim * 4
    budget = settings.compute.memory_budget
    if needed <= budget:
        return None
    return (
        f"the largest cluster has {largest:,} rows, and takes {format_bytes(needed)} to compare, "
        f"more than memory_budget ({format_bytes(budget)}); more clusters are smaller"
    )


def _most_rows(settings: Settings, dim: int) -> int:
    """Rows of the clusters that are read and compared together.

    On a GPU they lie there, since many small products are slow: beside each row its half and, where
    rows repeat, a copy of the distinct ones, in half of the budget.
    """
    if compute_module(settings) is np:
        return settings.compute.memory_budget // 8 // (4 * dim)
    return min(_MOST_ROWS_ON_DEVICE, compute_budget(settings) // 2 // (12 * dim + _BYTES_OF_A_ROW))


def _score_batch(snapshot: Snapshot, batch: list[Task], advance: Advance) -> None:
    """Read, rank and compare the rows of some clusters and write their pruning tables."""
    settings, store = snapshot.settings, snapshot.store
    offsets = np.cumsum([0, *(task.rows for task in batch)]).tolist()
    xp = compute_module(settings)
    with device_memory(xp, f"for {offsets[-1]} rows of clusters"):
        x = xp.empty((offsets[-1], snapshot.manifest.dim), dtype=np.float32)
    spans = {t.number: slice(*s) for t, s in zip(batch, pairwise(offsets), strict=True)}
    # A remote reader or writer holds up to 16 MiB beside the rows: an eighth of the budget in all.
    remote = min(REQUESTS, max(2, settings.compute.memory_budget // (128 << 20)))
    threads = store.threads(thread_count(), remote)
    rows: dict[int, RankedRows] = {}
    before = {task.number: _before(snapshot, task) for task in batch}

    def read(task: Task) -> RankedRows:
        own, number = x[spans[task.number]], task.number
        if xp is np:
            return read_ranked(snapshot, number, task.fragments, own, before[number])
        host = np.empty(own.shape, dtype=np.float32)
        ranked = read_ranked(snapshot, number, task.fragments, host, before[number])
        copy_to(own, host)
        return ranked

    def hold(task: Task, read: RankedRows) -> None:
        rows[task.number] = read
        advance_read(1)

    with track("reading clusters", len(batch), "clusters") as advance_read:
        in_threads(read, batch, threads, hold)
    whole = {task.number for task in batch if task.number in task.key.sizes}
    tables: dict[int, pa.Table] = {}
    in_threads(
        lambda task: _recover(snapshot, task, rows[task.number]),
        [task for task in batch if task.number in whole],
        threads,
        lambda task, table: tables.__setitem__(task.number, table) if table else None,
    )
    for task in batch:
        if task.number in tables:
            advance(task.rows)
    remaining = [task for task in batch if task.number not in tables]
    to_compare = [
        Cluster(t.number, spans[t.number], _known(snapshot, t, rows[t.number], before[t.number]))
        for t in remaining
    ]
    best = compare_clusters(settings, x, to_compare, advance)
    schema = schemas.pairs(snapshot.manifest.id_type)

    def write(task: Task) -> tuple[pa.Table, int]:
        if task.number in tables:
            return tables[task.number], task.key.sizes[task.number]
        found = best[task.number]
        task.key.searched += found.searched
        task.key.updated += found.updated
        ids = rows[task.number].ids
        table = pa.table([ids, ids.take(pa.array(found.index)), found.score], schema=schema)
        return table, _write_table(store, task.number, task.fingerprint, table)

    def keep(task: Task, written: tuple[pa.Table, int]) -> None:
        table, size = written
        key = task.key
        key.entries[task.number] = Entry(task.fingerprint, task.rows, size)
        numbers = pa.array(np.full(task.rows, task.number, dtype=np.int32))
        columns = [numbers, *table.columns, rows[task.number].digests]
        key.tables[task.number] = pa.table(
            columns, schema=schemas.score_ledger(snapshot.manifest.id_type)
        )
        key.waiting.discard(task.number)
        advance_written(1)

    with track("writing scores", len(batch), "clusters") as advance_written:
        in_threads(write, batch, threads, keep)


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


def _write_table(store: Store, cluster: int, fingerprint: str, table: pa.Table) -> int:
    info = {"fingerprint": fingerprint, "cluster": cluster}
    return write_table(store, layout.scores(cluster), table, info)


def scores_left_over(snapshot: Snapshot, tables: Iterable[str]) -> list[str]:
    """Files of other clusters and keys, those of another ``n_clusters``, which are to be deleted.

    Args:
        snapshot: of the output.
        tables: what lies below `layout.SCORES`.
    """
    stale = []
    for name in tables:
        number = layout.number_in(name, "cluster_", ".parquet")
        if number is not None and number >= snapshot.settings.clustering.n_clusters:
            stale.append(f"{layout.SCORES}/{name}")
    for name in snapshot.store.list(layout.SCORE_LEDGERS):
        if name.rpartition(".")[0] not in snapshot.ranges:
            stale.append(f"{layout.SCORE_LEDGERS}/{name}")
    return stale
