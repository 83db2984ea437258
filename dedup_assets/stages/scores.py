"""For each cluster: rank its rows and find each one's best earlier match."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.arrays import device_array_module, resolve_device, to_host
from dedup_assets.compute.pairwise import best_earlier_matches
from dedup_assets.compute.ranking import RankKey, rank_order
from dedup_assets.compute.threads import in_threads, thread_count
from dedup_assets.errors import StaleError
from dedup_assets.progress import Advance, track
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import load_centroids
from dedup_assets.stages.commits import (
    base_fingerprint,
    cut_groups,
    fragment_path,
    load_commit,
    shuffle_fingerprint,
)
from dedup_assets.stages.embeddings import Manifest, load_manifest
from dedup_assets.stages.ranges import cluster_ranges, clusters_of
from dedup_assets.store import layout, schemas
from dedup_assets.store.arrow import column_to_vectors, hash_ids
from dedup_assets.store.filesystem import REQUESTS, Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.sizes import format_bytes
from dedup_assets.store.tables import read_info, read_table, write_table

VERSION = 1


@dataclass(frozen=True)
class KeyScores:
    """What scoring did for one partition key."""

    rows: int
    clusters: int
    reused: int
    largest: int
    fingerprint: str


@dataclass(frozen=True)
class Cluster:
    """A cluster whose pruning table is there and current."""

    number: int
    fingerprint: str


@dataclass(frozen=True)
class _Task:
    """A cluster whose pruning table has to be written."""

    number: int
    fingerprint: str
    fragments: list[str]
    rows: int


def score(settings: Settings, store: Store, keys: list[str]) -> dict[str, KeyScores]:
    """Write the pruning tables of the clusters of ``keys``; tables that are current stay.

    Raises:
        StaleError: the fragments of a key are missing or stale.
    """
    manifest = load_manifest(settings, store)
    base = base_fingerprint(manifest, load_centroids(settings, store, manifest))
    groups = cut_groups(settings, manifest)
    ranges = clusters_of(settings, keys)
    loaded = store.map(lambda key: load_commit(store, key, base, groups), keys)
    commits = dict(zip(keys, loaded, strict=True))
    found = _found(store, [cluster for clusters in ranges.values() for cluster in clusters])
    tasks: list[_Task] = []
    done = {}
    with track("comparing", sum(c.rows for c in commits.values()), "rows") as advance:
        for key, clusters in ranges.items():
            prints = []
            sizes = []
            reused = 0
            for cluster, fragments in commits[key].by_cluster(clusters).items():
                names = [f["fragment"] for f in fragments]
                task = _Task(
                    cluster,
                    table_fingerprint(settings, base, names),
                    names,
                    sum(f["rows"] for f in fragments),
                )
                prints.append(task.fingerprint)
                sizes.append(task.rows)
                if next(found) == task.fingerprint:
                    reused += 1
                    advance(task.rows)
                else:
                    tasks.append(task)
            done[key] = KeyScores(
                sum(sizes), len(clusters), reused, max(sizes, default=0), fingerprint(prints)
            )
        for batch in _batches(tasks, settings.memory_budget // 8 // (4 * manifest.dim)):
            _score_batch(settings, store, manifest, batch, advance)
    _delete_beyond(settings, store)
    return done


def warn_of_size(settings: Settings, largest: int, dim: int) -> str | None:
    """What to say of a cluster that does not fit into the budget; it is compared all the same.

    Its rows are held as they are read, and again in rank order.
    """
    needed = 2 * largest * dim * 4
    if needed <= settings.memory_budget:
        return None
    return (
        f"the largest cluster has {largest:,} rows, and takes {format_bytes(needed)} to compare, "
        f"more than memory_budget ({format_bytes(settings.memory_budget)}); more clusters are "
        "smaller"
    )


def current_scores(settings: Settings, store: Store) -> list[Cluster]:
    """All clusters, after checking that each has a current pruning table.

    Raises:
        StaleError: some are missing or stale; it says which partitions to materialize.
    """
    manifest = load_manifest(settings, store)
    base = base_fingerprint(manifest, load_centroids(settings, store, manifest))
    groups = cut_groups(settings, manifest)
    clusters: list[Cluster] = []
    lacking: dict[str, list[int]] = {}
    with track("checking scores", settings.n_clusters, "clusters") as advance:
        ranges = cluster_ranges(settings)
        commits = store.map(lambda key: load_commit(store, key, base, groups), ranges)
        found = _found(store, range(settings.n_clusters))
        for (key, numbers), commit in zip(ranges.items(), commits, strict=True):
            for cluster, fragments in commit.by_cluster(numbers).items():
                expected = table_fingerprint(settings, base, [f["fragment"] for f in fragments])
                if next(found) != expected:
                    lacking.setdefault(key, []).append(cluster)
                clusters.append(Cluster(cluster, expected))
                advance(1)
    if lacking:
        count = sum(len(numbers) for numbers in lacking.values())
        listed = ", ".join(list(lacking)[:10])
        more = f" and {len(lacking) - 10} more" if len(lacking) > 10 else ""
        raise StaleError(
            f"{count} of {settings.n_clusters} pruning tables are missing or stale; materialize "
            f"pairwise_scores for partitions {listed}{more}"
        )
    return clusters


def _found(store: Store, clusters: Iterable[int]) -> Iterator[str | None]:
    """What the pruning table of each cluster says that it was made from; None if it is absent."""
    return (
        (info or {}).get("fingerprint")
        for info in store.map(lambda cluster: read_info(store, layout.scores(cluster)), clusters)
    )


def scores_fingerprint(settings: Settings, store: Store) -> str:
    """What the pruning tables of every key are made from: the same for any subset of keys."""
    manifest = load_manifest(settings, store)
    base = base_fingerprint(manifest, load_centroids(settings, store, manifest))
    shuffled = shuffle_fingerprint(base, cut_groups(settings, manifest))
    return fingerprint("scores", VERSION, shuffled, ranking(settings), *_precision(settings))


def table_fingerprint(settings: Settings, base: str, fragments: list[str]) -> str:
    """Digest of what a pruning table is made from: its fragments, the ranking, the precision."""
    order = ranking(settings)
    return fingerprint("scores", VERSION, base, sorted(fragments), order, *_precision(settings))


def _precision(settings: Settings) -> list[str]:
    """What a fingerprint says of the precision: exact scores are the same however computed."""
    return [] if settings.precision == "exact" else [settings.precision]


def ranking(settings: Settings) -> list[object]:
    """The settings that decide the order, and none that do not."""
    if settings.rank_by:
        return ["columns", *settings.rank_by]
    if settings.which_to_keep == "random":
        return ["random", settings.random_state]
    keep = "hard" if settings.which_to_keep == "hard" else "easy"
    return [keep, settings.sim_metric]


def _batches(tasks: list[_Task], rows: int) -> Iterator[list[_Task]]:
    """Clusters that are read and compared together: up to ``rows``, or one that has more."""
    batch: list[_Task] = []
    held = 0
    for task in tasks:
        if batch and held + task.rows > rows:
            yield batch
            batch, held = [], 0
        batch.append(task)
        held += task.rows
    if batch:
        yield batch


def _score_batch(
    settings: Settings, store: Store, manifest: Manifest, batch: list[_Task], advance: Advance
) -> None:
    """Read, rank and compare the rows of some clusters and write their pruning tables."""
    offsets = np.cumsum([0, *(task.rows for task in batch)])
    rows = np.empty((offsets[-1], manifest.dim), dtype=np.float32)
    ids: dict[int, pa.Array] = {}
    number = {task.number: i for i, task in enumerate(batch)}

    def read(task: _Task) -> pa.Array:
        i = number[task.number]
        return _read_ranked(settings, store, manifest, task, rows[offsets[i] : offsets[i + 1]])

    def keep(task: _Task, read_ids: pa.Array) -> None:
        ids[task.number] = read_ids
        read_one(1)

    # A remote reader or writer holds up to 16 MiB beside the rows: an eighth of the budget in all.
    remote = min(REQUESTS, max(2, settings.memory_budget // (128 << 20)))
    threads = store.threads(thread_count(), remote)
    with track("reading clusters", len(batch), "clusters") as read_one:
        in_threads(read, batch, threads, keep)
    counted = _Counted(advance)
    xp = device_array_module(resolve_device(settings.device))
    best = best_earlier_matches(
        xp.asarray(rows),
        offsets.tolist(),
        precision=settings.precision,
        memory_budget=settings.memory_budget // 2,
        largest_tile=settings.pairwise_batch_size,
        on_rows=counted,
    )
    advance(len(rows) - counted.rows)
    score, index = to_host(best.score), to_host(best.index)
    schema = schemas.pairs(manifest.id_type)

    def write(task: _Task) -> None:
        i = number[task.number]
        span = slice(offsets[i], offsets[i + 1])
        own = ids[task.number]
        table = pa.table([own, own.take(pa.array(index[span])), score[span]], schema=schema)
        info = {"fingerprint": task.fingerprint, "cluster": task.number}
        write_table(store, layout.scores(task.number), table, info)

    with track("writing scores", len(batch), "clusters") as written:
        in_threads(write, batch, threads, lambda task, nothing: written(1))


class _Counted:
    """Passes progress on and remembers how much, since copies of rows are not reported."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self.rows = 0

    def __call__(self, rows: int) -> None:
        self.rows += rows
        self._advance(rows)


