"""Which rows an eps removes."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.compute.thresholds import canonical_eps, score_threshold
from dedup_assets.stages.duplicates import removed


def removed_of(scores: list[float], eps: str, max_ids: list[str] | None = None) -> list[bool]:
    """Which rows of the ids 0, 1, ... are removed."""
    ids = [str(i) for i in range(len(scores))]
    frame = pl.DataFrame(
        {"id": ids, "max_id": max_ids or ["earlier"] * len(ids), "cosine_sim_score": scores},
        schema_overrides={"cosine_sim_score": pl.Float32},
    )
    return frame.select(removed(eps)).to_series().to_list()


@given(st.integers(0, 99_999))
def test_score_equal_to_the_threshold_is_removed_and_the_next_below_is_not(step: int):
    eps = canonical_eps(step / 100_000)
    at = score_threshold(eps)
    below = np.nextafter(at, np.float32(-2))
    assert removed_of([float(at), float(below), 1.0], eps) == [True, False, True]


@pytest.mark.parametrize("eps", ["0", "0.5", "0.99999"])
def test_row_without_an_earlier_one_is_never_removed(eps: str):
    assert removed_of([0.0, 1.0], eps, max_ids=["0", "1"]) == [False, False]
