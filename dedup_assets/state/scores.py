"""The ledger of the scores: for each partition key the rows of all its clusters in one file."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from dedup_assets.errors import StaleError
from dedup_assets.settings import Settings
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.tables import read_current, read_info, to_frame, write_table

VERSION = 1


@dataclass(frozen=True)
class Entry:
    """What a ledger says of a cluster.

    Attributes:
        fingerprint: digest of what its scores were made from.
        rows: how many it has.
        bytes: of its pruning table.
    """

    fingerprint: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class ScoreLedger:
    """What the ledger of a key says of its clusters, without their rows.

    Attributes:
        key: the partition key.
        fingerprint: digest of everything below.
        compared_by: what decides the scores of given rows: centroids, columns, ranking, precision.
        clusters: by number, ascending.
        groups: the file groups that their rows came from.
    """

    key: str
    fingerprint: str
    compared_by: str
    clusters: dict[int, Entry]
    groups: frozenset[str]

    def current(self, expected: dict[int, str]) -> set[int]:
        """The clusters whose scores are those of ``expected``, a fingerprint for each cluster."""
        return {c for c, e in self.clusters.items() if expected.get(c) == e.fingerprint}

    @property
    def rows(self) -> int:
        return sum(entry.rows for entry in self.clusters.values())


def read_ledger(store: Store, key: str) -> ScoreLedger | None:
    """The ledger of a key, current or not; None if there is none."""
    info = read_info(store, layout.score_ledger(key))
    if info is None or info.get("version") != VERSION:
        return None
    clusters = {number: Entry(*values) for number, *values in info["clusters"]}
    groups = frozenset(info.get("groups", []))  # earlier versions did not say
    return ScoreLedger(key, info["fingerprint"], info["compared_by"], clusters, groups)


def read_scores(store: Store, ledger: ScoreLedger, columns: list[str] | None = None) -> pa.Table:
    """Rows of `schemas.score_ledger`: clusters ascending, in each the order of rank.

    Raises:
        StaleError: the ledger was written anew since it was looked at.
    """
    return read_current(store, layout.score_ledger(ledger.key), ledger.fingerprint, columns)


def score_frame(store: Store, ledger: ScoreLedger) -> pl.DataFrame:
    """`read_scores` in Polars, without the columns that only comparing needs."""
    columns = [schemas.CLUSTER, schemas.ID, schemas.MAX_ID, schemas.SCORE]
    return to_frame(read_scores(store, ledger, columns))


def write_ledger(
    store: Store,
    key: str,
    compared_by: str,
    clusters: dict[int, Entry],
    groups: Iterable[str],
    table: pa.Table,
) -> ScoreLedger:
    """Commit the scores of a key; the pruning tables of its clusters are there by now."""
    listed = [[number, e.fingerprint, e.rows, e.bytes] for number, e in sorted(clusters.items())]
    digest = fingerprint("ledger", VERSION, compared_by, listed)
    info: dict[str, Any] = {
        "version": VERSION,
        "fingerprint": digest,
        "compared_by": compared_by,
        "clusters": listed,
        "groups": sorted(groups),
    }
    write_table(store, layout.score_ledger(key), table, info)
    return ScoreLedger(key, digest, compared_by, dict(sorted(clusters.items())), frozenset(groups))


def mark_unfinished(store: Store, key: str) -> None:
    """Say that the pruning tables of a key are being changed, and may differ from its ledger."""
    store.write_bytes(layout.unfinished_scores(key), b"")


def unmark(store: Store, key: str) -> None:
    """Say that they are those of the ledger, which is written by now."""
    store.delete(layout.unfinished_scores(key))


def unfinished_keys(store: Store) -> set[str]:
    """The keys that are marked: a run changes their pruning tables, or was stopped while it did."""
    names = store.list(layout.SCORE_LEDGERS, layout.UNFINISHED)
    return {name.removesuffix(layout.UNFINISHED) for name in names}


def compared_by(settings: Settings, base: str) -> str:
    """What decides the scores of given rows, whichever fragments they lie in."""
    return fingerprint("compared", VERSION, base, ranking(settings), *precision(settings))


def cluster_fingerprint(settings: Settings, base: str, fragments: list[str]) -> str:
    """Digest of what the scores of a cluster are made from: fragments, ranking, precision."""
    order = ranking(settings)
    return fingerprint("scores", VERSION, base, sorted(fragments), order, *precision(settings))


def scores_fingerprint(settings: Settings, shuffled: str) -> str:
    """What the scores of every key are made from: the same for any subset of keys."""
    return fingerprint("scores", VERSION, shuffled, ranking(settings), *precision(settings))


def ranking(settings: Settings) -> list[object]:
    """The settings that decide the order, and none that do not."""
    if settings.ranking.rank_by:
        return ["columns", *settings.ranking.rank_by]
    if settings.ranking.which_to_keep == "random":
        return ["random", settings.clustering.random_state]
    keep = "hard" if settings.ranking.which_to_keep == "hard" else "easy"
    return [keep, settings.ranking.sim_metric]


def precision(settings: Settings) -> list[str]:
    """What a fingerprint says of the precision: exact scores are the same however computed."""
    return [] if settings.compute.precision == "exact" else [settings.compute.precision]


def refuse_lacking(settings: Settings, lacking: dict[str, int]) -> None:
    """Refuse to go on without the scores of some clusters.

    Args:
        settings: of the dataset.
        lacking: how many clusters of a partition key have no current scores.

    Raises:
        StaleError: there are some; it says which partitions to materialize.
    """
    if lacking:
        listed = ", ".join(list(lacking)[:10])
        clusters = settings.clustering.n_clusters
        more = f" and {len(lacking) - 10} more" if len(lacking) > 10 else ""
        raise StaleError(
            f"the scores of {sum(lacking.values())} of {clusters} clusters are missing or stale; "
            f"materialize pairwise_scores for partitions {listed}{more}"
        )


def pruning_table(rows: pa.Table, id_type: pa.DataType) -> pa.Table:
    """The documented columns of some rows of a ledger."""
    schema = schemas.pairs(id_type)
    return rows.select(schema.names).cast(schema)


def write_pruning_table(store: Store, cluster: int, made_from: str, table: pa.Table) -> int:
    """Write the documented table of a cluster. Returns its bytes."""
    info = {"fingerprint": made_from, "cluster": cluster}
    return write_table(store, layout.scores(cluster), table, info)
