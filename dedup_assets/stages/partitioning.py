"""The shuffle: one pass over the input that leaves each row in a fragment of its cluster."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.arrays import to_device, to_host
from dedup_assets.compute.assign import Assigner
from dedup_assets.progress import Advance, track
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import normalise, raise_invalid
from dedup_assets.stages.embeddings import check_unchanged, input_files
from dedup_assets.stages.machine import compute_budget, compute_module
from dedup_assets.stages.memory import shares
from dedup_assets.stages.readahead import READERS, REMOTE_READERS, read_ahead
from dedup_assets.stages.spool import Spool
from dedup_assets.stages.writebehind import WRITERS, WriteBehind
from dedup_assets.state.commits import (
    Commit,
    count_rejected,
    fragment_name,
    resumed_commit,
    write_commit,
)
from dedup_assets.state.groups import Group
from dedup_assets.state.manifest import Manifest
from dedup_assets.state.ranges import clusters_of
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.arrow import vectors_to_column
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.inputs import InputFiles, RejectedRow
from dedup_assets.store.tables import ROWS_PER_GROUP, write_table, write_tables


@dataclass(frozen=True)
class Shuffled:
    """What a shuffle did.

    Attributes:
        commits: the state of each asked key.
        groups: groups of the input; ``reused``: how many of them nothing had to be done for.
        rows_read: rows of the other groups; ``bytes_read``: of their files.
        rejected: invalid rows of the whole input.
        spilled_bytes: rows that went through scratch files.
        removed: stale files deleted; ``obsolete``: partition keys no longer in use.
        base: what all fragments have in common; ``fingerprint``: that, and the groups.
    """

    commits: dict[str, Commit]
    groups: int
    reused: int
    rows_read: int
    bytes_read: int
    rejected: int
    spilled_bytes: int
    removed: int
    obsolete: list[str]
    base: str
    fingerprint: str

    @property
    def fragments(self) -> int:
        """Fragments of the asked keys, whichever run wrote them."""
        return sum(len(commit.fragments) for commit in self.commits.values())


def shuffle(snapshot: Snapshot, keys: list[str], *, background: bool = True) -> Shuffled:
    """Write the fragments of the clusters of ``keys``, group by group.

    Each finished group is recorded in the commit of each key, so a run that was stopped goes on
    after the last finished group, and only new groups are read when input is added.

    Args:
        snapshot: what is written goes to its store.
        keys: partition keys.
        background: whether threads read ahead and write behind; it changes nothing written.

    Raises:
        InputError: an invalid row (unless quarantined).
        StaleError: centroids or manifest are missing or stale, or a file changed.
    """
    settings, store = snapshot.settings, snapshot.store
    ranges = clusters_of(settings, keys)
    manifest, centroids, groups = snapshot.manifest, snapshot.centroids, snapshot.groups
    there = set(store.list(layout.CLUSTERS))
    aside = set(store.list(layout.REJECTED))
    found = snapshot.found_commits(keys)
    commits = {
        key: resumed_commit(settings, commit, snapshot.base, groups, there, aside)
        for key, commit in found.items()
    }
    todo = [g for g in groups if any(g.name not in c.groups for c in commits.values())]
    for key, commit in commits.items():
        if commit != found[key] and len(commit.groups) == len(groups):  # some only went
            write_commit(store, key, commit)
    share = shares(settings.compute.memory_budget)
    source = input_files(settings)
    xp = compute_module(settings)
    budget = share.assign if xp is np else compute_budget(settings) // 4
    assigner = Assigner(to_device(xp, centroids.values), memory_budget=budget)
    with (
        track("partitioning", manifest.rows, "rows") as advance,
        read_ahead(
            [file for group in todo for file in group.files],
            functools.partial(_read, settings, source, manifest.dim),
            lambda rows: rows.nbytes,
            threads=source.store.threads(READERS, REMOTE_READERS) if background else 0,
            budget=share.read_ahead,
            expected=share.batch,
        ) as files,
        WriteBehind(WRITERS if background else 0, share.write_behind) as behind,
        Spool(settings.clustering.n_clusters, manifest.dim, share.spool) as spool,
    ):
        advance(manifest.rows - sum(group.rows for group in todo))
        for group in todo:
            needed = {k: r for k, r in ranges.items() if group.name not in commits[k].groups}
            batches = (rows for _ in group.files for rows in next(files))
            rejected = _fill(spool, xp, assigner, batches, advance)
            _write_rejected(store, manifest, group, rejected)
            _write_group(store, manifest, group, spool, needed, commits, len(rejected), behind)
            behind.drain()  # the next group changes the commits
            spool.clear()
    stale = left_over(snapshot, commits)
    for name in stale:
        store.delete(name)
    return Shuffled(
        commits=commits,
        groups=len(groups),
        reused=len(groups) - len(todo),
        rows_read=sum(group.rows for group in todo),
        bytes_read=sum(group.bytes for group in todo),
        rejected=count_rejected(store, groups),
        spilled_bytes=spool.spilled_bytes,
        removed=len(stale),
        obsolete=[
            name.removeprefix(f"{layout.PARTITIONS}/").removesuffix(".parquet")
            for name in stale
            if name.startswith(f"{layout.PARTITIONS}/")
        ],
        base=snapshot.base,
        fingerprint=snapshot.shuffled,
    )


@dataclass(frozen=True)
class _Rows:
    """The valid rows of a batch: unit vectors of shape (n, d), ids and carried columns."""

    vectors: np.ndarray
    columns: pa.Table
    rejected: list[RejectedRow]

    @property
    def nbytes(self) -> int:
        return int(self.vectors.nbytes + self.columns.nbytes)


def _read(settings: Settings, files: InputFiles, dim: int, file: dict[str, Any]) -> Iterator[_Rows]:
    """Read, validate and normalise the rows of a file."""
    check_unchanged(files, file)
    batch_bytes = shares(settings.compute.memory_budget).batch
    for batch in files.read(file["file"], dim, batch_bytes=batch_bytes):
        vectors, good, rejected = normalise(batch)
        if rejected and settings.source.on_invalid == "fail":
            raise_invalid(rejected[0])
        columns = batch.metadata.add_column(0, schemas.ID, batch.ids)
        if len(good) < len(columns):
            columns = columns.take(pa.array(good))
        del batch  # the unit vectors are all that is needed of it
        yield _Rows(vectors, columns, rejected)
        del vectors, columns


def _fill(
    spool: Spool,
    xp: ModuleType,
    assigner: Assigner,
    batches: Iterable[_Rows],
    advance: Advance,
) -> list[RejectedRow]:
    """Assign the rows of a group to their clusters."""
    rejected: list[RejectedRow] = []
    for rows in batches:
        assigned = assigner.assign(to_device(xp, rows.vectors))
        columns = rows.columns
        for name, distance in (
            (schemas.COSINE_DISTANCE, assigned.cosine_distance),
            (schemas.L2_DISTANCE, assigned.l2_distance),
        ):
            columns = columns.append_column(name, pa.array(to_host(distance)))
        spool.add(columns, rows.vectors, to_host(assigned.label))
        rejected += rows.rejected
        advance(len(rows.vectors) + len(rows.rejected))
        del rows, columns  # not held while the next ones are waited for
    return rejected


def _write_group(
    store: Store,
    manifest: Manifest,
    group: Group,
    spool: Spool,
    needed: dict[str, range],
    commits: dict[str, Commit],
    rejected: int,
    behind: WriteBehind,
) -> None:
    schema = schemas.fragment(manifest.id_type, manifest.metadata)
    clusters = sum(len(r) for r in needed.values())
    with track("writing fragments", clusters, "clusters") as advance:
        for key, clusters_of_key in needed.items():
            commit = commits[key]
            written = []
            for cluster in clusters_of_key:
                advance(1)
                if spool.rows[cluster] == 0:
                    continue
                name = fingerprint(commit.base, group.name, cluster)
                columns, vectors = spool.cluster(cluster)
                order = pc.sort_indices(columns[schemas.ID])
                columns = columns.take(order)
                info = {"base": commit.base, "group": group.name, "cluster": cluster}
                tables = _fragment(schema, columns, vectors, order.to_numpy())
                write = functools.partial(
                    write_tables, store, layout.fragment(cluster, name), schema, tables, info
                )
                written.append(behind.write(write, vectors.nbytes + columns.nbytes))
                commit.fragments.append(
                    {
                        "cluster": cluster,
                        "group": group.name,
                        "fragment": name,
                        "rows": len(vectors),
                        "squared_distance": _sum_of_squares(columns[schemas.L2_DISTANCE]),
                    }
                )
            commit.groups.append(group.name)
            if rejected:
                commit.rejected[group.name] = rejected
            behind.write(functools.partial(write_commit, store, key, commit), 0, after=written)


def _fragment(
    schema: pa.Schema, columns: pa.Table, vectors: np.ndarray, order: np.ndarray
) -> Iterator[pa.Table]:
    """Sorted columns with their vectors, a row group at a time."""
    type_ = schema.field(schemas.EMBEDDING).type
    for start in range(0, len(vectors), ROWS_PER_GROUP):
        part = columns.slice(start, ROWS_PER_GROUP)
        rows = vectors[order[start : start + ROWS_PER_GROUP]]
        part = part.append_column(schemas.EMBEDDING, vectors_to_column(rows, type_))
        yield part.select(schema.names).cast(schema)


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


def left_over(
    snapshot: Snapshot, commits: dict[str, Commit], fragments: Iterable[str] | None = None
) -> list[str]:
    """Files of earlier runs that nothing names any more; deleted after the commits are written.

    Args:
        snapshot: of the output.
        commits: of some keys; fragments of the clusters of other keys are left alone.
        fragments: what lies below `layout.CLUSTERS`, if that was listed already.
    """
    store = snapshot.store
    stale = [
        layout.partition_commit(key)
        for name in store.list(layout.PARTITIONS)
        if (key := name.removesuffix(".parquet")) not in snapshot.ranges
    ]
    there = store.list(layout.CLUSTERS) if fragments is None else fragments
    stale += _stale_fragments(snapshot, commits, there)
    current = {f"{group.name}.parquet" for group in snapshot.groups}
    aside = store.list(layout.REJECTED)
    return stale + [f"{layout.REJECTED}/{name}" for name in aside if name not in current]


def _stale_fragments(
    snapshot: Snapshot, commits: dict[str, Commit], fragments: Iterable[str]
) -> Iterator[str]:
    settings = snapshot.settings
    named = {fragment_name(f) for commit in commits.values() for f in commit.fragments}
    ours = np.zeros(settings.clustering.n_clusters, dtype=bool)
    for key in commits:
        ours[snapshot.ranges[key]] = True
    for name in fragments:
        cluster = layout.number_in(name.split("/")[0], "nearest_cent=")
        if cluster is None or name in named:
            continue
        if cluster >= settings.clustering.n_clusters or ours[cluster]:
            yield f"{layout.CLUSTERS}/{name}"
