"""The tasks of the shuffle: file groups, whose rows go to fragments of their clusters."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.arrays import to_device, to_host
from dedup_assets.compute.assign import Assigner
from dedup_assets.compute.threads import thread_count
from dedup_assets.engine import Common
from dedup_assets.progress import Advance, track
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import normalise, raise_invalid
from dedup_assets.stages.embeddings import check_unchanged, input_files
from dedup_assets.stages.machine import compute_budget, compute_module
from dedup_assets.stages.memory import shares
from dedup_assets.stages.readahead import REMOTE_READERS, read_ahead, readers_for
from dedup_assets.stages.spool import Spool
from dedup_assets.stages.writebehind import WriteBehind, writers_for
from dedup_assets.state.commits import Commit
from dedup_assets.state.groups import Group
from dedup_assets.state.manifest import Manifest
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.arrow import vectors_to_column
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.inputs import InputFiles, RejectedRow
from dedup_assets.store.tables import ROWS_PER_GROUP, write_table, write_tables


@dataclass(frozen=True)
class Task:
    """A file group, and the partition keys that lack it."""

    group: Group
    keys: list[str]


@dataclass(frozen=True)
class Done:
    """What became of a group.

    Attributes:
        fragments: those written for each key that lacked the group, as its commit lists them.
        rejected: its invalid rows.
        spilled_bytes: of its rows, through scratch files.
    """

    group: str
    fragments: dict[str, list[dict[str, Any]]]
    rejected: int
    spilled_bytes: int

    def enter(self, commits: dict[str, Commit]) -> None:
        """Note the group in the commit of each key."""
        for key, fragments in self.fragments.items():
            commits[key].fragments += fragments
            commits[key].groups.append(self.group)
            if self.rejected:
                commits[key].rejected[self.group] = self.rejected


@dataclass(frozen=True)
class Shuffling(Common):
    """What the tasks of a shuffle have in common."""

    snapshot: Snapshot
    background: bool

    @cached_property
    def source(self) -> InputFiles:
        return input_files(self.snapshot.settings)

    @cached_property
    def xp(self) -> ModuleType:
        return compute_module(self.snapshot.settings)

    @cached_property
    def assigner(self) -> Assigner:
        settings = self.snapshot.settings
        on_host = shares(settings.compute.memory_budget).assign
        budget = on_host if self.xp is np else compute_budget(settings) // 4
        values = to_device(self.xp, self.snapshot.centroids.values)
        return Assigner(values, memory_budget=budget)


def shuffle_groups(common: Shuffling, tasks: Iterable[Task], advance: Advance) -> Iterator[Done]:
    """Shuffle some groups, each read while the one before it is written."""
    tasks = list(tasks)
    settings, manifest = common.snapshot.settings, common.snapshot.manifest
    share, source = shares(settings.compute.memory_budget), common.source
    readers = source.store.threads(readers_for(thread_count()), REMOTE_READERS)
    with (
        read_ahead(
            [file for task in tasks for file in task.group.files],
            functools.partial(_read, settings, source, manifest.dim),
            lambda rows: rows.nbytes,
            threads=readers if common.background else 0,
            budget=share.read_ahead,
            expected=share.batch,
        ) as files,
        WriteBehind(
            writers_for(thread_count()) if common.background else 0, share.write_behind
        ) as behind,
        Spool(settings.clustering.n_clusters, manifest.dim, share.spool) as spool,
    ):
        for task in tasks:
            before = spool.spilled_bytes
            batches = (rows for _ in task.group.files for rows in next(files))
            rejected = _fill(spool, common.xp, common.assigner, batches, advance)
            _write_rejected(common.snapshot.store, manifest, task.group, rejected)
            fragments = _write_group(common.snapshot, task, spool, behind)
            behind.drain()
            yield Done(task.group.name, fragments, len(rejected), spool.spilled_bytes - before)
            spool.clear()


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
    snapshot: Snapshot, task: Task, spool: Spool, behind: WriteBehind
) -> dict[str, list[dict[str, Any]]]:
    """Begin to write the fragments of a group for each key that lacks it; returns what they are."""
    store, base, group = snapshot.store, snapshot.base, task.group.name
    schema = schemas.fragment(snapshot.manifest.id_type, snapshot.manifest.metadata)
    begun: dict[str, list[dict[str, Any]]] = {key: [] for key in task.keys}
    clusters = sum(len(snapshot.ranges[key]) for key in task.keys)
    with track("writing fragments", clusters, "clusters") as advance:
        for key, cluster in ((k, c) for k in task.keys for c in snapshot.ranges[k]):
            advance(1)
            if spool.rows[cluster] == 0:
                continue
            name = fingerprint(base, group, cluster)
            columns, vectors = spool.cluster(cluster)
            order = pc.sort_indices(columns[schemas.ID])
            columns = columns.take(order)
            info = {"base": base, "group": group, "cluster": cluster}
            tables = _fragment(schema, columns, vectors, order.to_numpy())
            write = functools.partial(
                write_tables, store, layout.fragment(cluster, name), schema, tables, info
            )
            behind.write(write, vectors.nbytes + columns.nbytes)
            begun[key].append(
                {
                    "cluster": cluster,
                    "group": group,
                    "fragment": name,
                    "rows": len(vectors),
                    "squared_distance": _sum_of_squares(columns[schemas.L2_DISTANCE]),
                }
            )
    return begun


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
