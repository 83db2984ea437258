"""The best partner of a row within its cluster and across all others, whatever the batches."""

import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from dedup_assets.compute import rescore
from dedup_assets.compute.missed import BestPartners
from dedup_assets_tests.compute.oracle import best_partners
from dedup_assets_tests.conftest import unit

pytestmark = pytest.mark.usefixtures("each_screen")
Side = list[tuple[int, float] | None]
BUDGETS = (1, 20_000, 1 << 30)


def search(
    x: np.ndarray,
    clusters: np.ndarray,
    queries: np.ndarray,
    batches: Sequence[np.ndarray] | None = None,
    budget: int = 1 << 30,
) -> list[tuple[tuple[int, float] | None, tuple[int, float] | None]]:
    """Feed batches of row numbers and keep, of what is found, the best and then the first."""
    queries = queries[np.argsort(clusters[queries], kind="stable")]
    partners = BestPartners(x[queries], clusters[queries], memory_budget=budget)
    sides: tuple[Side, Side] = ([None] * len(queries), [None] * len(queries))
    for given_batch in batches or [np.arange(len(x))]:
        batch = given_batch[np.argsort(clusters[given_batch], kind="stable")]
        rank = np.argsort(np.argsort(batch))
        own = np.argwhere(queries[:, None] == batch[None, :])
        found = partners.add(x[batch], clusters[batch], rank, (own[:, 0], own[:, 1]))
        for side, new in zip(sides, found, strict=True):
            assert len(set(new.query)) == len(new.query)
            for query, place, score in zip(new.query, new.row, new.score, strict=True):
                row, held = int(batch[place]), side[query]
                assert held is None or score >= held[1]
                if held is None or score > held[1] or row < held[0]:
                    side[query] = (row, float(score))
    by_query = dict(zip(queries, zip(*sides, strict=True), strict=True))
    return [by_query[query] for query in sorted(queries)]


def cut(rng: np.random.Generator, n: int, size: int) -> list[np.ndarray]:
    """Batches of ``size`` rows, each row in one of them, in random order."""
    order = rng.permutation(n)
    return [order[i : i + size] for i in range(0, n, size)]


def test_four_rows_worked_out_by_hand():
    """Rows 0 and 1 are one cluster, 2 and 3 are copies of row 0 in another one."""
    x = unit([(1, 0), (3, 4), (1, 0), (1, 0)])
    found = search(x, np.array([0, 0, 1, 1]), np.arange(4))
    three_fifths = pytest.approx(0.6, abs=1e-7)
    assert found == [
        ((1, three_fifths), (2, 1.0)),
        ((0, three_fifths), (2, three_fifths)),
        ((3, 1.0), (0, 1.0)),
        ((2, 1.0), (0, 1.0)),
    ]


def test_row_that_is_alone_has_no_partner_within_and_one_cluster_has_none_across():
    x = unit([(1, 0), (0, 1), (-1, 0)])
    assert search(x, np.array([0, 1, 1]), np.array([0])) == [(None, (1, 0.0))]
    assert search(x, np.array([5, 5, 5]), np.array([0])) == [((1, 0.0), None)]


def test_negative_best_is_found():
    x = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    assert search(x, np.array([0, 0]), np.array([0])) == [((1, -1.0), None)]
    assert search(x, np.array([0, 1]), np.array([0])) == [(None, (1, -1.0))]


