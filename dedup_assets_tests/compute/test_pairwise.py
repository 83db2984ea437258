"""The score of a row: the highest cosine with any earlier row, rounded to float32."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from dedup_assets.compute.pairwise import best_earlier_match
from dedup_assets.compute.plan import Plan
from dedup_assets.compute.triangle import block_sizes
from dedup_assets_tests.compute.oracle import best_earlier, best_earlier_by_product, exact_cosine
from dedup_assets_tests.conftest import unit

SIX = unit([(1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12), (1, 2, 3), (1, 2, 3)])
BUDGETS = (1, 40_000, 200_000, 1 << 30)
"""Tiles of 8 rows up to tiles that hold everything."""


def assert_as_oracle(x: np.ndarray, **options: Any) -> None:
    found = best_earlier_match(x, **options)
    score, index = best_earlier(x)
    np.testing.assert_array_equal(found.score, score)
    np.testing.assert_array_equal(found.index, index)


@pytest.mark.parametrize(
    ("order", "match", "score"),
    [
        ([3, 2, 1, 5, 4, 0], [3, 3, 2, 1, 5, 5], [0, 0.99961, 0.99819, 0.974631, 1, 1]),
        ([0, 4, 5, 1, 2, 3], [0, 0, 0, 0, 1, 2], [0, 1, 1, 0.974631, 0.99819, 0.99961]),
    ],
    ids=["hard", "easy"],
)
def test_six_rows_worked_out_by_hand(order: list[int], match: list[int], score: list[float]):
    found = best_earlier_match(SIX[order])
    assert [order[i] for i in found.index] == match
    np.testing.assert_allclose(found.score, score, atol=1e-5)
    assert [s == 1.0 for s in found.score] == [s == 1 for s in score]


def test_results_have_the_documented_types():
    found = best_earlier_match(SIX)
    assert (found.score.dtype, found.index.dtype) == (np.float32, np.int64)
    assert found.score.shape == found.index.shape == (6,)


@pytest.mark.parametrize("precision", ["exact", "fast"])
@pytest.mark.parametrize("n", [0, 1])
def test_a_row_without_an_earlier_one_scores_zero_with_itself(n: int, precision: Any):
    found = best_earlier_match(unit(np.ones((n, 3))), precision=precision)
    assert found.score.tolist() == [0.0] * n
    assert found.index.tolist() == [0] * n


def test_two_rows():
    found = best_earlier_match(unit([(1, 0), (1, 1)]))
    assert found.index.tolist() == [0, 0]
    assert found.score[1] == np.float32(exact_cosine(*unit([(1, 0), (1, 1)])))


def test_one_dimension_has_similarities_of_plus_and_minus_one():
    x = np.array([[1], [-1], [-1], [1], [-1]], dtype=np.float32)
    found = best_earlier_match(x)
    assert found.score.tolist() == [0, -1, 1, 1, 1]
    assert found.index.tolist() == [0, 0, 1, 0, 1]


def test_negative_maximum_is_reported_and_not_taken_for_a_mask():
    angles = np.deg2rad([0, 120, 240])
    x = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    found = best_earlier_match(x)
    np.testing.assert_allclose(found.score, [0, -0.5, -0.5], atol=1e-6)
    assert_as_oracle(x)
    opposite = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    assert best_earlier_match(opposite).score.tolist() == [0.0, -1.0]


@pytest.mark.parametrize("first_is_lower", [True, False])
def test_of_two_earlier_rows_that_round_to_one_score_the_earliest_wins(first_is_lower: bool):
    """Their float64 cosines differ by less than one step of float32; the score cannot tell."""
    query = unit([(1, 1)])[0]
    step = np.float32(2.0**-28)
    a, b = np.array([[1, step], [1, 2 * step]], dtype=np.float32)
    low, high = sorted((a, b), key=lambda row: exact_cosine(row, query))
    assert exact_cosine(low, query) < exact_cosine(high, query)
    assert np.float32(exact_cosine(low, query)) == np.float32(exact_cosine(high, query))
    earlier = [low, high] if first_is_lower else [high, low]
    # The two are each other's match at 1 and not copies; the third has to choose.
    assert best_earlier_match(np.array([*earlier, query])).index.tolist() == [0, 0, 0]


@pytest.mark.parametrize("copies", [3000])
def test_many_copies_match_their_first_appearance(copies: int, rng: np.random.Generator):
    rows = unit(rng.normal(size=(4, 64)))
    order = rng.integers(0, 4, copies)
    found = best_earlier_match(rows[order])
    first = np.array([np.flatnonzero(order == i)[0] for i in range(4)])
    later = np.setdiff1d(np.arange(copies), first)
    assert (found.score[later] == 1.0).all()
    np.testing.assert_array_equal(found.index[later], first[order[later]])


def test_many_near_copies_that_all_round_to_one_match_the_first(rng: np.random.Generator):
    """No two rows are equal, so no shortcut for copies helps, and every pair is a candidate."""
    x = unit(rng.normal(size=64) + 1e-8 * rng.normal(size=(600, 64)))
    x = x[np.sort(np.unique(x, axis=0, return_index=True)[1])]
    assert len(x) > 300
    score, index = best_earlier_by_product(x)
    for budget in BUDGETS:
        found = best_earlier_match(x, memory_budget=budget)
        np.testing.assert_array_equal(found.score, score)
        np.testing.assert_array_equal(found.index, index)


@pytest.mark.parametrize("shape", [(700, 24), (1500, 7), (300, 768)])
def test_many_rows_with_duplicates_agree_with_a_float64_product(
    shape: tuple[int, int], rng: np.random.Generator
):
    x = unit(rng.normal(size=shape))
    x[shape[0] // 2 :: 3] = x[: len(x[shape[0] // 2 :: 3])]
    x[1::7] = unit(x[::7][: len(x[1::7])] + 1e-7 * rng.normal(size=x[1::7].shape))
    found = best_earlier_match(x)
    score, index = best_earlier_by_product(x)
    np.testing.assert_array_equal(found.score, score)
    np.testing.assert_array_equal(found.index, index)


def test_memory_budget_and_threads_change_nothing(rng: np.random.Generator):
    x = unit(rng.integers(-2, 3, size=(777, 5)) + 1e-3)
    expected = best_earlier_match(x)
    for budget in BUDGETS:
        for threads in (1, 2):
            with threadpool_limits(threads):
                found = best_earlier_match(x, memory_budget=budget)
            np.testing.assert_array_equal(found.score, expected.score)
            np.testing.assert_array_equal(found.index, expected.index)


def test_tile_size_follows_the_memory_budget():
    """Or the tests above would compare one tiling with itself."""
    sizes = {block_sizes(777, 5, 2, Plan(True, budget))[0] for budget in BUDGETS}
    assert min(sizes) <= 8
    assert len(sizes) >= 3


def test_a_prefix_of_the_rows_has_the_results_of_the_whole(rng: np.random.Generator):
    x = unit(rng.integers(-2, 3, size=(300, 4)) + 0.01)
    whole = best_earlier_match(x)
    for n in (1, 63, 64, 65, 199):
        part = best_earlier_match(x[:n])
        np.testing.assert_array_equal(part.score, whole.score[:n])
        np.testing.assert_array_equal(part.index, whole.index[:n])


def test_input_is_not_changed_and_may_be_a_view(rng: np.random.Generator):
    x = unit(rng.normal(size=(40, 6)))
    before = x.copy()
    expected = best_earlier_match(x[::2].copy())
    found = best_earlier_match(x[::2])
    np.testing.assert_array_equal(found.index, expected.index)
    np.testing.assert_array_equal(best_earlier_match(np.asfortranarray(x[::2])).score, found.score)
    np.testing.assert_array_equal(x, before)


@st.composite
def adversarial_rows(draw: st.DrawFn) -> np.ndarray:
    """Few directions, so that copies, near copies, opposites and exact ties abound."""
    dim = draw(st.integers(1, 6))
    n = draw(st.integers(0, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["grid", "one-hot", "near", "negative", "normal"]))
    match kind:
        case "grid":
            base = rng.integers(-2, 3, size=(n, dim)).astype(float)
            base[(base == 0).all(axis=1)] = 1.0
        case "one-hot":
            base = np.eye(dim)[rng.integers(0, dim, n)] * rng.choice([-1, 1], size=(n, 1))
        case "near":
            size = draw(st.sampled_from([1e-7, 1e-8, 3e-4]))
            base = np.ones(dim) + size * rng.normal(size=(n, dim))
        case "negative":
            base = np.eye(dim)[np.arange(n) % dim] * rng.choice([-1, 1], size=(n, 1)) - 0.1
        case _:
            base = rng.normal(size=(n, dim))
    rows = unit(base)
    for i, j, sign in draw(st.lists(st.tuples(*[st.integers(0, 23)] * 2, st.booleans()))):
        if i < n and j < n:
            rows[i] = rows[j] if sign else -rows[j]
    return rows


@settings(max_examples=200)
@given(adversarial_rows(), st.sampled_from(BUDGETS))
def test_equals_the_definition(x: np.ndarray, budget: int):
    assert_as_oracle(x, memory_budget=budget)


@settings(max_examples=100)
@given(adversarial_rows(), st.sampled_from(BUDGETS))
def test_fast_scores_are_cosines_of_the_named_pair_just_below_the_maximum(
    x: np.ndarray, budget: int
):
    fast = best_earlier_match(x, precision="fast", memory_budget=budget)
    exact, _ = best_earlier(x)
    assert (fast.score <= exact).all()
    assert (fast.score >= exact - 1e-3).all()
    for i in range(1, len(x)):
        assert fast.index[i] < i
        assert fast.score[i] == np.float32(exact_cosine(x[i], x[fast.index[i]]))


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (SIX.astype(np.float64), "float64"),
        (SIX.astype(np.float16), "float16"),
        (SIX[0], r"shape \(3,\)"),
        (SIX[None], r"shape \(1, 6, 3\)"),
        (SIX * np.float32(2), "length 1"),
        (SIX * np.float32(0), "length 1"),
        (np.where(np.arange(6)[:, None] == 4, np.float32(np.nan), SIX), "length 1"),
        (np.where(np.arange(6)[:, None] == 4, np.float32(np.inf), SIX), "length 1"),
    ],
    ids=["float64", "float16", "vector", "cube", "long", "zero", "nan", "inf"],
)
def test_rows_that_have_no_cosine_are_refused(x: np.ndarray, says: str):
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=says):
        best_earlier_match(x)


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="exact, fast, got 'rough'"):
        best_earlier_match(SIX, precision="rough")  # type: ignore[arg-type]
