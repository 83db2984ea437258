"""What is updated equals what is searched anew, to the last bit."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from dedup_assets.compute import pairwise, products, rescore, update
from dedup_assets.compute.pairwise import BestMatch, best_earlier_match
from dedup_assets.compute.update import update_matches
from dedup_assets_tests.compute.histories import (
    History,
    after_change,
    groups,
    histories,
    inserted,
    random_change,
)
from dedup_assets_tests.compute.oracle import best_earlier
from dedup_assets_tests.compute.screens import SCREENS
from dedup_assets_tests.conftest import unit

EAST, NORTH, WEST, SOUTH = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], dtype=np.float32)
BUDGETS = (1, 40_000, 1 << 30)


@pytest.fixture(autouse=True)
def always_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows changed, or small cases would be searched anew."""
    monkeypatch.setattr(update, "_WHOLE_FROM", np.inf)


def updated(
    rows: Any,
    known: list[int],
    score: list[float] | None = None,
    fresh: tuple[int, ...] = (),
) -> list[tuple[int, float]]:
    """(match, score) of each row, after a look at what the whole search says."""
    x = np.array(rows, dtype=np.float32).reshape(len(known), 2)
    is_fresh = np.isin(np.arange(len(x)), fresh)
    scores = np.array(score or [0] * len(x), dtype=np.float32)
    found = update_matches(x, np.array(known, dtype=np.int64), scores, is_fresh)
    assert_same(found, best_earlier_match(x))
    return [(int(i), float(s)) for i, s in zip(found.index, found.score, strict=True)]


