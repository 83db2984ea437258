"""What an earlier comparison of a cluster still says of its rows."""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.stages.ranked import RankedRows
from dedup_assets.store import schemas


@dataclass(frozen=True)
class Known:
    """Of each row of a cluster in rank order; arguments of `compute.update.update_matches`.

    Attributes:
        index: of shape (n,), int64: the row that was its best match, the row itself if it had no
            earlier one, -1 if neither is known.
        score: of shape (n,), float32, of that match.
        fresh: of shape (n,), bool: whether the row was not compared before, or not in this order.
    """

    index: np.ndarray
    score: np.ndarray
    fresh: np.ndarray

    @property
    def searched(self) -> int:
        """Rows that have to be compared with all others."""
        return int((self.index < 0).sum())


def known_matches(rows: RankedRows, before: pa.Table) -> Known:
    """What the scores of a cluster say of its rows as they are now.

    A row is the one that it was if its id and its vector are, and as long as it keeps its place
    among the others: a carried column that it is ranked by may have changed.

    Args:
        rows: the rows now.
        before: rows of `schemas.score_ledger` of the cluster, in the order of their rank then.
    """
    n = len(rows.ids)
    ids = before[schemas.ID].combine_chunks()
    found = pc.index_in(rows.ids, value_set=ids)
    there = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
    place = found.drop_null().to_numpy().astype(np.int64)
    then = before[schemas.DIGEST].combine_chunks().take(pa.array(place))
    same = pc.equal(rows.digests.take(pa.array(there)), then).to_numpy(zero_copy_only=False)
    there, place = there[same], place[same]
    ordered = _longest_ascending(place)
    there, place = there[ordered], place[ordered]
    row_of = np.full(len(ids), -1, dtype=np.int64)
    row_of[place] = there
    match = pc.index_in(before[schemas.MAX_ID].combine_chunks(), value_set=ids).to_numpy()
    match = match[place].astype(np.int64)
    index = np.full(n, -1, dtype=np.int64)
    index[there] = np.where(match == place, there, row_of[match])
    score = np.zeros(n, dtype=np.float32)
    score[there] = before[schemas.SCORE].to_numpy()[place]
    fresh = np.ones(n, dtype=bool)
    fresh[there] = False
    return Known(index, score, fresh)


def _longest_ascending(values: np.ndarray) -> np.ndarray:
    """Places of a longest strictly ascending subsequence of distinct numbers."""
    if (np.diff(values) > 0).all():
        return np.arange(len(values))
    tails: list[int] = []  # the lowest last value of an ascending run of each length
    at: list[int] = []  # where it is
    previous = np.full(len(values), -1, dtype=np.int64)
    for place, value in enumerate(values.tolist()):
        length = bisect_left(tails, value)
        if length == len(tails):
            tails.append(value)
            at.append(place)
        else:
            tails[length], at[length] = value, place
        previous[place] = at[length - 1] if length else -1
    chosen = []
    place = at[-1]
    while place >= 0:
        chosen.append(place)
        place = int(previous[place])
    return np.array(chosen[::-1], dtype=np.int64)
