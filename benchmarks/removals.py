"""Which rows each way of deduplicating removes, and what share of the similar pairs that ends."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dedup_assets.compute.exact import pair_dots, squared_norms
from dedup_assets.compute.thresholds import score_threshold

_STRIP = 1024
_SURELY = 1e-5  # more than a float32 product of a few thousand terms of unit rows can be off


@dataclass
class Removed:
    """What came of a run.

    Attributes:
        rows: by eps, of shape (n,), bool: whether a row is removed.
        seconds: of the parts of the run.
    """

    rows: dict[str, np.ndarray]
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pairs:
    """All pairs of rows that are similar enough, found by comparing all with all.

    Attributes:
        later, earlier: of shape (m,), int64, row numbers.
        cosine: of shape (m,), float32.
    """

    later: np.ndarray
    earlier: np.ndarray
    cosine: np.ndarray

    def at(self, eps: str) -> "Pairs":
        near = self.cosine >= score_threshold(eps)
        return Pairs(self.later[near], self.earlier[near], self.cosine[near])

    def share_found(self, removed: np.ndarray) -> float:
        """Share of the pairs of which at most one row is kept."""
        if len(self.later) == 0:
            return 1.0
        return float((removed[self.later] | removed[self.earlier]).mean())

    def without_partner(self, removed: np.ndarray) -> int:
        """How many rows are removed that are in none of the pairs."""
        paired = np.zeros(len(removed), dtype=bool)
        paired[self.later] = paired[self.earlier] = True
        return int((removed & ~paired).sum())


def similar_pairs(x: np.ndarray, eps: str) -> Pairs:
    """All pairs of ``x`` of shape (n, d), float32, unit rows, with float32(cosine) >= 1 - eps."""
    threshold = score_threshold(eps)
    found: list[tuple[Any, Any]] = []
    for begin in range(0, len(x), _STRIP):
        rows = x[begin : begin + _STRIP]
        product = rows @ x[: begin + len(rows)].T
        row, column = np.divmod(
            np.flatnonzero(product >= threshold - np.float32(_SURELY)), product.shape[1]
        )
        row += begin
        found.append((row[column < row], column[column < row]))
    later, earlier = (np.concatenate(parts) for parts in zip(*found, strict=True))
    norms = squared_norms(x)
    dots = pair_dots(x, later, x, earlier)
    cosine = (dots / np.sqrt(norms[later] * norms[earlier])).astype(np.float32)
    near = cosine >= threshold
    return Pairs(later[near], earlier[near], cosine[near])
