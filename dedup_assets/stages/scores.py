"""For each cluster: rank its rows and find each one's best earlier match."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.arrays import device_array_module, resolve_device, to_host
from dedup_assets.compute.pairwise import best_earlier_match
from dedup_assets.compute.ranking import RankKey, rank_order
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
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
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


class _Counted:
    """Passes progress on and remembers how much, since copies of rows are not reported."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self.rows = 0

    def __call__(self, rows: int) -> None:
        self.rows += rows
        self._advance(rows)


def score(settings: Settings, store: Store, keys: list[str]) -> dict[str, KeyScores]:
    """Write the pruning tables of the clusters of ``keys``; tables that are current stay.

    Raises:
        StaleError: the fragments of a key are missing or stale.
    """
    manifest = load_manifest(settings, store)
    base = base_fingerprint(manifest, load_centroids(settings, store, manifest))
    groups = cut_groups(settings, manifest)
    ranges = clusters_of(settings, keys)
    commits = {key: load_commit(store, key, base, groups) for key in keys}
    done = {}
    with track("comparing", sum(c.rows for c in commits.values()), "rows") as advance:
        for key, clusters in ranges.items():
            by_cluster = commits[key].by_cluster(clusters)
            reused = largest = 0
            prints = []
            for cluster, fragments in by_cluster.items():
                rows = sum(f["rows"] for f in fragments)
                counted = _Counted(advance)
                names = [f["fragment"] for f in fragments]
                expected = table_fingerprint(settings, base, names)
                name = layout.scores(cluster)
                if (read_info(store, name) or {}).get("fingerprint") == expected:
                    reused += 1
                else:
                    table = _score_cluster(settings, store, manifest, cluster, names, counted)
                    write_table(store, name, table, {"fingerprint": expected, "cluster": cluster})
                largest = max(largest, rows)
                prints.append(expected)
                advance(rows - counted.rows)
            done[key] = KeyScores(
                commits[key].rows, len(clusters), reused, largest, fingerprint(prints)
            )
    _delete_beyond(settings, store)
    return done


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
        for key, numbers in cluster_ranges(settings).items():
            commit = load_commit(store, key, base, groups)
            for cluster, fragments in commit.by_cluster(numbers).items():
                expected = table_fingerprint(settings, base, [f["fragment"] for f in fragments])
                info = read_info(store, layout.scores(cluster))
                if info is None or info.get("fingerprint") != expected:
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


def scores_fingerprint(settings: Settings, store: Store) -> str:
    """What the pruning tables of every key are made from: the same for any subset of keys."""
    manifest = load_manifest(settings, store)
    base = base_fingerprint(manifest, load_centroids(settings, store, manifest))
    shuffled = shuffle_fingerprint(base, cut_groups(settings, manifest))
    return fingerprint("scores", VERSION, shuffled, ranking(settings))


def table_fingerprint(settings: Settings, base: str, fragments: list[str]) -> str:
    """Digest of what a pruning table is made from: its fragments and the ranking."""
    return fingerprint("scores", VERSION, base, sorted(fragments), ranking(settings))


def ranking(settings: Settings) -> list[object]:
    """The settings that decide the order, and none that do not."""
    if settings.rank_by:
        return ["columns", *settings.rank_by]
    if settings.which_to_keep == "random":
        return ["random", settings.random_state]
    keep = "hard" if settings.which_to_keep == "hard" else "easy"
    return [keep, settings.sim_metric]


def _score_cluster(
    settings: Settings,
    store: Store,
    manifest: Manifest,
    cluster: int,
    fragments: list[str],
    on_rows: Advance,
) -> pa.Table:
    schema = schemas.pairs(manifest.id_type)
    if not fragments:
        return schema.empty_table()
    ids, rows = _ranked(settings, store, manifest, cluster, fragments)
    xp = device_array_module(resolve_device(settings.device))
    best = best_earlier_match(
        xp.asarray(rows), memory_budget=_tile_budget(settings, manifest.dim), on_rows=on_rows
    )
    return pa.table(
        [ids, ids.take(pa.array(to_host(best.index))), to_host(best.score)], schema=schema
    )


def _ranked(
    settings: Settings, store: Store, manifest: Manifest, cluster: int, fragments: list[str]
) -> tuple[pa.Array, np.ndarray]:
    """Ids and (n, d) float32 rows of a cluster in rank order.

    A function of its own, so that what was read is freed before the rows are compared.
    """
    parts = [read_table(store, fragment_path(store, cluster, name)) for name in fragments]
    table = pa.concat_tables(parts)
    vectors = column_to_vectors(table[schemas.EMBEDDING], manifest.dim)
    table = table.drop_columns([schemas.EMBEDDING])
    by_id = pc.sort_indices(table[schemas.ID])
    table = table.take(by_id)
    order = _rank(settings, table)
    ids = table[schemas.ID].combine_chunks().take(pa.array(order))
    return ids, vectors[by_id.to_numpy()[order]]


def _tile_budget(settings: Settings, dim: int) -> int:
    if settings.pairwise_batch_size is None:
        return settings.memory_budget // 2
    side = settings.pairwise_batch_size
    return min(settings.memory_budget // 2, side * side * 32 + side * dim * 24)


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
        number = name.removeprefix("cluster_").removesuffix(".parquet")
        if number.isdigit() and int(number) >= settings.n_clusters:
            store.delete(f"{layout.SCORES}/{name}")
