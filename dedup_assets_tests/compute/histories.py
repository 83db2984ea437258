"""Clusters that changed, and what is known of their matches from before."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dedup_assets.compute.pairwise import BestMatch, best_earlier_match
from dedup_assets.compute.update import update_matches
from dedup_assets_tests.conftest import unit


@dataclass(frozen=True)
class History:
    """A cluster after a change, and what is known of it."""

    x: np.ndarray
    known: np.ndarray
    known_score: np.ndarray
    fresh: np.ndarray

    def update(self, **options: Any) -> BestMatch:
        return update_matches(self.x, self.known, self.known_score, self.fresh, **options)


def after_change(
    old: np.ndarray,
    new: np.ndarray,
    order: np.ndarray,
    forgotten: np.ndarray | None = None,
) -> History:
    """What a caller knows once rows of ``old`` went and rows of ``new`` came.

    Args:
        old: rows in their old rank order.
        new: rows that are fresh.
        order: the new rank order, of row numbers in ``old`` (ascending) and, from ``len(old)``
            on, in ``new``.
        forgotten: rows of ``old`` whose match is not known though it is there.
    """
    matches = best_earlier_match(old)
    x = np.concatenate([old, new])[order]
    fresh = order >= len(old)
    place = np.full(len(old), -1)
    place[order[~fresh]] = np.flatnonzero(~fresh)
    known = np.full(len(order), -1)
    known[~fresh] = place[matches.index[order[~fresh]]]
    score = np.zeros(len(order), dtype=np.float32)
    score[~fresh] = matches.score[order[~fresh]]
    if forgotten is not None:
        known[place[forgotten[place[forgotten] >= 0]]] = -1
    return History(x, known, score, fresh)


def inserted(rng: np.random.Generator, kept: np.ndarray, old: int, new: int) -> np.ndarray:
    """New rows anywhere among the kept ones, whose order stays."""
    place = np.concatenate([np.arange(len(kept)) + 0.5, rng.uniform(0, len(kept) + 1, new)])
    return np.concatenate([kept, old + np.arange(new)])[np.argsort(place)]


def random_change(
    rng: np.random.Generator, draw_rows: Callable[[int], np.ndarray], sizes: tuple[int, int, int]
) -> History:
    """So many old rows, of which so many go, and so many new ones; some of these were moved."""
    n, gone, new = sizes
    old = draw_rows(n)
    kept = np.sort(rng.permutation(n)[gone:])
    came = draw_rows(new)
    moved = rng.random(new) < 0.3
    if n:
        came[moved] = old[rng.integers(0, n, int(moved.sum()))]
    forgotten = np.flatnonzero(rng.random(n) < 0.05)
    return after_change(old, came, inserted(rng, kept, n, new), forgotten)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Few directions, so that copies, near copies, opposites and exact ties abound."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dim = draw(st.integers(1, 6))
    kind = draw(st.sampled_from(["grid", "few", "near", "negative", "normal"]))
    few = unit(rng.normal(size=(3, dim)))

    def rows(count: int) -> np.ndarray:
        match kind:
            case "grid":
                base = rng.integers(-2, 3, size=(count, dim)).astype(float)
                base[(base == 0).all(axis=1)] = 1.0
            case "few":
                base = few[rng.integers(0, 3, count)] * rng.choice([-1, 1], size=(count, 1))
            case "near":
                base = np.ones(dim) + 1e-7 * rng.normal(size=(count, dim))
            case "negative":
                base = np.eye(dim)[np.arange(count) % dim] * rng.choice([-1, 1], size=(count, 1))
                base -= 0.1
            case _:
                base = rng.normal(size=(count, dim))
        return unit(base)

    n = draw(st.integers(0, 30))
    return random_change(rng, rows, (n, draw(st.integers(0, n)), draw(st.integers(0, 30))))


def groups(rng: np.random.Generator, distance: float, dim: int) -> Callable[[int], np.ndarray]:
    """Draws rows around three centres, a tenth of them copies of one row."""
    centres, one = rng.normal(size=(3, dim)), unit(rng.normal(size=(1, dim)))

    def rows(count: int) -> np.ndarray:
        around = centres[rng.integers(0, 3, count)] + distance * rng.normal(size=(count, dim))
        return np.where(rng.random((count, 1)) < 0.1, one, unit(around))

    return rows
