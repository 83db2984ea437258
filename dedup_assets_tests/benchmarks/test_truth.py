"""What the benchmarks hold searches against."""

import numpy as np

from benchmarks.removals import similar_pairs
from benchmarks.truth import changed, true_scores
from dedup_assets.compute.pairwise import best_earlier_matches
from dedup_assets_tests.compute.oracle import exact_cosine
from dedup_assets_tests.conftest import unit


def rows_with_duplicates(rng: np.random.Generator) -> np.ndarray:
    x = unit(rng.normal(size=(90, 16)))
    x[60:70] = x[:10]
    x[70:90] = unit(x[10:30] + 0.01 * rng.normal(size=(20, 16)))
    return x


def test_true_scores_are_those_of_the_exact_search(rng: np.random.Generator):
    x, offsets = rows_with_duplicates(rng), np.array([0, 1, 1, 40, 90])
    found = best_earlier_matches(x, offsets)
    np.testing.assert_array_equal(true_scores(x, offsets), found.score)


def test_a_changed_decision_is_counted_once_for_each_eps_between():
    """0.9 is removed from eps 0.1 on, 0.8 from 0.2 on: 10,000 steps of 0.00001 lie between."""
    truth = np.array([0, 0.9, 0.5], dtype=np.float32)
    score = np.array([1, 0.8, 0.5], dtype=np.float32)  # the first row is never removed
    found = changed(score, truth, np.array([0, 3]))
    assert found.changed == 10_000
    assert found.rows == 1
    assert found.by_eps == {"0.001": 0, "0.01": 0, "0.1": 1}
    assert found.decisions == 2 * 29_901


def test_similar_pairs_are_all_pairs_at_eps(rng: np.random.Generator):
    x = rows_with_duplicates(rng)
    pairs = similar_pairs(x, "0.1")
    expected = {
        (i, j) for i in range(90) for j in range(i) if exact_cosine(x[i], x[j]) >= np.float32(0.9)
    }
    assert set(zip(pairs.later.tolist(), pairs.earlier.tolist(), strict=True)) == expected


def test_a_pair_is_found_when_one_of_its_rows_goes(rng: np.random.Generator):
    pairs = similar_pairs(unit([[1, 0], [1, 0], [0, 1], [0, 1], [1, 1]]), "0")
    removed = np.array([False, True, False, False, True])
    assert pairs.share_found(removed) == 0.5
    assert pairs.without_partner(removed) == 1
