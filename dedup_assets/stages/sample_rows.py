"""Rows of many fragments, batch by batch, for a pass over some or all of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.threads import thread_count
from dedup_assets.stages.readahead import REMOTE_READERS, read_ahead
from dedup_assets.state.commits import fragment_name, missing_fragment
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.arrow import column_to_vectors
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import read_batches


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
    """Of each fragment its batches, read ahead: there are many, and most are small."""
    with read_ahead(
        fragments,
        lambda fragment: read_batches(store, fragment.path, columns, rows),
        lambda batch: int(batch.nbytes),
        threads=store.threads(thread_count() if len(fragments) > 1 else 0, REMOTE_READERS),
        budget=budget,
        expected=budget // REMOTE_READERS,
    ) as sources:
        yield from sources


def read_rows(
    store: Store, fragments: Sequence[Fragment], rows: int, dim: int, budget: int
) -> Iterator[Batch]:
    """The rows of fragments, at least ``rows`` at a time but for the last, and below twice that.

    Fragments may be small, and a product of small matrices is slow.
    """
    held: list[tuple[Fragment, pa.RecordBatch]] = []
    columns = [schemas.ID, schemas.EMBEDDING]
    read = read_fragments(store, fragments, columns, rows, budget)
    for fragment, parts in zip(fragments, read, strict=True):
        for part in parts:
            held.append((fragment, part))
            if sum(len(part) for _, part in held) >= rows:
                yield _gather(held, dim)
                held = []
    if held:
        yield _gather(held, dim)


def _gather(held: list[tuple[Fragment, pa.RecordBatch]], dim: int) -> Batch:
    parts = [part for _, part in held]
    sizes = [len(part) for part in parts]
    embeddings = pa.chunked_array([part.column(schemas.EMBEDDING) for part in parts])
    return Batch(
        pa.concat_arrays([part.column(schemas.ID) for part in parts]),
        column_to_vectors(embeddings, dim),
        np.repeat([fragment.cluster for fragment, _ in held], sizes),
        np.repeat([fragment.group for fragment, _ in held], sizes),
    )


def matches(sample: pa.Array, ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Which of the sample are among ``ids``, and where: places in either, (k,) each."""
    found = pc.index_in(ids, value_set=sample)
    there = found.is_valid().to_numpy(zero_copy_only=False)
    return found.drop_null().to_numpy(), np.flatnonzero(there)
