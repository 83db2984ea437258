"""Apply a threshold: which clips to remove, and the summary that accounts for every row."""

import csv
import functools
import io
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.thresholds import canonical_eps, is_removed
from dedup_assets.errors import IntegrityError, SettingsError, StaleError, shown
from dedup_assets.progress import track
from dedup_assets.settings import Settings
from dedup_assets.stages.commits import count_rejected
from dedup_assets.stages.embeddings import load_manifest
from dedup_assets.stages.scores import Cluster, current_scores
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.tables import read_current, read_info, write_table

VERSION = 1
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
    examples: pa.Table
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


def list_duplicates(settings: Settings, store: Store, eps: str) -> Duplicates:
    """Write the ids to remove at ``eps``, cluster by cluster, and last the summary.

    Raises:
        StaleError: a pruning table is missing or stale.
        IntegrityError: kept, removed and rejected rows do not add up to the input.
    """
    clusters = current_scores(settings, store)
    manifest = load_manifest(settings, store)
    schema = schemas.pairs(manifest.id_type)
    listed = schemas.removed(manifest.id_type, ids_only=store.layout.ids_only)
    total = removed = reused = 0
    examples = schema.empty_table()
    with track(f"duplicates at eps {eps}", len(clusters), "clusters") as advance:
        for part in store.map(functools.partial(_list, store, eps, listed), clusters):
            total += part.rows
            removed += part.removed.num_rows
            reused += part.reused
            examples = _least_similar(pa.concat_tables([examples, part.removed.cast(schema)]))
            advance(1)
    _delete_beyond(settings, store, eps)
    rejected = count_rejected(settings, store, manifest)
    if total + rejected != manifest.rows:
        raise IntegrityError(
            f"kept {total - removed} + removed {removed} + rejected {rejected} must equal the "
            f"{manifest.rows} input rows; materialize cluster_partitions again"
        )
    result = Duplicates(
        eps=eps,
        kept=total - removed,
        removed=removed,
        rejected=rejected,
        reused=reused,
        examples=examples,
        fingerprint=duplicates_fingerprint(clusters, eps),
    )
    _write_summary(store, result)
    return result


@dataclass(frozen=True)
class _Part:
    """The list of a cluster: rows of its pruning table, and those that are removed."""

    rows: int
    removed: pa.Table
    reused: bool


def _list(store: Store, eps: str, schema: pa.Schema, cluster: Cluster) -> _Part:
    """Write the list of a cluster, unless the one that is there is current."""
    pairs = read_current(store, layout.scores(cluster.number), cluster.fingerprint)
    removed = removed_pairs(pairs, eps).sort_by(schemas.ID)
    expected = part_fingerprint(cluster, eps)
    reused = _part_found(store, eps, cluster) == expected
    if not reused:
        # Until the new summary is there, nothing may look finished.
        if store.exists(layout.summary(eps)):
            store.delete(layout.summary(eps))
        table = removed.select(schema.names).cast(schema)
        write_table(
            store, layout.unique_ids_part(eps, cluster.number), table, {"fingerprint": expected}
        )
    return _Part(pairs.num_rows, removed, reused)


def _part_found(store: Store, eps: str, cluster: Cluster) -> str | None:
    info = read_info(store, layout.unique_ids_part(eps, cluster.number))
    return (info or {}).get("fingerprint")


def removed_pairs(pairs: pa.Table, eps: str) -> pa.Table:
    """Rows of a pruning table that are removed at ``eps``."""
    has_earlier = pc.not_equal(pairs[schemas.ID], pairs[schemas.MAX_ID]).to_numpy()
    return pairs.filter(pa.array(is_removed(has_earlier, pairs[schemas.SCORE].to_numpy(), eps)))


def duplicates_fingerprint(clusters: list[Cluster], eps: str) -> str:
    return fingerprint("duplicates", VERSION, eps, [c.fingerprint for c in clusters])


def current_duplicates(settings: Settings, store: Store, eps: str) -> list[Cluster]:
    """All clusters, after checking that the ids to remove at ``eps`` are whole and current.

    Raises:
        StaleError: they are not.
    """
    clusters = current_scores(settings, store)
    if not _is_current(store, eps, clusters):
        raise StaleError(
            f"the duplicates at eps {eps} are missing or stale; materialize duplicate_ids for "
            f"partition {eps}"
        )
    return clusters


def stale_eps(settings: Settings, store: Store) -> list[str]:
    """eps values whose lists lie there and were made from other scores than the current ones."""
    found = map(layout.eps_of_summary, store.list(layout.EXTRACTION, ".csv"))
    values = [eps for eps in found if eps is not None]
    try:
        clusters = current_scores(settings, store) if values else []
    except StaleError:
        return values
    stale = []
    with track("checking the lists", len(values), "eps values") as advance:
        for eps in values:
            if not _is_current(store, eps, clusters):
                stale.append(eps)
            advance(1)
    return stale


def _is_current(store: Store, eps: str, clusters: list[Cluster]) -> bool:
    """Whether the lists at ``eps`` are whole and made from these scores."""
    parts = store.map(functools.partial(_part_found, store, eps), clusters)
    return read_summary(store, eps) is not None and all(
        found == part_fingerprint(cluster, eps)
        for cluster, found in zip(clusters, parts, strict=True)
    )


def read_summary(store: Store, eps: str) -> dict[str, Any] | None:
    """The summary of an eps as numbers, or None if there is none."""
    try:
        text = store.read_bytes(layout.summary(eps)).decode()
    except FileNotFoundError:
        return None
    row = next(csv.DictReader(io.StringIO(text)))
    return {name: value if name == "eps" else int(value) for name, value in row.items()}


def part_fingerprint(cluster: Cluster, eps: str) -> str:
    return fingerprint("unique_ids", VERSION, cluster.fingerprint, eps)


def _least_similar(pairs: pa.Table) -> pa.Table:
    order = [(schemas.SCORE, "ascending"), (schemas.ID, "ascending")]
    return pairs.take(pc.select_k_unstable(pairs, EXAMPLES, order))


def _write_summary(store: Store, result: Duplicates) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["eps", "kept", "removed", "total", "rejected"])
    writer.writerow([result.eps, result.kept, result.removed, result.total, result.rejected])
    store.write_bytes(layout.summary(result.eps), text.getvalue().encode())


def _delete_beyond(settings: Settings, store: Store, eps: str) -> None:
    for name in store.list(layout.unique_ids(eps), ".parquet"):
        number = layout.number_in(name, "part.", ".parquet")
        if number is not None and number >= settings.n_clusters:
            store.delete(f"{layout.unique_ids(eps)}/{name}")
