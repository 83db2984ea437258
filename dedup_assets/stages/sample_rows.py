"""Rows of many fragments, batch by batch, for a pass over some or all of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.threads import thread_count
from dedup_assets.stages.readahead import REMOTE_READERS, read_ahead
from dedup_assets.state.commits import fragment_name, missing_fragment
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import read_batches
from dedup_assets.store.vectors import read_vector_batches

T = TypeVar("T")

_Part = tuple[pa.RecordBatch, np.ndarray]
"""Ids and vectors of some rows of a fragment."""


class Fragment(NamedTuple):
    """The rows of a file group in a cluster; ``group`` is its number in `group_names`."""

    cluster: int
    group: int
    path: str
    rows: int


@dataclass(frozen=True)
class Batch:
    """Some rows.

    Attributes:
        ids: of n rows.
        vectors: of shape (n, d), float32.
        clusters: of shape (n,), equal ones side by side.
        groups: of shape (n,), numbers in `group_names`.
    """

    ids: pa.Array
    vectors: np.ndarray
    clusters: np.ndarray
    groups: np.ndarray


def group_names(snapshot: Snapshot) -> list[str]:
    """The current file groups, in the order that numbers them here."""
    return sorted(group.name for group in snapshot.groups)


def list_fragments(snapshot: Snapshot) -> list[Fragment]:
    """All fragments, clusters side by side and ascending.

    Raises:
        StaleError: a fragment is missing.
    """
    there = set(snapshot.store.list(layout.CLUSTERS))
    numbers = {name: number for number, name in enumerate(group_names(snapshot))}
    listed = []
    for cluster, fragments in snapshot.fragments().items():
        for fragment in fragments:
            path = layout.fragment(cluster, fragment["fragment"])
            if fragment_name(fragment) not in there:
                raise missing_fragment(snapshot.store, path)
            group = numbers[fragment["group"]]
            listed.append(Fragment(cluster, group, path, fragment["rows"]))
    return listed


def count(fragments: Sequence[Fragment]) -> int:
    """Rows of some fragments."""
    return sum(fragment.rows for fragment in fragments)


def read_fragments(
    store: Store, fragments: Sequence[Fragment], columns: list[str], rows: int, budget: int
) -> Iterator[Iterator[pa.RecordBatch]]:
    """Some columns of each fragment in batches."""
    with _reading(
        store,
        fragments,
        lambda fragment: read_batches(store, fragment.path, columns, rows),
        lambda batch: int(batch.nbytes),
        budget,
    ) as sources:
        yield from sources


def _reading(
    store: Store,
    fragments: Sequence[Fragment],
    read: Callable[[Fragment], Iterator[T]],
    size: Callable[[T], int],
    budget: int,
) -> AbstractContextManager[Iterator[Iterator[T]]]:
    """The items of each fragment, read ahead: there are many fragments, and most are small."""
    return read_ahead(
        fragments,
        read,
        size,
        threads=store.threads(thread_count() if len(fragments) > 1 else 0, REMOTE_READERS),
        budget=budget,
        expected=budget // REMOTE_READERS,
    )


def read_rows(
    store: Store, fragments: Sequence[Fragment], rows: int, dim: int, budget: int
) -> Iterator[Batch]:
    """The rows of fragments, at least ``rows`` at a time but for the last, and below twice that.

    Fragments may be small, and a product of small matrices is slow.
    """
    held: list[tuple[Fragment, _Part]] = []

    def read(fragment: Fragment) -> Iterator[_Part]:
        return read_vector_batches(store, fragment.path, [schemas.ID], dim, rows)

    with _reading(store, fragments, read, _part_bytes, budget) as sources:
        for fragment, parts in zip(fragments, sources, strict=True):
            for part in parts:
                held.append((fragment, part))
                if sum(len(ids) for _, (ids, _) in held) >= rows:
                    yield _gather(held)
                    held = []
    if held:
        yield _gather(held)


def _part_bytes(part: _Part) -> int:
    columns, vectors = part
    return int(columns.nbytes + vectors.nbytes)


def _gather(held: list[tuple[Fragment, _Part]]) -> Batch:
    parts = [part for _, part in held]
    vectors = [vectors for _, vectors in parts]
    sizes = [len(rows) for rows in vectors]
    return Batch(
        pa.concat_arrays([columns.column(schemas.ID) for columns, _ in parts]),
        vectors[0] if len(vectors) == 1 else np.concatenate(vectors),
        np.repeat([fragment.cluster for fragment, _ in held], sizes),
        np.repeat([fragment.group for fragment, _ in held], sizes),
    )


def matches(sample: pa.Array, ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Which of the sample are among ``ids``, and where: places in either, (k,) each."""
    found = pc.index_in(ids, value_set=sample)
    there = found.is_valid().to_numpy(zero_copy_only=False)
    return found.drop_null().to_numpy(), np.flatnonzero(there)
