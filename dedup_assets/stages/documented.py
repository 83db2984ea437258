"""The files for other people's readers, compared by content with the ledgers behind them."""

from collections.abc import Iterator, Set

import numpy as np
import pyarrow as pa

from dedup_assets.errors import StaleError, first_line
from dedup_assets.progress import track
from dedup_assets.stages.duplicates import (
    cut_by_cluster,
    list_columns,
    read_summary,
    removed_at,
    require_duplicates,
)
from dedup_assets.stages.verify import Verdict
from dedup_assets.state.lists import listed_eps
from dedup_assets.state.scores import ScoreLedger, pruning_table, read_scores
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import read_table, to_frame

SAMPLED_CLUSTERS = 20
_NAMED = 5
_COLUMNS = [schemas.CLUSTER, schemas.ID, schemas.MAX_ID, schemas.SCORE]


def verify_sampled_tables(snapshot: Snapshot) -> Verdict:
    """The pruning tables of 20 sampled clusters hold what the ledgers do."""
    return _verify(snapshot, [], only=_sampled(snapshot), tables=True)


def verify_sampled_lists(snapshot: Snapshot, eps: str) -> Verdict:
    """The lists of 20 sampled clusters hold what the ledgers say that this eps removes."""
    require_duplicates(snapshot, eps)
    return _verify(snapshot, [eps], only=_sampled(snapshot), tables=False)


def verify_documented(snapshot: Snapshot) -> Verdict:
    """All pruning tables, lists and summaries hold what the ledgers do.

    Raises:
        StaleError: the scores of a cluster are missing or stale.
    """
    _ = snapshot.ledgers
    return _verify(snapshot, listed_eps(snapshot.store), only=None, tables=True)


def _sampled(snapshot: Snapshot) -> set[int]:
    clusters = snapshot.settings.clustering.n_clusters
    rng = np.random.default_rng(snapshot.settings.clustering.random_state)
    return set(rng.choice(clusters, min(SAMPLED_CLUSTERS, clusters), replace=False).tolist())


def _verify(
    snapshot: Snapshot, listed: list[str], *, only: Set[int] | None, tables: bool
) -> Verdict:
    """Compare files with the ledgers; keys without a ledger are left out.

    Args:
        snapshot: of the output.
        listed: the eps values whose lists are compared.
        only: the clusters to look at; None: all of them, and the summaries.
        tables: whether the pruning tables are compared.
    """
    store = snapshot.store
    found = snapshot.found_ledgers(snapshot.ranges).values()
    ledgers = [
        ledger
        for ledger in found
        if ledger is not None and (only is None or ledger.clusters.keys() & only)
    ]
    wrong: list[str] = []
    files = 0
    counts = dict.fromkeys(listed, 0)
    total = sum(ledger.rows for ledger in ledgers)
    with track("comparing files with the ledgers", total, "rows") as advance:
        for ledger in ledgers:
            for name, expected in _expected(snapshot, ledger, listed, only, counts):
                if tables or not name.startswith(layout.SCORES):
                    files += 1
                    if not _holds(store, name, expected):
                        wrong.append(name)
            advance(ledger.rows)
    for eps in listed if only is None else ():
        files += 1
        summary = read_summary(store, eps) or {}
        if (summary.get("removed"), summary.get("total")) != (counts[eps], total):
            wrong.append(layout.summary(eps))
    text = f"{files - len(wrong)} of {files} files hold what the ledgers do"
    if wrong:
        named = ", ".join(store.url(name) for name in wrong[:_NAMED])
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        text += f"; not so {named}{more}: delete them and run again"
    return Verdict(not wrong, text, {"files": files, "wrong": len(wrong)})


def _expected(
    snapshot: Snapshot,
    ledger: ScoreLedger,
    listed: list[str],
    only: Set[int] | None,
    counts: dict[str, int],
) -> Iterator[tuple[str, pa.Table]]:
    """Names and content of the files that a ledger accounts for."""
    id_type = snapshot.manifest.id_type
    columns = list_columns(snapshot)
    table = read_scores(snapshot.store, ledger, _COLUMNS)
    start = 0
    for cluster, entry in ledger.clusters.items():
        if only is None or cluster in only:
            rows = table.slice(start, entry.rows)
            yield layout.scores(cluster), pruning_table(rows, id_type)
        start += entry.rows
    compared = [cluster for cluster in ledger.clusters if only is None or cluster in only]
    frame = to_frame(table)
    for eps in listed:
        removed = removed_at(eps, frame)
        counts[eps] += removed.height
        for cluster, part in zip(compared, cut_by_cluster(removed, compared, columns), strict=True):
            yield layout.unique_ids_part(eps, cluster), part


def _holds(store: Store, name: str, expected: pa.Table) -> bool:
    try:
        return read_table(store, name).replace_schema_metadata(None).equals(expected)
    except (FileNotFoundError, StaleError, pa.ArrowException):
        return False
    except OSError as error:
        # Arrow reports damaged pages as an OSError without number.
        if error.errno is not None:
            raise OSError(error.errno, first_line(error), store.url(name)) from error
        return False