def _read_ranked(
    settings: Settings, store: Store, manifest: Manifest, task: _Task, out: np.ndarray
) -> pa.Array:
    """Read a cluster's rows in rank order into ``out``, of shape (n, d). Returns their ids.

    Raises:
        StaleError: a fragment is missing, or has other rows than its commit says.
    """
    if not task.fragments:
        return pa.array([], manifest.id_type)
    parts = [read_table(store, fragment_path(store, task.number, name)) for name in task.fragments]
    table = pa.concat_tables(parts)
    if table.num_rows != len(out):
        raise StaleError(
            f"the fragments of cluster {task.number} hold {table.num_rows} rows and not the "
            f"{len(out)} that were written; materialize cluster_partitions again"
        )
    vectors = column_to_vectors(table[schemas.EMBEDDING], manifest.dim)
    table = table.drop_columns([schemas.EMBEDDING])
    by_id = pc.sort_indices(table[schemas.ID])
    table = table.take(by_id)
    order = _rank(settings, table)
    np.take(vectors, by_id.to_numpy()[order], axis=0, out=out, mode="clip")
    return table[schemas.ID].combine_chunks().take(pa.array(order))


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
    column = table[schemas.ID if name == settings.id_field else name].combine_chunks()
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


def _delete_beyond(settings: Settings, store: Store) -> None:
    """Delete tables of clusters that are no more, left by a larger ``n_clusters``."""
    for name in store.list(layout.SCORES, ".parquet"):
        number = layout.number_in(name, "cluster_", ".parquet")
        if number is not None and number >= settings.n_clusters:
            store.delete(f"{layout.SCORES}/{name}")
