"""How similar the rows are: a histogram, its ECDF, and what each eps would remove."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.histogram import bin_edges, count_scores, eps_grid
from dedup_assets.progress import track
from dedup_assets.settings import Settings
from dedup_assets.state.scores import score_frame
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, schemas
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.tables import info_of, read_table, write_table

VERSION = 2
SHOWN_EPS = (
    *("0", "0.0001", "0.001", "0.002", "0.005", "0.01", "0.02", "0.03", "0.05", "0.07"),
    *("0.1", "0.15", "0.2", "0.3", "0.5"),
)


@dataclass(frozen=True)
class Histogram:
    """The histogram.

    Attributes:
        table: rows of `schemas.HISTOGRAM`, ascending by similarity.
        rows: rows of all clusters.
        compared: rows that have an earlier-ranked one; the histogram counts these.
        plot: the picture, PNG.
        fingerprint: digest of the scores.
        reused: whether it was there already.
    """

    table: pa.Table
    rows: int
    compared: int
    plot: bytes
    fingerprint: str
    reused: bool

    def at(self, eps: str) -> dict[str, Any]:
        """What ``eps`` would remove; it must be one of the grid's."""
        row = self.table.filter(pc.equal(self.table["eps"], eps)).to_pylist()[0]
        return {
            "eps": eps,
            "similarity_at_least": round(float(row["score_low"]), 5),
            "removed": row["removed"],
            "share_removed": round(row["removed_share"], 6),
        }


def build_histogram(snapshot: Snapshot) -> Histogram:
    """Count the similarities of all clusters and write the table and the picture.

    Raises:
        StaleError: the scores of a cluster are missing or stale.
    """
    found = found_histogram(snapshot)
    if found is not None:
        return found
    store = snapshot.store
    digest = _fingerprint(snapshot)
    ledgers = list(snapshot.ledgers.values())
    grid = eps_grid()
    edges = bin_edges(grid)
    counts = np.zeros(len(edges), dtype=np.int64)
    rows = 0
    with track("histogram", sum(ledger.rows for ledger in ledgers), "rows") as advance:
        for scored in store.map(lambda one: score_frame(store, one), ledgers):
            compared = scored.filter(pl.col(schemas.ID) != pl.col(schemas.MAX_ID))
            counts += count_scores(compared[schemas.SCORE].to_numpy(), edges)
            rows += scored.height
            advance(scored.height)
    table = _table(edges, counts, rows, grid)
    info: dict[str, Any] = {"fingerprint": digest, "rows": rows, "compared": int(counts.sum())}
    from dedup_assets.stages.plot import draw  # matplotlib takes a second to import

    picture = draw(table, rows)
    # The table is what says that both are current, so none is there while the picture changes.
    store.delete(layout.HISTOGRAM)
    store.write_bytes(layout.HISTOGRAM_PLOT, picture)
    write_table(store, layout.HISTOGRAM, table, info)
    return Histogram(table, rows, info["compared"], picture, digest, reused=False)


def _table(edges: np.ndarray, counts: np.ndarray, rows: int, grid: list[str]) -> pa.Table:
    compared = max(1, int(counts.sum()))
    removed = counts[::-1].cumsum()[::-1]
    eps = [*[None] * (len(edges) - len(grid)), *grid[::-1]]
    return pa.table(
        {
            "score_low": edges,
            "score_high": np.append(edges[1:], np.float32(1.0)),
            "count": counts,
            "ecdf": counts.cumsum() / compared,
            "eps": pa.array(eps, pa.string()),
            "removed": removed,
            "removed_share": removed / max(1, rows),
        },
        schema=schemas.HISTOGRAM,
    )


def found_histogram(snapshot: Snapshot) -> Histogram | None:
    """The histogram that is there; None if that is not current.

    Raises:
        StaleError: the scores of a cluster are missing or stale.
    """
    store = snapshot.store
    digest = _fingerprint(snapshot)
    _ = snapshot.ledgers
    try:
        table = read_table(store, layout.HISTOGRAM)
        picture = store.read_bytes(layout.HISTOGRAM_PLOT)
    except FileNotFoundError:
        return None
    info = info_of(table.schema)
    if info.get("fingerprint") != digest:
        return None
    return Histogram(table, info["rows"], info["compared"], picture, digest, reused=True)


def _fingerprint(snapshot: Snapshot) -> str:
    return fingerprint("histogram", VERSION, snapshot.cluster_prints)


def shown_eps(settings: Settings) -> list[str]:
    """The eps values of the table in the UI, ascending: some of the grid, and the configured ones
    that are on it. A new eps is no reason to make the histogram again."""
    configured = set(settings.thresholds.eps_thresholds) & set(eps_grid())
    return sorted({*SHOWN_EPS, *configured}, key=Decimal)
