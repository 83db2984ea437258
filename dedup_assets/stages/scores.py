"""For each cluster: rank its rows and find each one's best earlier match."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from dedup_assets.compute.threads import in_threads
from dedup_assets.engine import Common, run_tasks
from dedup_assets.progress import Advance, track
from dedup_assets.settings import Settings
from dedup_assets.stages.machine import engine_of
from dedup_assets.stages.score_batches import Scored, score_batches
from dedup_assets.stages.score_keys import (
    Key,
    KeyTask,
    before_of,
    begin_key,
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
    write_pruning_table,
)
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store, size_of
from dedup_assets.store.sizes import format_bytes


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
    keys = [key for key, _ in work]
    _mark(snapshot.store, keys)
    for ready in _compared(keys, score_batches(snapshot, clusters, advance)):
        yield from _commit_all(snapshot, ready)


def _compared(keys: list[Key], batches: Iterable[list[Scored]]) -> Iterator[list[Key]]:
    """The keys whose clusters are all written, after each batch of clusters."""
    for batch in batches:
        for scored in batch:
            _keep(scored)
        yield [key for key in keys if not key.waiting]
        keys = [key for key in keys if key.waiting]
    yield keys


def _keep(scored: Scored) -> None:
    """Note with the key what is to be committed of a cluster."""
    task, key = scored.task, scored.task.key
    key.entries[task.number] = Entry(task.fingerprint, task.rows, scored.bytes)
    key.tables[task.number] = scored.ledger
    key.searched += scored.searched
    key.updated += scored.updated
    key.waiting.discard(task.number)


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
        table = pruning_table(rows, id_type)
        size = write_pruning_table(store, cluster, key.expected[cluster], table)
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
