"""Counting similarities so that the count at any listed eps is exact."""

from collections.abc import Iterable
from decimal import Decimal

import numpy as np

from dedup_assets.compute.thresholds import canonical_eps, score_threshold

COARSE_STEP = Decimal("0.001")
FINE_STEP, FINE_END = Decimal("0.0001"), Decimal("0.01")


def eps_grid(extra: Iterable[str] = ()) -> list[str]:
    """Canonical eps values that the histogram's bins end at, ascending.

    Every 0.001 from 0 to 0.999, every 0.0001 up to 0.01, the largest eps, and ``extra``.
    """
    coarse = (COARSE_STEP * i for i in range(1000))
    fine = (FINE_STEP * i for i in range(int(FINE_END / FINE_STEP)))
    values = {canonical_eps(v) for v in (*coarse, *fine, "0.99999", *extra)}
    return sorted(values, key=Decimal)


def bin_edges(grid: list[str]) -> np.ndarray:
    """Lower edges of the bins, ascending, float32: -1, then -0.999 to -0.001, then 1 - eps.

    Bin i holds ``edges[i] <= score < edges[i + 1]``; the last one holds a score of 1.
    """
    below = [np.float32(i / 1000) for i in range(-1000, 0)] + [np.float32(0)]
    return np.array(below + [score_threshold(eps) for eps in reversed(grid)], dtype=np.float32)


def count_scores(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count ``scores`` of shape (n,), float32, per bin. Returns int64 of the shape of ``edges``."""
    position = np.searchsorted(edges, scores, side="right") - 1
    # A cosine of opposite rows can round to just below -1.
    return np.bincount(np.maximum(position, 0), minlength=len(edges)).astype(np.int64)