def assert_same(found: BestMatch, expected: BestMatch) -> None:
    assert (found.score.dtype, found.index.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(found.score, expected.score)
    np.testing.assert_array_equal(found.index, expected.index)


@pytest.mark.parametrize("known", [0, -1])
def test_first_row_matches_itself_at_zero(known: int):
    assert updated(np.empty((0, 2)), []) == []
    assert updated([EAST], [known]) == [(0, 0.0)]
    assert updated([EAST], [-1], fresh=(0,)) == [(0, 0.0)]


def test_two_rows_one_of_them_new():
    assert updated([EAST, WEST], [0, -1], fresh=(1,)) == [(0, 0.0), (0, -1.0)]
    assert updated([EAST, WEST], [-1, 1], fresh=(0,)) == [(0, 0.0), (0, -1.0)]
    assert updated([EAST, WEST], [-1, -1], fresh=(0, 1)) == [(0, 0.0), (0, -1.0)]


def test_nothing_new_leaves_what_is_known():
    assert updated([EAST, NORTH, WEST], [0, 0, 1], [0, 0, 0]) == [(0, 0.0), (0, 0.0), (1, 0.0)]


def test_zero_of_the_first_row_hides_no_negative_score():
    """The old first row, at 0, is now second; its only match is the new row, at -1."""
    assert updated([WEST, EAST], [-1, 1], [0, 0], fresh=(0,)) == [(0, 0.0), (0, -1.0)]
    # It scored 0 as the first row, and what is passed for it is not looked at.
    assert updated([WEST, EAST], [-1, 1], [0, 1], fresh=(0,)) == [(0, 0.0), (0, -1.0)]


def test_negative_known_score_gives_way_to_a_higher_negative_one():
    angles = np.deg2rad([0, 180, 260])
    rows = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    known = float(np.float32(np.cos(angles[2])))
    found = updated(rows, [0, -1, 0], [0, 0, known], fresh=(1,))
    assert [index for index, _ in found] == [0, 0, 1]
    assert found[2][1] > known


def test_new_first_row_is_the_match_of_the_one_it_displaced():
    rows = [NORTH, EAST, WEST, EAST]
    expected = [(0, 0.0), (0, 0.0), (0, 0.0), (1, 1.0)]
    assert updated(rows, [-1, 1, 1, 1], [0, 0, -1, 1], fresh=(0,)) == expected


def test_old_first_row_that_went_leaves_the_next_one_first():
    rows = [NORTH, EAST]
    assert updated(rows, [-1, 0], [0, 0]) == [(0, 0.0), (0, 0.0)]
    assert updated(rows, [-1, -1], [0, 0]) == [(0, 0.0), (0, 0.0)]


def test_of_a_known_and_a_new_match_at_one_score_the_earlier_wins():
    rows = [EAST, EAST, NORTH, EAST]
    ones = [0, 1, 0, 1]
    expected = [(0, 0.0), (0, 1.0), (0, 0.0), (0, 1.0)]
    assert updated(rows, [0, -1, 0, 0], ones, fresh=(1,)) == expected
    assert updated(rows, [-1, 1, 1, 1], ones, fresh=(0,)) == expected


@pytest.mark.parametrize("new_is_earlier", [True, False])
def test_of_a_known_and_a_new_match_that_round_to_one_score_the_earlier_wins(new_is_earlier: bool):
    """No copies, so nothing but the merge can choose."""
    step = np.float32(2.0**-28)
    rows = np.array([[1, step], [1, 2 * step], *unit([(1, 1)])], dtype=np.float32)
    score = float(best_earlier_match(rows).score[2])
    if new_is_earlier:
        found = updated(rows, [-1, 1, 1], [0, 0, score], fresh=(0,))
    else:
        found = updated(rows, [0, -1, 0], [0, 0, score], fresh=(1,))
    assert found[2] == (0, score)


def test_row_whose_match_went_searches_all_earlier_rows():
    diagonal = unit([(1, 1)])[0]
    found = updated([WEST, diagonal, NORTH, EAST], [0, 0, 1, -1], [0, -diagonal[0], diagonal[0], 0])
    assert found[3] == (1, float(diagonal[0]))


def test_new_row_after_all_others_changes_none_of_them():
    rows = [EAST, WEST, NORTH, SOUTH]
    found = updated(rows, [0, 0, 0, -1], [0, -1, 0, 0], fresh=(3,))
    assert found == [(0, 0.0), (0, -1.0), (0, 0.0), (0, 0.0)]


@pytest.mark.parametrize("narrow", SCREENS)
@settings(max_examples=300)
@given(history=histories(), budget=st.sampled_from(BUDGETS), most=st.sampled_from([8, 2048]))
def test_update_equals_the_whole_search(narrow: bool, history: History, budget: int, most: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "bfloat16_is_quicker", lambda: narrow)
        patch.setattr(pairwise, "bfloat16_is_quicker", lambda: narrow)
        patch.setattr(update, "_MOST_CHANGED", most)
        found = history.update(memory_budget=budget)
    assert_same(found, best_earlier_match(history.x))
    score, index = best_earlier(history.x)
    assert_same(found, BestMatch(score, index))


@pytest.mark.parametrize("narrow", SCREENS)
@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("sizes", [(3000, 30, 40), (1500, 300, 300)])
def test_many_rows_in_several_blocks_and_passes(
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    narrow: bool,
    distance: float,
    sizes: tuple[int, int, int],
):
    monkeypatch.setattr(products, "bfloat16_is_quicker", lambda: narrow)
    history = random_change(rng, groups(rng, distance, 48), sizes)
    expected = best_earlier_match(history.x)
    assert_same(history.update(), expected)
    monkeypatch.setattr(update, "_MOST_CHANGED", 100)
    for threads in (1, 2):
        with threadpool_limits(threads):
            assert_same(history.update(memory_budget=500_000), expected)


def test_many_changed_rows_are_searched_with_all_others(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(update, "_WHOLE_FROM", 0.3)
    asked: list[int] = []
    real = best_earlier_match
    monkeypatch.setattr(
        update,
        "best_earlier_match",
        lambda x, **options: asked.append(len(x)) or real(x, **options),
    )
    for new, whole in ((20, []), (60, [160])):
        history = random_change(rng, groups(rng, 1.0, 8), (100, 0, new))
        assert_same(history.update(), real(history.x))
        assert asked == whole


class CountingProducts:
    """Products, and how many elements they had."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.elements = 0
        real = update.screen_format
        counts = self

        def screen_format(xp: Any) -> Any:
            made = real(xp)
            right = made.right

            def counted(rows: Any) -> Any:
                side = right(rows)
                product = side.product

                def counting(operand: Any) -> Any:
                    out = product(operand)
                    counts.elements += out.size
                    return out

                side.product = counting
                return side

            made.right = counted
            return made

        monkeypatch.setattr(update, "screen_format", screen_format)


def test_products_are_of_all_rows_with_changed_ones_only(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    counted = CountingProducts(monkeypatch)
    old, new = unit(rng.normal(size=(1000, 16))), unit(rng.normal(size=(10, 16)))
    order = inserted(rng, np.arange(1000), 1000, 10)
    after_change(old, new, order).update()
    assert counted.elements == 1010 * 10
    counted.elements = 0
    after_change(old, new, order, np.array([500, 700])).update()
    assert counted.elements == 1010 * 12
    counted.elements = 0
    after_change(old, new[:0], np.arange(1000)).update()
    assert counted.elements == 0


def test_of_copies_one_is_searched(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch):
    """Also if the first of them went, so that all others lost their match."""
    counted = CountingProducts(monkeypatch)
    row = unit(rng.normal(size=(1, 64)))
    old, new = np.repeat(row, 5000, axis=0), np.repeat(row, 50, axis=0)
    for kept in (np.arange(5000), np.arange(1, 5000)):
        counted.elements = 0
        history = after_change(old, new, inserted(rng, kept, 5000, 50))
        assert_same(history.update(), best_earlier_match(history.x))
        assert counted.elements <= 1


def test_near_copies_are_not_rescored_one_by_one(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    rescored = []
    real = rescore.pair_dots

    def counting(a: Any, a_rows: Any, b: Any, b_rows: Any) -> Any:
        rescored.append(len(a_rows))
        return real(a, a_rows, b, b_rows)

    monkeypatch.setattr(rescore, "pair_dots", counting)
    centre = rng.normal(size=32)
    x = unit(centre + 1e-6 * rng.normal(size=(4100, 32)))
    history = after_change(x[:4000], x[4000:], inserted(rng, np.arange(4000), 4000, 100))
    history.update()
    assert sum(rescored) < 4100 * 100 / 20


@pytest.mark.parametrize("distance", [1.0, 1e-4])
def test_a_call_holds_little_more_than_its_budget(rng: np.random.Generator, distance: float):
    budget = 4_000_000
    history = random_change(rng, groups(rng, distance, 16), (8000, 200, 400))
    history.update(memory_budget=budget)
    tracemalloc.start()
    history.update(memory_budget=budget)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < budget + 100 * len(history.x), peak


def test_what_is_passed_is_not_changed_and_may_be_a_view(rng: np.random.Generator):
    history = random_change(rng, groups(rng, 1.0, 6), (100, 5, 10))
    arrays = (history.x, history.known, history.known_score, history.fresh)
    before = [array.copy() for array in arrays]
    expected = history.update()
    doubled = History(*(np.repeat(array, 2, axis=0)[::2] for array in arrays))
    assert_same(doubled.update(), expected)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


THREE = np.array([EAST, NORTH, WEST])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": THREE.astype(float)}, "x must be a float32 array .* got float64"),
        ({"x": THREE * np.float32(2)}, "rows must have length 1"),
        ({"known": [0, 0]}, r"known must be of shape \(3,\) and type int64, got int64 of shape"),
        ({"known_score": [0.0, 0.0]}, r"known_score must be of shape \(3,\) and type float32"),
        ({"fresh": [False]}, r"fresh must be of shape \(3,\) and type bool"),
        ({"known": [0, 2, 0]}, r"known\[1\]=2 must be -1, an earlier row"),
        ({"known": [0, -2, 0]}, r"known\[1\]=-2 must be -1, an earlier row"),
        ({"known": [0, 1, 0]}, r"known\[1\]=1 must be -1, an earlier row, or, if every"),
        ({"fresh": [False, False, True]}, r"known\[2\]=0 must be -1.* -1 for a fresh row"),
        ({"fresh": [False, True, False], "known": [0, -1, 1]}, r"known\[2\]=1 .* is not fresh"),
        ({"known_score": [0, np.nan, 0]}, r"known_score=nan .* score from -1 to 1"),
        ({"known_score": [0, 0, 1.5]}, r"known_score=1.5 .* score from -1 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], says: str):
    given = {"known": [0, 0, 0], "known_score": [0, 0, -1], "fresh": [False] * 3} | change
    with pytest.raises(ValueError, match=says):
        update_matches(
            given.get("x", THREE),
            np.array(given["known"], dtype=np.int64),
            np.array(given["known_score"], dtype=np.float32),
            np.array(given["fresh"], dtype=bool),
        )
