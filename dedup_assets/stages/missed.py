"""What clustering misses: a sample of rows is compared with all rows, whatever their cluster."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.intervals import Share, share
from dedup_assets.compute.thresholds import score_threshold
from dedup_assets.settings import Settings
from dedup_assets.stages.sample_draw import NO_GROUP, Former, last_in_order
from dedup_assets.stages.sample_pass import GROUPS, compare_sample
from dedup_assets.stages.sample_rows import group_names
from dedup_assets.state.manifest import Manifest
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.tables import info_of, read_table, write_table

VERSION = 2


@dataclass(frozen=True)
class Missed:
    """The sampled rows, with their best partners within their cluster and across all others.

    Attributes:
        table: rows of `schemas.missed`, by id; none where there is one cluster only.
        rows: of all clusters.
        one_cluster: nothing can be missed, so nothing was sampled.
        fingerprint: digest of the fragments and of what decides the sample.
        reused: whether the table was there already.
        compared_with_all: sampled rows that were compared with all rows; 0 if it was there.
        compared_with_new: those that were compared with the rows of new files only.
    """

    table: pa.Table
    rows: int
    one_cluster: bool
    fingerprint: str
    reused: bool
    compared_with_all: int = 0
    compared_with_new: int = 0

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
    if settings.clustering.missed_sample == 0 or settings.clustering.n_clusters == 1:
        snapshot.store.delete(layout.MISSED)
    elif found is None:
        return _make(snapshot)
    return found


def _make(snapshot: Snapshot) -> Missed:
    size = _sample_size(snapshot.settings, snapshot.manifest)
    compared = compare_sample(snapshot, size, _former(snapshot, size))
    digest = _fingerprint(snapshot)
    table = compared.table.select(schemas.missed(snapshot.manifest.id_type).names)
    info = {
        "fingerprint": digest,
        **_asked(snapshot, size),
        "groups": group_names(snapshot),
        **{name: compared.table[name].to_pylist() for name in GROUPS},
    }
    write_table(snapshot.store, layout.MISSED, table, info)
    return Missed(
        table,
        snapshot.rows,
        False,
        digest,
        reused=False,
        compared_with_all=compared.with_all,
        compared_with_new=table.num_rows - compared.with_all,
    )


def _former(snapshot: Snapshot, size: int) -> Former:
    """What the table on disk says of the groups that are still there."""
    schema = schemas.missed(snapshot.manifest.id_type)
    table = _read(snapshot)
    info: dict[str, Any] = {} if table is None else info_of(table.schema)
    asked = _asked(snapshot, size)
    if table is None or {name: info.get(name) for name in asked} != asked:
        table, info = schema.empty_table(), {"groups": [], **{name: [] for name in GROUPS}}
    names = {name: number for number, name in enumerate(group_names(snapshot))}
    now = [names.get(name) for name in info["groups"]]
    last = last_in_order(snapshot.settings, table["id"]) if table.num_rows == size else None
    for name in GROUPS:
        numbers = [number if number == NO_GROUP else now[number] for number in info[name]]
        table = table.append_column(name, pa.array(numbers, pa.int64()))
    kept = table.filter(pc.is_valid(table["group"]))
    return Former(frozenset(n for n in now if n is not None), kept, last)


def _read(snapshot: Snapshot) -> pa.Table | None:
    try:
        return read_table(snapshot.store, layout.MISSED)
    except FileNotFoundError:
        return None


def find_missed(snapshot: Snapshot) -> Missed | None:
    """What an earlier call of `estimate_missed` has written; None if that is not current, or off.

    Raises:
        StaleError: fragments are missing or stale.
    """
    settings = snapshot.settings
    if settings.clustering.missed_sample == 0:
        return None
    digest = _fingerprint(snapshot)
    rows = snapshot.rows
    if settings.clustering.n_clusters == 1:
        table = schemas.missed(snapshot.manifest.id_type).empty_table()
        return Missed(table, rows, True, digest, reused=True)
    table = _read(snapshot)
    # What is checked and what is read come from one open file, so no lease is needed.
    if table is None or info_of(table.schema).get("fingerprint") != digest:
        return None
    return Missed(table, rows, False, digest, reused=True)


def missed_lacking(snapshot: Snapshot) -> str:
    """Why the sample has to be compared or its table deleted; empty if it has not.

    Raises:
        StaleError: fragments are missing or stale.
    """
    settings = snapshot.settings
    if settings.clustering.missed_sample and settings.clustering.n_clusters > 1:
        return "" if find_missed(snapshot) is not None else "missing or stale"
    return "switched off" if snapshot.store.exists(layout.MISSED) else ""


def _sample_size(settings: Settings, manifest: Manifest) -> int:
    return max(
        1,
        min(
            settings.clustering.missed_sample,
            settings.compute.memory_budget // 4 // (4 * manifest.dim),
        ),
    )


def _fingerprint(snapshot: Snapshot) -> str:
    seed, size = (
        snapshot.settings.clustering.random_state,
        _sample_size(snapshot.settings, snapshot.manifest),
    )
    return fingerprint("missed", VERSION, snapshot.shuffled, seed, size)


def _asked(snapshot: Snapshot, size: int) -> dict[str, Any]:
    """What has to be the same for a table to be brought up to date."""
    seed = snapshot.settings.clustering.random_state
    return {"version": VERSION, "base": snapshot.base, "seed": seed, "size": size}
