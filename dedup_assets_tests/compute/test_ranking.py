"""The order of comparison: earlier rows are kept."""

from typing import Any

import numpy as np
import pytest

from dedup_assets.compute.ranking import RankKey, rank_order

DISTANCE = np.array([0.3, 0.1, 0.3, 0.2], dtype=np.float32)


def order(n: int, *keys: RankKey, **options: Any) -> list[int]:
    return rank_order(n, keys, **options).tolist()


def test_metadata_of_the_six_rows_descending():
    scores = np.array([0.1, 0.8, 0.3, 0.9, 0.2, 0.15])
    assert order(6, RankKey(scores, descending=True)) == [3, 1, 2, 4, 5, 0]


def test_ties_fall_to_the_id_in_the_asked_direction():
    assert order(4, RankKey(DISTANCE)) == [1, 3, 0, 2]
    assert order(4, RankKey(DISTANCE, descending=True)) == [0, 2, 3, 1]
    assert order(4, RankKey(DISTANCE, descending=True), id_descending=True) == [2, 0, 3, 1]


def test_ties_of_the_first_column_fall_to_the_second():
    names = np.array(["b", "z", "a", "z"])
    keys = (RankKey(DISTANCE, descending=True), RankKey(names))
    assert order(4, *keys) == [2, 0, 3, 1]
    assert order(4, RankKey(names, descending=True), RankKey(DISTANCE)) == [1, 3, 0, 2]


@pytest.mark.parametrize("descending", [False, True])
def test_missing_and_nan_come_last_in_either_direction(descending: bool):
    values = np.array([np.nan, 1.0, 5.0, -np.inf, np.inf])
    missing = np.array([False, False, True, False, False])
    found = order(5, RankKey(values, descending, missing))
    assert found == ([4, 1, 3, 0, 2] if descending else [3, 1, 4, 0, 2])


def test_all_missing_is_the_order_of_ids():
    assert order(3, RankKey(np.full(3, np.nan), descending=True)) == [0, 1, 2]
    assert order(3, RankKey(np.zeros(3), missing=np.ones(3, dtype=bool))) == [0, 1, 2]


@pytest.mark.parametrize(
    "values",
    [
        np.array([2, 0, 1], dtype=np.uint8),
        np.array([2**64 - 1, 0, 2**63], dtype=np.uint64),
        np.array([-1, -(2**63), -5], dtype=np.int64),
        np.array([True, False, True]),
        np.array(["2024-03-01", "2023-01-01", "2024-01-01"], dtype="datetime64[s]"),
        np.array(["c", "a", "b"]),
    ],
    ids=lambda v: str(v.dtype),
)
def test_descending_is_the_reverse_for_types_that_cannot_be_negated(values: np.ndarray):
    expected = sorted(range(3), key=lambda i: values[i], reverse=True)
    assert order(3, RankKey(values, descending=True)) == expected


def test_minus_zero_ties_with_zero():
    assert order(3, RankKey(np.array([0.0, -0.0, 0.0]), descending=True)) == [0, 1, 2]


def test_no_keys_is_the_order_of_ids():
    assert order(3) == [0, 1, 2]
    assert order(3, id_descending=True) == [2, 1, 0]
    assert order(0) == []


def test_keys_are_not_changed():
    values, missing = np.array([np.nan, 1.0]), np.array([False, True])
    order(2, RankKey(values, missing=missing))
    assert missing.tolist() == [False, True]
