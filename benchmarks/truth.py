"""What a search should find, by float64 brute force, and how many decisions another one changes."""

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import array_module, to_host
from dedup_assets.compute.exact import pair_dots, squared_norms
from dedup_assets.compute.thresholds import EPS_STEP, score_threshold

FIRST_EPS, LAST_EPS = 100, 30_000  # in steps of 0.00001: 0.001 to 0.3, all that eps can be
SHOWN_EPS = ("0.001", "0.01", "0.1")
CLOSE = 1e-12  # more than a float64 product of a few thousand terms of unit rows can be off
_BLOCK = 1024


@dataclass(frozen=True)
class Changed:
    """Decisions to remove that differ from those of the true scores.

    Attributes:
        decisions: how many there are: rows that have an earlier one, times values of eps.
        changed: how many differ.
        rows: in how many rows some do.
        by_eps: how many differ at a few usual values of eps.
        largest_difference: between a score and the true one.
    """

    decisions: int
    changed: int
    rows: int
    by_eps: dict[str, int]
    largest_difference: float


def true_scores(x: Any, offsets: np.ndarray) -> np.ndarray:
    """Highest cosine with an earlier row of the cluster, rounded to float32; (n,), host.

    A float64 product decides; where its error could change the rounding, all pairs of that row
    that may be the highest are computed again in the product's fixed order of summation.

    Args:
        x: of shape (n, d), float32, unit rows, on host or device.
        offsets: where clusters begin, as in `best_earlier_matches`.
    """
    score = np.zeros(len(x), dtype=np.float32)
    for begin, end in pairwise(offsets):
        score[begin:end] = _true_scores_of_one(x[int(begin) : int(end)])
    return score


def _true_scores_of_one(x: Any) -> np.ndarray:
    xp = array_module(x)
    wide = x.astype(xp.float64)
    norms = squared_norms(x)
    wide /= xp.sqrt(norms)[:, None]
    score = np.zeros(len(x), dtype=np.float32)
    for begin in range(0, len(x), _BLOCK):
        end = min(begin + _BLOCK, len(x))
        value = wide[begin:end] @ wide[:end].T
        rows = xp.arange(begin, end)
        value[xp.arange(end)[None, :] >= rows[:, None]] = -xp.inf
        top = value.max(axis=1)
        rounded = top.astype(xp.float32)
        unsure = (top - CLOSE).astype(xp.float32) != (top + CLOSE).astype(xp.float32)
        near = unsure[:, None] & (value >= top[:, None] - 2 * CLOSE)
        row, column = xp.nonzero(near)
        exact = pair_dots(x, row + begin, x, column)
        exact /= xp.sqrt(norms[row + begin] * norms[column])
        found = to_host(rounded)
        found[to_host(unsure)] = -np.inf
        np.maximum.at(found, to_host(row), to_host(exact.astype(xp.float32)))
        score[begin:end] = found
    score[:1] = 0
    return score


def changed(score: np.ndarray, truth: np.ndarray, offsets: np.ndarray) -> Changed:
    """Compare the decisions that follow from two lists of scores, at every eps there is.

    A row is removed at eps where its score is at least float32(1 - eps), however it was computed.
    """
    counts = np.ones(len(truth), dtype=bool)
    counts[offsets[:-1][np.diff(offsets) > 0]] = False  # first rows are never removed
    score, truth = score[counts].astype(np.float32), truth[counts]
    thresholds = _thresholds()
    # How many thresholds a score reaches says at which eps the row is removed.
    difference = np.abs(
        np.searchsorted(thresholds, score, side="right")
        - np.searchsorted(thresholds, truth, side="right")
    )
    shown = {e: (score >= score_threshold(e)) != (truth >= score_threshold(e)) for e in SHOWN_EPS}
    return Changed(
        decisions=len(truth) * len(thresholds),
        changed=int(difference.sum()),
        rows=int((difference > 0).sum()),
        by_eps={e: int(differs.sum()) for e, differs in shown.items()},
        largest_difference=float(np.abs(score - truth).max(initial=0.0)),
    )


@functools.cache
def _thresholds() -> np.ndarray:
    """Of all eps, ascending."""
    eps = [EPS_STEP * step for step in range(LAST_EPS, FIRST_EPS - 1, -1)]
    return np.array([score_threshold(str(one)) for one in eps])
