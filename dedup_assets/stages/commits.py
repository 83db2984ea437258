"""What the shuffle has finished: file groups, and for each partition key the fragments made."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dedup_assets.errors import StaleError
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import Centroids, load_centroids
from dedup_assets.stages.embeddings import Manifest
from dedup_assets.stages.ranges import cluster_ranges
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import DIGEST_LENGTH, digest, fingerprint
from dedup_assets.store.tables import count_rows, info_of, read_table, write_table

VERSION = 1
GROUP_BYTES = 1 << 30
FRAGMENT_BYTES = 1 << 20
MOST_GROUPS_BYTES = 4  # times the average: the most that a group may grow to by chance


@dataclass(frozen=True)
class Group:
    """Input files that are shuffled together; one fragment for each of their clusters."""

    name: str
    files: list[dict[str, Any]]

    @property
    def rows(self) -> int:
        return sum(file["rows"] for file in self.files)


@dataclass
class Commit:
    """What is finished for one partition key: the groups done, and the fragments they left."""

    base: str
    groups: list[str] = field(default_factory=list)
    fragments: list[dict[str, Any]] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)

    def by_cluster(self, clusters: range) -> dict[int, list[dict[str, Any]]]:
        """The fragments of each cluster; an empty cluster has none."""
        found: dict[int, list[dict[str, Any]]] = {cluster: [] for cluster in clusters}
        for fragment in self.fragments:
            found[fragment["cluster"]].append(fragment)
        return found

    @property
    def rows(self) -> int:
        return sum(f["rows"] for f in self.fragments)


def cut_groups(settings: Settings, manifest: Manifest) -> list[Group]:
    """File groups, a function of the sorted manifest and the configuration alone.

    By default a file begins a group if a hash of its name says so, which makes groups of
    `group_bytes` on average: a file that comes or goes changes its own group, or two, and leaves
    all others as they are, wherever it sorts.
    """
    groups: list[list[dict[str, Any]]] = []
    limit = group_bytes(settings)
    size = 0
    for file in manifest.files:
        if settings.files_per_partition is not None:
            full = bool(groups) and len(groups[-1]) >= settings.files_per_partition
        else:
            draw = int(digest(file["file"].encode()), 16) / 16**DIGEST_LENGTH
            full = draw < file["bytes"] / limit or size + file["bytes"] > MOST_GROUPS_BYTES * limit
        if not groups or full:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file["bytes"]
    # Rows of other columns, or of another length, are other rows.
    columns = [settings.id_field, settings.embedding_field, manifest.dim]
    return [
        Group(fingerprint(columns, [f["fingerprint"] for f in files]), files) for files in groups
    ]


def group_bytes(settings: Settings) -> int:
    """Input bytes of a group, on average; with many clusters more, so that fragments stay large."""
    return max(GROUP_BYTES, settings.n_clusters * FRAGMENT_BYTES)


def base_fingerprint(manifest: Manifest, centroids: Centroids) -> str:
    """What all fragments of a shuffle have in common."""
    return fingerprint(
        "fragments",
        VERSION,
        centroids.content,
        manifest.dim,
        str(manifest.id_type),
        [(f.name, str(f.type)) for f in manifest.metadata],
    )


def shuffle_fingerprint(base: str, groups: list[Group]) -> str:
    """What the fragments of every key are made from: the same for any subset of keys."""
    return fingerprint(base, sorted(group.name for group in groups))


def load_commit(store: Store, key: str, base: str, groups: list[Group]) -> Commit:
    """Read what is finished for a key, complete and current.

    Raises:
        StaleError: it is missing, made from something else, or lacks a group.
    """
    again = f"materialize cluster_partitions for partition {key}"
    commit = _read_commit(store, key)
    if commit is None:
        raise StaleError(f"the fragments of partition {key} are missing; {again}")
    if commit.base != base:
        raise StaleError(
            f"the fragments of partition {key} were made from other centroids; {again}"
        )
    if set(commit.groups) != {g.name for g in groups}:
        raise StaleError(
            f"the fragments of partition {key} do not cover the current input files; {again}"
        )
    return commit


@dataclass(frozen=True)
class Fragments:
    """The fragments of all clusters.

    Attributes:
        by_cluster: rows of `schemas.PARTITION_COMMIT` of each cluster; an empty one has none.
        fingerprint: digest of what all of them are made from.
    """

    by_cluster: dict[int, list[dict[str, Any]]]
    fingerprint: str

    @property
    def rows(self) -> int:
        return sum(f["rows"] for listed in self.by_cluster.values() for f in listed)


def current_fragments(settings: Settings, store: Store, manifest: Manifest) -> Fragments:
    """All fragments, after checking that the commit of each key is complete and current.

    Raises:
        StaleError: centroids or a commit are missing or stale.
    """
    base = base_fingerprint(manifest, load_centroids(settings, store, manifest))
    groups = cut_groups(settings, manifest)
    ranges = cluster_ranges(settings)
    commits = store.map(lambda key: load_commit(store, key, base, groups), ranges)
    by_cluster = {
        cluster: fragments
        for clusters, commit in zip(ranges.values(), commits, strict=True)
        for cluster, fragments in commit.by_cluster(clusters).items()
    }
    return Fragments(by_cluster, shuffle_fingerprint(base, groups))


def fragment_path(store: Store, cluster: int, name: str) -> str:
    """Where a committed fragment lies.

    Raises:
        StaleError: it is not there.
    """
    path = layout.fragment(cluster, name)
    if not store.exists(path):
        raise StaleError(f"{store.url(path)} is missing; materialize cluster_partitions again")
    return path


def count_rejected(settings: Settings, store: Store, manifest: Manifest) -> int:
    """Invalid rows of the current input that were set aside."""
    return sum(count_rows(store, name) for name in _rejected(settings, store, manifest))


def rejected_ids(settings: Settings, store: Store, manifest: Manifest) -> Iterator[pa.ChunkedArray]:
    """The ids of these rows, but for nulls."""
    for name in _rejected(settings, store, manifest):
        yield read_table(store, name, [schemas.ID])[schemas.ID].drop_null()


def _rejected(settings: Settings, store: Store, manifest: Manifest) -> Iterator[str]:
    names = (layout.rejected(group.name) for group in cut_groups(settings, manifest))
    return (name for name in names if store.exists(name))


def _read_commit(store: Store, key: str) -> Commit | None:
    try:
        table = read_table(store, layout.partition_commit(key))
    except FileNotFoundError:
        return None
    info = info_of(table.schema)
    return Commit(info["base"], info["groups"], table.to_pylist(), info["rejected"])


def found_commit(
    settings: Settings, store: Store, key: str, base: str, groups: list[Group]
) -> Commit:
    """The still valid part of what an earlier run finished for a key.

    A group is not finished if a file of it is gone, or if it has invalid rows that were set aside
    and must now fail the run.
    """
    commit = _read_commit(store, key)
    if commit is None or commit.base != base:
        return Commit(base)
    current = {g.name for g in groups}
    whole = [g for g in commit.groups if g in current]
    named = [f for f in commit.fragments if f["group"] in current]
    there = store.map(lambda f: store.exists(layout.fragment(f["cluster"], f["fragment"])), named)
    missing = {f["group"] for f, exists in zip(named, there, strict=True) if not exists}
    missing |= {
        group
        for group in commit.rejected
        if settings.on_invalid == "fail" or not store.exists(layout.rejected(group))
    }
    whole = [g for g in whole if g not in missing]
    kept = set(whole)
    return Commit(
        base,
        whole,
        [f for f in commit.fragments if f["group"] in kept],
        {g: n for g, n in commit.rejected.items() if g in kept},
    )


def write_commit(store: Store, key: str, commit: Commit) -> None:
    rows = sorted(commit.fragments, key=lambda f: (f["cluster"], f["fragment"]))
    table = pa.Table.from_pylist(rows, schema=schemas.PARTITION_COMMIT)
    write_table(
        store,
        layout.partition_commit(key),
        table,
        {"base": commit.base, "groups": sorted(commit.groups), "rejected": commit.rejected},
    )
