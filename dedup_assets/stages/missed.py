"""What clustering misses: a sample of rows is compared with all rows, whatever their cluster."""

import time
from dataclasses import dataclass

import pyarrow as pa

from dedup_assets.compute.intervals import Share, share
from dedup_assets.compute.thresholds import score_threshold
from dedup_assets.settings import Settings
from dedup_assets.stages.sample_pass import compare_sample
from dedup_assets.state.manifest import Manifest
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.tables import info_of, read_table, write_table

VERSION = 1


@dataclass(frozen=True)
class Missed:
    """The sampled rows, with their best partners within their cluster and across all others.

    Attributes:
        table: rows of `schemas.missed`, by id; none where there is one cluster only.
        rows: of all clusters.
        one_cluster: nothing can be missed, so nothing was sampled.
        fingerprint: digest of the fragments and of what decides the sample.
        reused: whether the table was there already.
        seconds: that it took to make; 0 if it was there.
    """

    table: pa.Table
    rows: int
    one_cluster: bool
    fingerprint: str
    reused: bool
    seconds: float = 0.0

    @property
    def id_type(self) -> pa.DataType:
        """Type of the ids."""
        return self.table.schema.field(schemas.ID).type

    def at(self, eps: str) -> Share:
        """Of the sampled rows with a duplicate at ``eps``, those with none in their own cluster.

        A partner counts whether it is ranked earlier or later: in question is what was compared,
        not which of a pair is removed.
        """
        if self.one_cluster:
            return Share(0, 0, 0.0, 0.0, 0.0)
        threshold = score_threshold(eps)
        # Where there is no such row there is a null, which becomes NaN and reaches no threshold.
        within = self.table["within_score"].to_numpy() >= threshold
        across = self.table["across_score"].to_numpy() >= threshold
        return share(
            int((across & ~within).sum()),
            int((across | within).sum()),
            all_counted=self.table.num_rows == self.rows,
        )

    def describe(self, eps: str) -> str:
        """`at` as text."""
        share = self.at(eps)
        return "no duplicates in the sample" if share.value is None else str(share)


def estimate_missed(snapshot: Snapshot) -> Missed | None:
    """Compare a sample with all rows and write what was found, unless a current table is there.

    Returns None, and deletes what an earlier run has written, if it is switched off.

    Raises:
        StaleError: fragments are missing or stale.
    """
    settings = snapshot.settings
    found = find_missed(snapshot)
    if settings.missed_sample == 0 or settings.n_clusters == 1:
        snapshot.store.delete(layout.MISSED)
    elif found is None:
        return _make(snapshot)
    return found


def _make(snapshot: Snapshot) -> Missed:
    started = time.monotonic()
    size = _sample_size(snapshot.settings, snapshot.manifest)
    table = compare_sample(snapshot, size)
    print_ = _fingerprint(snapshot)
    write_table(snapshot.store, layout.MISSED, table, {"fingerprint": print_})
    seconds = time.monotonic() - started
    return Missed(table, snapshot.rows, False, print_, reused=False, seconds=seconds)


def find_missed(snapshot: Snapshot) -> Missed | None:
    """What an earlier call of `estimate_missed` has written; None if that is not current, or off.

    Raises:
        StaleError: fragments are missing or stale.
    """
    settings = snapshot.settings
    if settings.missed_sample == 0:
        return None
    print_ = _fingerprint(snapshot)
    rows = snapshot.rows
    if settings.n_clusters == 1:
        table = schemas.missed(snapshot.manifest.id_type).empty_table()
        return Missed(table, rows, True, print_, reused=True)
    try:
        table = read_table(snapshot.store, layout.MISSED)
    except FileNotFoundError:
        return None
    # What is checked and what is read come from one open file, so no lease is needed.
    if info_of(table.schema).get("fingerprint") != print_:
        return None
    return Missed(table, rows, False, print_, reused=True)


def missed_lacking(snapshot: Snapshot) -> str:
    """Why the sample has to be compared or its table deleted; empty if it has not.

    Raises:
        StaleError: fragments are missing or stale.
    """
    settings = snapshot.settings
    if settings.missed_sample and settings.n_clusters > 1:
        return "" if find_missed(snapshot) is not None else "missing or stale"
    return "switched off" if snapshot.store.exists(layout.MISSED) else ""


def _sample_size(settings: Settings, manifest: Manifest) -> int:
    return max(1, min(settings.missed_sample, settings.memory_budget // 4 // (4 * manifest.dim)))


def _fingerprint(snapshot: Snapshot) -> str:
    seed, size = snapshot.settings.random_state, _sample_size(snapshot.settings, snapshot.manifest)
    return fingerprint("missed", VERSION, snapshot.shuffled, seed, size)
