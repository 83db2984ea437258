"""The shuffle: one pass over the input that leaves each row in a fragment of its cluster."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.arrays import device_array_module, resolve_device, to_host
from dedup_assets.compute.assign import nearest_centroids
from dedup_assets.progress import Advance, track
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import Centroids, load_centroids, normalise, raise_invalid
from dedup_assets.stages.commits import (
    Commit,
    Group,
    base_fingerprint,
    count_rejected,
    cut_groups,
    found_commit,
    shuffle_fingerprint,
    write_commit,
)
from dedup_assets.stages.embeddings import Manifest, check_unchanged, input_files, load_manifest
from dedup_assets.stages.ranges import cluster_ranges, clusters_of
from dedup_assets.stages.spool import Spool
from dedup_assets.store import layout, schemas
from dedup_assets.store.arrow import vectors_to_column
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.inputs import RejectedRow
from dedup_assets.store.tables import write_table


@dataclass(frozen=True)
class Shuffled:
    """What a shuffle did.

    Attributes:
        commits: the state of each asked key.
        groups: groups of the input; ``reused``: how many of them nothing had to be done for.
        rejected: invalid rows of the whole input.
        spilled_bytes: vectors that went through scratch files.
        removed: stale files deleted; ``obsolete``: partition keys no longer in use.
        base: what all fragments have in common; ``fingerprint``: that, and the groups.
    """

    commits: dict[str, Commit]
    groups: int
    reused: int
    rejected: int
    spilled_bytes: int
    removed: int
    obsolete: list[str]
    base: str
    fingerprint: str


def shuffle(settings: Settings, store: Store, keys: list[str]) -> Shuffled:
    """Write the fragments of the clusters of ``keys``, group by group.

    Each finished group is recorded in the commit of each key, so a run that was stopped goes on
    after the last finished group, and only new groups are read when input is added.

    Raises:
        InputError: an invalid row (unless quarantined).
        StaleError: centroids or manifest are missing or stale, or a file changed.
    """
    manifest = load_manifest(settings, store)
    centroids = load_centroids(settings, store, manifest)
    base = base_fingerprint(manifest, centroids)
    groups = cut_groups(settings, manifest)
    ranges = clusters_of(settings, keys)
    commits = {key: found_commit(settings, store, key, base, groups) for key in keys}
    spilled = reused = 0
    with track("partitioning", manifest.rows, "rows") as advance:
        for group in groups:
            needed = {k: r for k, r in ranges.items() if group.name not in commits[k].groups}
            if not needed:
                reused += 1
                advance(group.rows)
                continue
            with Spool(settings.n_clusters, manifest.dim, settings.memory_budget // 2) as spool:
                rejected = _fill(spool, settings, manifest, centroids, group, advance)
                _write_rejected(store, manifest, group, rejected)
                _write_group(store, manifest, group, spool, needed, commits, len(rejected))
                spilled += spool.spilled_bytes
    removed, obsolete = _clean(settings, store, groups, commits)
    return Shuffled(
        commits=commits,
        groups=len(groups),
        reused=reused,
        rejected=count_rejected(settings, store, manifest),
        spilled_bytes=spilled,
        removed=removed,
        obsolete=obsolete,
        base=base,
        fingerprint=shuffle_fingerprint(base, groups),
    )


def _fill(
    spool: Spool,
    settings: Settings,
    manifest: Manifest,
    centroids: Centroids,
    group: Group,
    advance: Advance,
) -> list[RejectedRow]:
    """Read, validate, normalise and assign the rows of a group."""
    files = input_files(settings)
    xp = device_array_module(resolve_device(settings.device))
    values = xp.asarray(centroids.values)
    everything: list[RejectedRow] = []
    for file in group.files:
        check_unchanged(files, file)
        for batch in files.read(file["file"], manifest.dim):
            rows, good, rejected = normalise(batch)
            if rejected and settings.on_invalid == "fail":
                raise_invalid(rejected[0])
            everything += rejected
            assigned = nearest_centroids(
                xp.asarray(rows), values, memory_budget=settings.memory_budget // 4
            )
            columns = pa.table(
                {
                    schemas.ID: batch.ids.take(pa.array(good)),
                    schemas.COSINE_DISTANCE: to_host(assigned.cosine_distance),
                    schemas.L2_DISTANCE: to_host(assigned.l2_distance),
                }
            )
            for name in manifest.metadata.names:
                columns = columns.append_column(name, batch.metadata[name].take(pa.array(good)))
            spool.add(columns, rows, to_host(assigned.label))
            advance(len(batch.ids) + len(batch.rejected))
    return everything


def _write_group(
    store: Store,
    manifest: Manifest,
    group: Group,
    spool: Spool,
    needed: dict[str, range],
    commits: dict[str, Commit],
    rejected: int,
) -> None:
    schema = schemas.fragment(manifest.id_type, manifest.metadata)
    clusters = sum(len(r) for r in needed.values())
    with track("writing fragments", clusters, "clusters") as advance:
        for key, clusters_of_key in needed.items():
            commit = commits[key]
            for cluster in clusters_of_key:
                advance(1)
                if spool.rows[cluster] == 0:
                    continue
                name = fingerprint(commit.base, group.name, cluster)
                columns, vectors = spool.cluster(cluster)
                order = pc.sort_indices(columns[schemas.ID])
                table = columns.take(order).append_column(
                    schemas.EMBEDDING,
                    vectors_to_column(
                        vectors[order.to_numpy()], schema.field(schemas.EMBEDDING).type
                    ),
                )
                table = table.select(schema.names).cast(schema)
                info = {"base": commit.base, "group": group.name, "cluster": cluster}
                write_table(store, layout.fragment(cluster, name), table, info)
                commit.fragments.append(
                    {
                        "cluster": cluster,
                        "group": group.name,
                        "fragment": name,
                        "rows": table.num_rows,
                        "squared_distance": _sum_of_squares(table[schemas.L2_DISTANCE]),
                    }
                )
            commit.groups.append(group.name)
            if rejected:
                commit.rejected[group.name] = rejected
            write_commit(store, key, commit)


def _sum_of_squares(distances: pa.ChunkedArray) -> float:
    return float(np.square(distances.to_numpy().astype(np.float64)).sum())


def _write_rejected(
    store: Store, manifest: Manifest, group: Group, rejected: list[RejectedRow]
) -> None:
    if rejected:
        table = pa.Table.from_pylist(
            [vars(row) for row in rejected], schema=schemas.rejected(manifest.id_type)
        )
        write_table(store, layout.rejected(group.name), table, {"group": group.name})


def _clean(
    settings: Settings, store: Store, groups: list[Group], commits: dict[str, Commit]
) -> tuple[int, list[str]]:
    """Delete what no commit names any more, after the commits that replace it."""
    ranges = cluster_ranges(settings)
    committed = (name.removesuffix(".parquet") for name in store.list(layout.PARTITIONS))
    obsolete = [key for key in committed if key not in ranges]
    stale = [layout.partition_commit(key) for key in obsolete]
    stale += list(_stale_fragments(settings, store, commits))
    current = {f"{group.name}.parquet" for group in groups}
    stale += [
        f"{layout.REJECTED}/{name}" for name in store.list(layout.REJECTED) if name not in current
    ]
    for name in stale:
        store.delete(name)
    return len(stale), obsolete


def _stale_fragments(settings: Settings, store: Store, commits: dict[str, Commit]) -> Iterator[str]:
    named = {
        f"nearest_cent={f['cluster']}/{f['fragment']}.parquet"
        for commit in commits.values()
        for f in commit.fragments
    }
    ours = np.zeros(settings.n_clusters, dtype=bool)
    for key in commits:
        ours[cluster_ranges(settings)[key]] = True
    for name in store.list(layout.CLUSTERS):
        folder = name.split("/")[0].partition("=")[2]
        cluster = int(folder) if folder.isdigit() else -1
        beyond = cluster >= settings.n_clusters
        if name not in named and (beyond or (cluster >= 0 and ours[cluster])):
            yield f"{layout.CLUSTERS}/{name}"
