"""The order in which the rows of a cluster are compared: earlier rows are kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RankKey:
    """One column to rank by.

    Attributes:
        values: of shape (n,), any dtype that sorts.
        descending: largest first.
        missing: of shape (n,), bool, or None; these rows, and NaN, come last either way.
    """

    values: np.ndarray
    descending: bool = False
    missing: np.ndarray | None = None


def rank_order(n: int, keys: Sequence[RankKey], *, id_descending: bool = False) -> np.ndarray:
    """Positions of the rows in rank order.

    Args:
        n: number of rows, which the caller holds in ascending order of id.
        keys: most significant first; ties fall through to the next, at last to the id.
        id_descending: whether the last tie-break is the id descending.

    Returns:
        Array of shape (n,), int64: ``order[0]`` is the first-ranked row.
    """
    ids = np.arange(n, dtype=np.int64)
    columns = [_codes(key) for key in keys] + [-ids if id_descending else ids]
    return np.lexsort(columns[::-1]).astype(np.int64)


def _codes(key: RankKey) -> np.ndarray:
    """Integers that sort as the key does, so that descending is a change of sign for any dtype."""
    missing = np.zeros(len(key.values), dtype=bool) if key.missing is None else key.missing.copy()
    if key.values.dtype.kind == "f":
        missing |= np.isnan(key.values)
    codes = np.zeros(len(key.values), dtype=np.int64)
    _, codes[~missing] = np.unique(key.values[~missing], return_inverse=True)
    if key.descending:
        codes = -codes
    codes[missing] = len(codes) + 1
    return codes
