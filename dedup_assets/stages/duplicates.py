"""Apply a threshold: which clips to remove, and the summary that accounts for every row."""

import csv
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from dedup_assets.compute.thresholds import canonical_eps, score_threshold
from dedup_assets.errors import IntegrityError, SettingsError, StaleError, shown
from dedup_assets.progress import track
from dedup_assets.state.commits import count_rejected
from dedup_assets.state.lists import (
    ListLedger,
    lists_fingerprint,
    part_fingerprint,
    read_lists,
    write_lists,
)
from dedup_assets.state.scores import score_frame
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store, size_of
from dedup_assets.store.tables import read_info, to_frame, to_table, write_table

EXAMPLES = 20


@dataclass(frozen=True)
class Duplicates:
    """What an eps removes.

    Attributes:
        examples: the least similar removed pairs, ``id, max_id, cosine_sim_score``: where an eps
            that is too wide shows first.
        reused: clusters whose list was there already.
    """

    eps: str
    kept: int
    removed: int
    rejected: int
    reused: int
    examples: pl.DataFrame
    fingerprint: str

    @property
    def total(self) -> int:
        return self.kept + self.removed


def checked_eps(key: str, dataset: str) -> str:
    """The eps of a partition key, which must be spelled canonically.

    Raises:
        SettingsError: it is no eps, or spelled otherwise.
    """
    partitions = f"{dataset}/eps"
    way_out = (
        f"delete the partition {shown(key)} of {partitions} (in the UI: the menu beside "
        "Materialize on the asset's page, Delete partitions)"
    )
    try:
        eps = canonical_eps(key)
    except ValueError as error:
        raise SettingsError(f"{error}; {way_out}") from None
    if eps != key:
        raise SettingsError(
            f"eps partition {shown(key)} must be spelled {shown(eps)}; {way_out} and add "
            f"{shown(eps)}"
        )
    return eps


def list_duplicates(snapshot: Snapshot, eps: str) -> Duplicates:
    """Write the ids to remove at ``eps``, a file a cluster, then their ledger and the summary.

    A list that is current stays; one that is absent or cut is written again.

    Raises:
        StaleError: the scores of a cluster are missing or stale.
        IntegrityError: kept, removed and rejected rows do not add up to the input.
    """
    store, ledgers = snapshot.store, snapshot.ledgers
    lists = _Lists(snapshot, eps)
    total = sum(ledger.rows for ledger in ledgers.values())
    with track(f"duplicates at eps {eps}", total, "rows") as advance:
        for key, rows in zip(
            ledgers, store.map(lambda one: score_frame(store, one), ledgers.values()), strict=True
        ):
            lists.add(snapshot.ranges[key], rows)
            advance(rows.height)
    rejected = count_rejected(store, snapshot.groups)
    manifest = snapshot.manifest
    if total + rejected != manifest.rows:
        raise IntegrityError(
            f"kept {total - lists.removed} + removed {lists.removed} + rejected {rejected} must "
            f"equal the {manifest.rows} input rows; materialize cluster_partitions again"
        )
    result = Duplicates(
        eps=eps,
        kept=total - lists.removed,
        removed=lists.removed,
        rejected=rejected,
        reused=lists.reused,
        examples=lists.examples,
        fingerprint=lists.fingerprint,
    )
    lists.commit()
    if read_summary(store, eps) != _summary(result):
        _write_summary(store, result)
    return result


