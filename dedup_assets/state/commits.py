"""The ledger of the shuffle: for each partition key the groups done, and the fragments made."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from dedup_assets.errors import StaleError
from dedup_assets.settings import Settings
from dedup_assets.state.centroids import Centroids
from dedup_assets.state.groups import Group
from dedup_assets.state.manifest import Manifest
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.tables import count_rows, info_of, read_table, write_table

VERSION = 1


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


def current_commit(commit: Commit | None, key: str, base: str, groups: list[Group]) -> Commit:
    """What was found to be finished for a key, if that is complete and current.

    Raises:
        StaleError: it is missing, made from something else, or lacks a group.
    """
    again = f"materialize cluster_partitions for partition {key}"
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


def read_commit(store: Store, key: str) -> Commit | None:
    """What is finished for a key, current or not; None if nothing is."""
    try:
        table = read_table(store, layout.partition_commit(key))
    except FileNotFoundError:
        return None
    info = info_of(table.schema)
    return Commit(info["base"], info["groups"], table.to_pylist(), info["rejected"])


def resumed_commit(
    settings: Settings,
    commit: Commit | None,
    base: str,
    groups: list[Group],
    fragments: set[str],
    rejected: set[str],
) -> Commit:
    """The still valid part of what an earlier run finished for a key.

    A group is not finished if a file of it is gone, or if it has invalid rows that were set aside
    and must now fail the run.

    Args:
        settings: of the dataset.
        commit: what was found.
        base: what all current fragments have in common.
        groups: the current ones.
        fragments: files below `layout.CLUSTERS`; ``rejected``: below `layout.REJECTED`.
    """
    if commit is None or commit.base != base:
        return Commit(base)
    current = {g.name for g in groups}
    named = [f for f in commit.fragments if f["group"] in current]
    missing = {f["group"] for f in named if fragment_name(f) not in fragments}
    missing |= {
        group
        for group in commit.rejected
        if settings.source.on_invalid == "fail" or f"{group}.parquet" not in rejected
    }
    kept = {group for group in commit.groups if group in current and group not in missing}
    return Commit(
        base,
        [group for group in commit.groups if group in kept],
        [f for f in commit.fragments if f["group"] in kept],
        {g: n for g, n in commit.rejected.items() if g in kept},
    )


def fragment_name(fragment: dict[str, Any]) -> str:
    """The file of a fragment, relative to `layout.CLUSTERS`."""
    path = layout.fragment(fragment["cluster"], fragment["fragment"])
    return path.removeprefix(f"{layout.CLUSTERS}/")


def missing_fragment(store: Store, path: str) -> StaleError:
    """What to say where a committed fragment is gone."""
    return StaleError(f"{store.url(path)} is missing; materialize cluster_partitions again")


def rejected_by_file(store: Store, groups: list[Group]) -> dict[str, int]:
    """Invalid rows of the current input that were set aside, by the file that lists them."""
    names = _rejected(store, groups)
    counts = store.map(lambda name: count_rows(store, name), names)
    return dict(zip(names, counts, strict=True))


def count_rejected(store: Store, groups: list[Group]) -> int:
    """How many these are."""
    return sum(rejected_by_file(store, groups).values())


def rejected_ids(store: Store, groups: list[Group]) -> Iterator[pa.ChunkedArray]:
    """The ids of these rows, but for nulls."""
    for name in _rejected(store, groups):
        yield read_table(store, name, [schemas.ID])[schemas.ID].drop_null()


def _rejected(store: Store, groups: list[Group]) -> list[str]:
    there = set(store.list(layout.REJECTED))
    return [layout.rejected(g.name) for g in groups if f"{g.name}.parquet" in there]


def write_commit(store: Store, key: str, commit: Commit) -> None:
    rows = sorted(commit.fragments, key=lambda f: (f["cluster"], f["fragment"]))
    table = pa.Table.from_pylist(rows, schema=schemas.PARTITION_COMMIT)
    write_table(
        store,
        layout.partition_commit(key),
        table,
        {"base": commit.base, "groups": sorted(commit.groups), "rejected": commit.rejected},
    )
