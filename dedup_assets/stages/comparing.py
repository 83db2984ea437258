"""The best earlier matches of the clusters of a batch, compared anew or brought up to date."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import to_host
from dedup_assets.compute.pairwise import best_earlier_matches
from dedup_assets.compute.update import update_matches
from dedup_assets.progress import Advance
from dedup_assets.settings import Settings
from dedup_assets.stages.known import Known
from dedup_assets.stages.machine import compute_budget

FEWEST_UPDATED = 512
"""Rows of a cluster below which comparing anew takes no longer than an update."""

MOST_SEARCHED = 0.5
"""Share of rows to compare with all others, above which the cluster is compared anew."""


@dataclass(frozen=True)
class Cluster:
    """A cluster of a batch: where its rows lie, in rank order, and what is known of them."""

    number: int
    span: slice
    known: Known | None

    @property
    def rows(self) -> int:
        return int(self.span.stop - self.span.start)


@dataclass(frozen=True)
class Compared:
    """Best earlier matches of a cluster.

    Attributes:
        score: of shape (n,), float32, host.
        index: of shape (n,), int64, host, row numbers in the cluster.
        searched: rows that were compared with all earlier ones.
        updated: whether the others kept what was known of them.
    """

    score: np.ndarray
    index: np.ndarray
    searched: int
    updated: bool


def compare_clusters(
    settings: Settings, x: Any, clusters: list[Cluster], advance: Advance
) -> dict[int, Compared]:
    """Compare the rows of some clusters.

    Large clusters of which little is new are brought up to date; others are compared anew, those
    that lie side by side in one call.

    Args:
        settings: of the dataset.
        x: of shape (n, d), float32, unit rows of the batch, on the device that computes.
        clusters: ascending by where their rows lie.
        advance: called with how many more rows are done.
    """
    found: dict[int, Compared] = {}
    anew: list[Cluster] = []
    for cluster in clusters:
        known = cluster.known
        update = known is not None and known.searched <= MOST_SEARCHED * cluster.rows
        if anew and (update or anew[-1].span.stop != cluster.span.start):
            found |= _compare_anew(settings, x, anew, advance)
            anew = []
        if known is None or not update:
            anew.append(cluster)
            continue
        best = update_matches(
            x[cluster.span],
            known.index,
            known.score,
            known.fresh,
            memory_budget=compute_budget(settings) // 2,
        )
        score, index = to_host(best.score), to_host(best.index)
        found[cluster.number] = Compared(score, index, known.searched, True)
        advance(cluster.rows)
    return found | (_compare_anew(settings, x, anew, advance) if anew else {})


def _compare_anew(
    settings: Settings, x: Any, clusters: list[Cluster], advance: Advance
) -> dict[int, Compared]:
    """Compare all rows of clusters that lie side by side."""
    start, stop = clusters[0].span.start, clusters[-1].span.stop
    counted = _Counted(advance)
    best = best_earlier_matches(
        x[start:stop],
        [*(cluster.span.start - start for cluster in clusters), stop - start],
        precision=settings.compute.precision,
        memory_budget=compute_budget(settings) // 2,
        largest_tile=settings.compute.pairwise_batch_size,
        on_rows=counted,
    )
    advance(stop - start - counted.rows)
    score, index = to_host(best.score), to_host(best.index)
    found = {}
    for cluster in clusters:
        own = slice(cluster.span.start - start, cluster.span.stop - start)
        found[cluster.number] = Compared(score[own], index[own], cluster.rows, False)
    return found


class _Counted:
    """Passes progress on and remembers how much, since copies of rows are not reported."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self.rows = 0

    def __call__(self, rows: int) -> None:
        self.rows += rows
        self._advance(rows)
