"""Every screen leads to the same result: the definition's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_assets.compute import bfloat16
from dedup_assets.compute.bounds import cast_bound, screen_bound
from dedup_assets.compute.pairwise import (
    BestMatch,
    _on_host,
    best_earlier_match,
    best_earlier_matches,
)
from dedup_assets.compute.plan import Plan
from dedup_assets.compute.products import BFloat16
from dedup_assets.compute.rescore import contenders
from dedup_assets_tests.compute.oracle import best_earlier_by_product
from dedup_assets_tests.compute.screens import SCREENS, needs_bfloat16
from dedup_assets_tests.conftest import unit


def search(x: np.ndarray, bfloat16: bool, *sizes: int, tile: int | None = None) -> BestMatch:
    offsets = np.cumsum([0, *(sizes or (len(x),))])
    return _on_host(x, offsets, Plan(True, 1 << 30, tile), None, bfloat16)


def assert_as_product(found: BestMatch, x: np.ndarray, *sizes: int) -> None:
    for part in np.split(np.arange(len(x)), np.cumsum(sizes)[:-1]):
        if len(part):
            score, index = best_earlier_by_product(x[part])
            np.testing.assert_array_equal(found.score[part], score)
            np.testing.assert_array_equal(found.index[part], index)


@pytest.mark.parametrize("bfloat16", SCREENS)
@pytest.mark.parametrize("tile", [None, 64, 100])
def test_several_blocks(rng: np.random.Generator, bfloat16: bool, tile: int | None):
    x = unit(rng.normal(size=(1700, 48)))
    x[900::3] = unit(x[: len(x[900::3])] + 1e-4 * rng.normal(size=x[900::3].shape))
    assert_as_product(search(x, bfloat16, tile=tile), x, 1700)


@pytest.mark.parametrize("bfloat16", SCREENS)
@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6])
def test_rows_that_lie_closer_than_a_screen_can_tell(
    rng: np.random.Generator, bfloat16: bool, distance: float
):
    """Each row has hundreds of candidates, so finer screens have to settle it."""
    x = unit(rng.normal(size=96) + distance * rng.normal(size=(1500, 96)))
    assert_as_product(search(x, bfloat16), x, 1500)


@pytest.mark.parametrize("bfloat16", SCREENS)
def test_close_rows_among_others(rng: np.random.Generator, bfloat16: bool):
    """Crowded rows of a block are no block themselves: their numbers have gaps."""
    x = unit(rng.normal(size=(1500, 32)))
    x[::5] = unit(x[0] + 1e-4 * rng.normal(size=x[::5].shape))
    assert_as_product(search(x, bfloat16), x, 1500)


@pytest.mark.parametrize("bfloat16", SCREENS)
def test_clusters_do_not_see_each_other(rng: np.random.Generator, bfloat16: bool):
    sizes = (0, 700, 1, 2, 0, 300, 63, 64, 65, 0)
    x = unit(rng.normal(size=(sum(sizes), 24)))
    x[700:] = x[: len(x) - 700]  # each repeats a row of another cluster, and some of their own
    x[40:600:7] = x[5]
    assert_as_product(search(x, bfloat16, *sizes), x, *sizes)


def test_a_cluster_alone_and_among_others_scores_the_same(rng: np.random.Generator):
    x = unit(rng.normal(size=(900, 16)))
    together = best_earlier_matches(x, [0, 100, 900])
    alone = best_earlier_match(x[100:])
    np.testing.assert_array_equal(together.score[100:], alone.score)
    np.testing.assert_array_equal(together.index[100:], alone.index)


def test_no_clusters():
    found = best_earlier_matches(np.empty((0, 4), np.float32), [0])
    assert found.score.shape == found.index.shape == (0,)


@pytest.mark.parametrize("offsets", [[0], [0, 2], [1, 3], [0, 2, 1, 3], [0, 4]])
def test_offsets_that_do_not_cover_the_rows_are_refused(offsets: list[int]):
    with pytest.raises(ValueError, match="offsets must ascend from 0 to 3"):
        best_earlier_matches(unit(np.eye(3)), offsets)


def test_progress_counts_rows_and_comes_from_this_thread(rng: np.random.Generator):
    import threading

    heard: list[tuple[int, int]] = []
    x = unit(rng.normal(size=(2000, 8)))
    best_earlier_matches(
        x,
        [0, 1, 1500, 2000],
        on_rows=lambda rows: heard.append((rows, threading.get_ident())),
    )
    assert sum(rows for rows, _ in heard) == 2000
    assert {thread for _, thread in heard} == {threading.get_ident()}


@st.composite
def any_rows(draw: st.DrawFn) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, dim = draw(st.integers(1, 300)), draw(st.integers(1, 70))
    spread = draw(st.sampled_from([1e-7, 1e-5, 1e-3, 1e-1, 1.0]))
    scale = 10.0 ** draw(st.integers(-30, 0)) if draw(st.booleans()) else 1.0
    x = rng.normal(size=dim) + spread * rng.normal(size=(n, dim))
    x[:, : dim // 2] *= scale  # rows with parts that a short format rounds to nothing
    x[rng.random(n) < 0.3] *= -1
    return unit(x)


@needs_bfloat16
@settings(max_examples=60)
@given(any_rows(), st.sampled_from([None, 64, 96]))
def test_bfloat16_and_float32_agree_to_the_last_bit(x: np.ndarray, tile: int | None):
    narrow, wide = search(x, True, tile=tile), search(x, False, tile=tile)
    np.testing.assert_array_equal(narrow.score, wide.score)
    np.testing.assert_array_equal(narrow.index, wide.index)


@needs_bfloat16
@settings(max_examples=100)
@given(any_rows(), any_rows())
def test_no_bfloat16_product_leaves_its_bound(a: np.ndarray, b: np.ndarray):
    dim = min(a.shape[1], b.shape[1])
    a, b = unit(a[:, :dim] + 1e-3), unit(b[:, :dim] + 1e-3)
    out = np.empty((len(a), len(b)), dtype=np.float32)
    bfloat16.multiply(bfloat16.cast(a), bfloat16.pack(b, len(b)), out)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(wide_a, axis=1)[:, None] * np.linalg.norm(wide_b, axis=1)
    cosine = wide_a @ wide_b.T / lengths
    deviation = max(abs((wide * wide).sum(axis=1) - 1).max() for wide in (wide_a, wide_b))
    largest = float(bfloat16.residuals(b).max())
    bound = cast_bound(dim, deviation, bfloat16.residuals(a).astype(np.float64), largest)
    assert (abs(out - cosine) <= bound[:, None]).all()
    assert (bound < 0.02).all()  # or it would say nothing


@needs_bfloat16
@pytest.mark.parametrize("columns", [1, 127, 128, 131, 132, 133, 136, 300, 1000])
def test_padding_for_a_quick_kernel_changes_no_product(rng: np.random.Generator, columns: int):
    left, rows = unit(rng.standard_normal((70, 96))), unit(rng.standard_normal((columns, 96)))
    expected = np.empty((len(left), columns), dtype=np.float32)
    bfloat16.multiply(bfloat16.cast(left), bfloat16.pack(rows, columns), expected)
    form, out = BFloat16(), np.full((len(left), columns), np.nan, dtype=np.float32)
    right = form.right(rows)
    assert right.product(form.operand(left), out) is out
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(right.product(form.operand(left)), expected)


@given(any_rows(), any_rows(), st.integers(0, 60), st.floats(0, 0.01))
def test_contenders_keep_the_best_pair_of_each_line(
    a: np.ndarray, b: np.ndarray, count: int, below: float
):
    dim = min(a.shape[1], b.shape[1])
    a, b = unit(a[:, :dim] + 1e-3), unit(b[:, :dim] + 1e-3)
    rng = np.random.default_rng(count)
    line, column = rng.integers(0, len(a), count), rng.integers(0, len(b), count)
    cosine = (a.astype(np.float64)[line] * b.astype(np.float64)[column]).sum(axis=1)
    bound = screen_bound(dim, 1e-6)
    keep = contenders(a, line, b, column, bound, below=below)
    for row in np.unique(line):
        of_row = line == row
        best = cosine[of_row].max()
        assert cosine[of_row & keep].max() >= best - below
        assert (cosine[of_row & keep] >= best - 4 * bound).all()


@given(any_rows())
def test_no_float32_product_leaves_its_bound(x: np.ndarray):
    wide = x.astype(np.float64)
    norms = (wide * wide).sum(axis=1)
    cosine = wide @ wide.T / np.sqrt(norms[:, None] * norms)
    bound = screen_bound(x.shape[1], float(abs(norms - 1).max()))
    assert (abs(x @ x.T - cosine) <= bound).all()