@dataclass
class _Lists:
    """The lists of all clusters at an eps, as they are written."""

    snapshot: Snapshot
    eps: str
    removed: int = 0
    reused: int = 0
    parts: dict[int, tuple[str, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        store = self.snapshot.store
        id_type = self.snapshot.manifest.id_type
        self.fingerprint = lists_fingerprint(self.snapshot.cluster_prints, self.eps)
        self.examples = to_frame(schemas.pairs(id_type).empty_table())
        self._schema = list_columns(self.snapshot)
        self._found = read_lists(store, self.eps)
        listed = store.list_versions(layout.unique_ids(self.eps))
        self._sizes = {name: size_of(version) for name, version in listed.items()}
        # A run that was stopped may have written lists that are not those of the ledger, and have
        # their size. It has deleted the summary, and then each list says what it is.
        self._sizes_tell = self._found is not None and read_summary(store, self.eps) is not None
        if self._found is None or self._found.fingerprint != self.fingerprint:
            store.delete(layout.summary(self.eps))  # until it is there, nothing may look finished

    def add(self, clusters: range, rows: pl.DataFrame) -> None:
        """Write the lists of the clusters of a ledger, each sorted by id."""
        listed = removed_at(self.eps, rows)
        self.removed += listed.height
        self.examples = _least_similar(
            pl.concat([self.examples, listed.select(self.examples.columns)])
        )
        each = zip(clusters, cut_by_cluster(listed, clusters, self._schema), strict=True)
        store = self.snapshot.store
        for cluster, (part, reused) in zip(
            clusters, store.map(lambda one: self._list(*one), each), strict=True
        ):
            self.parts[cluster] = part
            self.reused += reused

    def _list(self, cluster: int, rows: pa.Table) -> tuple[tuple[str, int, int], bool]:
        """Write the list of a cluster, unless the one that is there is current."""
        name = layout.unique_ids_part(self.eps, cluster)
        expected = part_fingerprint(self.snapshot.cluster_prints[cluster], self.eps)
        size = self._sizes.get(name.rpartition("/")[2])
        found = self._found.parts.get(cluster) if self._found else None
        known = found == (expected, rows.num_rows, size)
        if self._sizes_tell:
            reused = known
        elif size is None or (found is not None and found[0] == expected and not known):
            reused = False  # absent or cut
        else:
            info = read_info(self.snapshot.store, name)
            reused = (info or {}).get("fingerprint") == expected
        if not reused:
            size = write_table(self.snapshot.store, name, rows, {"fingerprint": expected})
        return (expected, rows.num_rows, size or 0), reused

    def commit(self) -> None:
        """Delete the lists of clusters that are no more, then write the ledger."""
        store = self.snapshot.store
        for name in self._sizes:
            number = layout.number_in(name, "part.", ".parquet")
            if number is not None and number not in self.parts:
                store.delete(f"{layout.unique_ids(self.eps)}/{name}")
        ledger = ListLedger(self.fingerprint, self.parts)
        if ledger != self._found:
            write_lists(store, self.eps, ledger)


def list_columns(snapshot: Snapshot) -> pa.Schema:
    """The columns of the lists in the layout of the output."""
    return schemas.removed_rows(snapshot.manifest.id_type, ids_only=snapshot.store.layout.ids_only)


def is_removed(eps: str) -> pl.Expr:
    """The one rule of removal: an earlier-ranked row is at least as similar as the threshold."""
    has_earlier = pl.col(schemas.ID) != pl.col(schemas.MAX_ID)
    return has_earlier & (pl.col(schemas.SCORE) >= pl.lit(score_threshold(eps), pl.Float32))


def removed_at(eps: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of scores that ``eps`` removes, by cluster and id."""
    return rows.filter(is_removed(eps)).sort(schemas.CLUSTER, schemas.ID)


def cut_by_cluster(
    listed: pl.DataFrame, clusters: Collection[int], schema: pa.Schema
) -> Iterator[pa.Table]:
    """Of rows sorted by cluster, those of each cluster, in the columns of ``schema``.

    They are converted at once: there may be more clusters than there are rows in one.
    """
    table = to_table(listed, schema)
    column = listed[schemas.CLUSTER].to_numpy()
    numbers = np.array(clusters)
    starts = np.searchsorted(column, numbers, "left").tolist()
    ends = np.searchsorted(column, numbers, "right").tolist()
    for start, end in zip(starts, ends, strict=True):
        # In one piece, since a file's pages end where a piece does.
        yield table.slice(start, end - start).combine_chunks()


def require_duplicates(snapshot: Snapshot, eps: str) -> str:
    """The fingerprint of the lists at ``eps``, after checking that they are whole and current.

    Raises:
        StaleError: they are not.
    """
    return current_lists(snapshot, eps).fingerprint


def current_lists(snapshot: Snapshot, eps: str) -> ListLedger:
    """The ledger of the lists at ``eps``, whole and current.

    Raises:
        StaleError: it is not.
    """
    expected = lists_fingerprint(snapshot.cluster_prints, eps)
    _ = snapshot.ledgers  # which says what is lacking where the scores are not current either
    found = read_lists(snapshot.store, eps)
    if found is None or found.fingerprint != expected or read_summary(snapshot.store, eps) is None:
        raise StaleError(
            f"the duplicates at eps {eps} are missing or stale; materialize duplicate_ids for "
            f"partition {eps}"
        )
    return found


def lists_lacking(snapshot: Snapshot, eps: str) -> str:
    """Why the lists at ``eps`` have to be written, all or some; empty if they have not.

    Raises:
        StaleError: the scores of a cluster are missing or stale.
    """
    _ = snapshot.ledgers
    found = read_lists(snapshot.store, eps)
    if found is None:
        return "not listed yet"
    if found.fingerprint != lists_fingerprint(snapshot.cluster_prints, eps):
        return "listed from other scores"
    if read_summary(snapshot.store, eps) is None:
        return "its summary is missing"
    lost = lost_lists(snapshot.store, eps, found)
    return f"{lost} of its files are missing or cut" if lost else ""


def lost_lists(store: Store, eps: str, ledger: ListLedger) -> int:
    """How many of the lists that a ledger names are missing or cut, going by one listing."""
    sizes = store.list_versions(layout.unique_ids(eps))
    names = (layout.unique_ids_part(eps, c).rpartition("/")[2] for c in ledger.parts)
    parts = zip(names, ledger.parts.values(), strict=True)
    return sum(name not in sizes or size_of(sizes[name]) != part[2] for name, part in parts)


def stale_eps(snapshot: Snapshot) -> list[str]:
    """eps values whose lists lie there and were made from other scores than the current ones."""
    # Not by a listing of all below: that has a file for each cluster, and for each at each eps.
    found = map(layout.eps_of_summary, snapshot.store.entries(layout.EXTRACTION).files)
    values = [eps for eps in found if eps is not None]
    prints = snapshot.cluster_prints
    stale = []
    with track("checking the lists", len(values), "eps values") as advance:
        for eps in values:
            ledger = read_lists(snapshot.store, eps)
            if ledger is None or ledger.fingerprint != lists_fingerprint(prints, eps):
                stale.append(eps)
            advance(1)
    return stale


def read_summary(store: Store, eps: str) -> dict[str, Any] | None:
    """The summary of an eps as numbers, or None if there is none."""
    try:
        text = store.read_bytes(layout.summary(eps)).decode()
    except FileNotFoundError:
        return None
    row = next(csv.DictReader(io.StringIO(text)))
    return {name: value if name == "eps" else int(value) for name, value in row.items()}


def _least_similar(pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.sort(schemas.SCORE, schemas.ID).head(EXAMPLES)


def _summary(result: Duplicates) -> dict[str, Any]:
    names = ("eps", "kept", "removed", "total", "rejected")
    return {name: getattr(result, name) for name in names}


def _write_summary(store: Store, result: Duplicates) -> None:
    summary = _summary(result)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(summary)
    writer.writerow(summary.values())
    store.write_bytes(layout.summary(result.eps), text.getvalue().encode())