@settings(max_examples=60)
@given(st.data())
def test_batches_their_order_and_the_budget_change_nothing(data: st.DataObject):
    """Small integers make many equal rows and equal scores."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    n, dim = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 5))
    x = unit(rng.integers(-1, 3, size=(n, dim)) + data.draw(st.sampled_from([1e-3, 0.5])))
    clusters = rng.integers(0, data.draw(st.integers(1, 6)), n)
    queries = np.sort(rng.choice(n, data.draw(st.integers(1, n)), replace=False))
    batches = cut(rng, n, data.draw(st.integers(1, n)))
    budget = data.draw(st.sampled_from(BUDGETS))
    assert search(x, clusters, queries, batches, budget) == best_partners(x, clusters, queries)


@pytest.mark.parametrize("shape", [(900, 24), (600, 7), (300, 400)])
def test_many_rows_agree_with_a_float64_product(shape: tuple[int, int], rng: np.random.Generator):
    x = unit(rng.normal(size=shape))
    x[1::7] = x[::7][: len(x[1::7])]
    x[2::7] = unit(x[::7][: len(x[2::7])] + 1e-7 * rng.normal(size=x[2::7].shape))
    clusters = rng.integers(0, 9, len(x))
    queries = np.sort(rng.choice(len(x), 200, replace=False))
    expected = best_partners(x, clusters, queries)
    for size, threads in ((len(x), 1), (37, 2), (250, 1)):
        with threadpool_limits(threads):
            assert search(x, clusters, queries, cut(rng, len(x), size)) == expected


ADVERSARIES: dict[str, float] = {"copies": 0.0, "near copies": 1e-8, "tight group": 1e-4}


def adversary(name: str, n: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    noise = ADVERSARIES[name] * rng.normal(size=(n, dim))
    return unit(rng.normal(size=dim) + noise)


@pytest.mark.parametrize("budget", BUDGETS[1:])
@pytest.mark.parametrize("name", ADVERSARIES)
def test_rows_that_all_are_candidates_have_the_right_partners(
    name: str, budget: int, rng: np.random.Generator
):
    x = adversary(name, 500, 48, rng)
    clusters = rng.integers(0, 3, 500)
    queries = np.sort(rng.choice(500, 60, replace=False))
    batches = cut(rng, 500, 130)
    assert search(x, clusters, queries, batches, budget) == best_partners(x, clusters, queries)


@pytest.mark.parametrize("name", ADVERSARIES)
def test_rows_that_all_are_candidates_are_not_rescored_one_by_one(
    name: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    """Or a popular clip would cost rows x sample sums instead of a product of matrices."""
    rescored = []
    real = rescore.pair_dots

    def counting(a: Any, a_rows: Any, b: Any, b_rows: Any) -> Any:
        rescored.append(len(a_rows))
        return real(a, a_rows, b, b_rows)

    monkeypatch.setattr(rescore, "pair_dots", counting)
    n, q, size = 4000, 200, 500
    x = adversary(name, n, 32, rng)
    search(x, rng.integers(0, 2, n), np.arange(0, n, n // q), cut(rng, n, size))
    assert sum(rescored) <= 2 * q * (n // size)
    assert sum(rescored) < n * q / 100


def test_of_copies_the_lowest_other_than_the_query_itself_wins(rng: np.random.Generator):
    row = unit(rng.normal(size=(1, 20)))
    x = np.concatenate([np.repeat(row, 50, axis=0), unit(rng.normal(size=(5, 20)))])
    clusters = np.zeros(55, dtype=int)
    for batches in (None, cut(rng, 55, 8), cut(rng, 55, 55)):
        found = search(x, clusters, np.arange(50), batches)
        assert found == [((1, 1.0), None)] + [((0, 1.0), None)] * 49


def test_a_call_holds_little_more_than_its_budget(rng: np.random.Generator):
    budget = 2_000_000
    for x in (unit(rng.normal(size=(4000, 16))), adversary("tight group", 4000, 16, rng)):
        clusters = np.repeat([0, 1], 2000)
        partners = BestPartners(x[:3000], clusters[:3000], memory_budget=budget)
        own = np.arange(3000), np.arange(3000)
        tracemalloc.start()
        partners.add(x, clusters, np.arange(4000), own)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.5 * budget, peak


def test_rows_are_not_changed(rng: np.random.Generator):
    x = unit(rng.normal(size=(50, 6)))
    before = x.copy()
    search(x, rng.integers(0, 3, 50), np.arange(50))
    np.testing.assert_array_equal(x, before)


def test_empty_batch_and_no_queries_find_nothing():
    x = unit(np.eye(3))
    none = np.empty(0, dtype=int)
    partners = BestPartners(x, np.arange(3))
    for found in partners.add(x[:0], none, none, (none, none)):
        assert (len(found.query), len(found.row), len(found.score)) == (0, 0, 0)
    for found in BestPartners(x[:0], none).add(x, np.arange(3), np.arange(3), (none, none)):
        assert len(found.query) == 0


def test_rows_that_are_not_of_length_one_are_refused():
    x = unit(np.eye(3))
    none = np.empty(0, dtype=int)
    with pytest.raises(ValueError, match="rows must have length 1, but a squared length is off"):
        BestPartners(2 * x, np.arange(3))
    with pytest.raises(ValueError, match="normalise them with compute"):
        BestPartners(x, np.arange(3)).add(2 * x, np.arange(3), np.arange(3), (none, none))


@settings(max_examples=60)
@given(st.data())
def test_search_that_begins_with_what_is_known_finds_what_a_whole_one_does(data: st.DataObject):
    """Whatever is known already: of equal scores the lowest row wins, known or found."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    n, dim = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 4))
    x = unit(rng.integers(-1, 3, size=(n, dim)) + 0.5)
    clusters = rng.integers(0, data.draw(st.integers(1, 4)), n)
    parts = np.split(rng.permutation(n), [data.draw(st.integers(1, n - 1))])
    old, new = (np.sort(part) for part in parts)
    expected = search(x, clusters, old)
    before = search(x, clusters, old, [old])
    queries = np.argsort(clusters[old], kind="stable")
    held_scores = [[-np.inf if s is None else s[1] for s in before[q]] for q in queries]
    within, across = np.float32(held_scores).T.copy()
    given_scores = within.copy(), across.copy()
    partners = BestPartners(x[old][queries], clusters[old][queries], known=(within, across))
    batch = new[np.argsort(clusters[new], kind="stable")]
    none = np.empty(0, dtype=int)
    found = partners.add(x[batch], clusters[batch], np.argsort(np.argsort(batch)), (none, none))
    after = [list(sides) for sides in before]
    for side, rows in enumerate(found):
        for query, row, score in zip(rows.query, rows.row, rows.score.tolist(), strict=True):
            held = after[queries[query]][side]
            assert held is None or score >= held[1]
            if held is None or score > held[1] or batch[row] < held[0]:
                after[queries[query]][side] = (int(batch[row]), score)
    assert [tuple(sides) for sides in after] == expected
    np.testing.assert_array_equal((within, across), given_scores)
