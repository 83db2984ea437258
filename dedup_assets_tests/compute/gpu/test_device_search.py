"""The search on a GPU, with its real kernels run thread by thread on the CPU."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.data import make_scenes
from dedup_assets.compute import device_search, float16
from dedup_assets.compute.device_search import squared_lengths
from dedup_assets.compute.exact import squared_norms
from dedup_assets.compute.pairwise import _on_device
from dedup_assets.compute.plan import Plan
from dedup_assets_tests.compute.gpu.emulator import COMPILER, EmulatedBackend, compile_kernels
from dedup_assets_tests.compute.oracle import best_earlier_by_product, exact_cosine
from dedup_assets_tests.rows import unit, with_duplicates

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> EmulatedBackend:
    return EmulatedBackend(compile_kernels(tmp_path_factory.mktemp("kernels")))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several strips and tiles for a few hundred rows."""
    set_sides(monkeypatch, 64)


def set_sides(monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    for name in ("_MOST_ROWS", "_FEWEST_ROWS"):
        monkeypatch.setattr(device_search, name, side)
    monkeypatch.setattr(device_search, "_PRODUCT", side * side)
    monkeypatch.setattr(device_search, "_TOGETHER", side + 6)


def search(
    backend: EmulatedBackend, x: np.ndarray, *sizes: int, exact: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *(sizes or (len(x),))])
    found = _on_device(backend, x, offsets, Plan(exact, 1 << 30), None)
    return found.score, found.index


def expected(x: np.ndarray, *sizes: int) -> tuple[np.ndarray, np.ndarray]:
    parts = np.split(x, np.cumsum(sizes)[:-1])
    scores, indices = zip(*(best_earlier_by_product(part) for part in parts), strict=True)
    return np.concatenate(scores), np.concatenate(indices)


@pytest.mark.parametrize("dim", [1, 7, 64, 65])
def test_one_product(backend: EmulatedBackend, rng: np.random.Generator, dim: int):
    x = with_duplicates(rng, 90, dim)
    np.testing.assert_array_equal(search(backend, x), expected(x, 90))


@pytest.mark.parametrize("dim", [1, 2, 3, 31, 64, 769])
def test_squared_lengths_are_those_of_the_host(
    backend: EmulatedBackend, rng: np.random.Generator, dim: int
):
    x = rng.normal(size=(20, dim)).astype(np.float32)
    np.testing.assert_array_equal(squared_lengths(backend, x), squared_norms(x))


@pytest.mark.parametrize("dim", [1, 7, 8, 70])
def test_rows_are_halved_as_numpy_does_it(
    backend: EmulatedBackend, rng: np.random.Generator, dim: int
):
    x = (rng.normal(size=(20, dim)) * 10.0 ** -rng.integers(0, 10, size=(20, dim))).astype("f4")
    x[3] = np.float32([1 + 2**-11])  # half way between two numbers of float16
    x[4] = np.float32([-1 - 3 * 2**-11])
    x[5] = 0
    chosen = rng.permutation(20)[:15]
    half, residual = np.full((15, 80), 7, np.float16), np.empty(15, np.float32)
    backend.launch("halve", (15, 1), 64, 0, x, np.int32(dim), chosen, half, np.int32(80), residual)
    np.testing.assert_array_equal(half[:, :dim], x[chosen].astype(np.float16))
    np.testing.assert_array_equal(half[:, dim:], 0)
    lost = x[chosen].astype(np.float64) - x[chosen].astype(np.float16)
    np.testing.assert_allclose(residual, np.linalg.norm(lost, axis=1), rtol=dim * 2.0**-23)


def test_strips_and_tiles(backend: EmulatedBackend, rng: np.random.Generator, small_tiles: None):
    x = with_duplicates(rng, 300, 40)
    backend.shapes.clear()
    np.testing.assert_array_equal(search(backend, x), expected(x, 300))
    assert len(backend.shapes) > 10  # tiles on or below the diagonal
    assert max(backend.shapes) <= (1, 64, 64)


def test_many_clusters_of_all_sizes_in_few_launches(
    backend: EmulatedBackend, rng: np.random.Generator
):
    sizes = (1, 0, 30, 2, 31, 29, 5, 4, 64, 65, 1, 3)
    x = with_duplicates(rng, sum(sizes), 24)
    backend.launches.clear()
    np.testing.assert_array_equal(search(backend, x, *sizes), expected(x, *[s for s in sizes if s]))
    assert backend.launches.count("screen") < len(sizes)


def test_clusters_both_larger_and_smaller_than_a_product(
    backend: EmulatedBackend, rng: np.random.Generator, small_tiles: None
):
    sizes = (150, 20, 64, 65, 18)
    x = with_duplicates(rng, sum(sizes), 16)
    np.testing.assert_array_equal(search(backend, x, *sizes), expected(x, *sizes))


def test_rows_with_more_near_ties_than_slots(
    backend: EmulatedBackend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    """No two are equal, and float16 cannot tell them apart: all are settled in float64."""
    monkeypatch.setattr(device_search, "_FEWEST_SLOTS", 16)
    settled: list[int] = []
    by_product = device_search.best_earlier_in_float64

    def counted(rows: Any, lines: Any, *limits: int) -> Any:
        settled.append(len(lines))
        return by_product(rows, lines, *limits)

    monkeypatch.setattr(device_search, "best_earlier_in_float64", counted)
    x = unit(rng.normal(size=24) + 1e-6 * rng.normal(size=(100, 24)))
    assert len(np.unique(x, axis=0)) > 90
    np.testing.assert_array_equal(search(backend, x, 60, 40), expected(x, 60, 40))
    assert settled == [60 - 17, 40 - 17]


def test_larger_clusters_list_more_candidates():
    assert [device_search._slots(rows) for rows in (2, 1024, 3200, 10**6)] == [64, 64, 200, 1024]


def test_static_scenes(backend: EmulatedBackend):
    """Each row has many earlier ones that only float64 tells apart, and in the first cluster more
    than are listed."""
    x = make_scenes(3000, 16, 200, seed=3)
    found = search(backend, x, 2200, 800)
    np.testing.assert_array_equal(found, expected(x, 2200, 800))
    assert (found[0] > 0.999).sum() > 2900


def test_ladders_of_magnitudes(backend: EmulatedBackend, rng: np.random.Generator):
    """What float16 rounds away, or loses, differs from number to number of a row."""
    shape = (300, 50)
    x = unit(rng.choice([-1.0, 1.0], shape) * 2.0 ** -rng.integers(0, 30, shape))
    x[1::2] = unit(x[1::2] + 1e-4 * rng.normal(size=x[1::2].shape))
    np.testing.assert_array_equal(search(backend, x, 200, 100), expected(x, 200, 100))


@pytest.mark.parametrize("threads", [128, 256])
def test_blocks_of_more_threads(
    backend: EmulatedBackend,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
):
    monkeypatch.setattr(backend, "all_threads", True)
    monkeypatch.setattr(device_search, "_THREADS", threads)
    monkeypatch.setattr(float16, "_THREADS", threads)
    monkeypatch.setattr(device_search, "_WIDE_ROW", 32 if threads == 256 else 2048)
    x = with_duplicates(rng, 130, 65)
    np.testing.assert_array_equal(search(backend, x, 90, 40), expected(x, 90, 40))


def test_values_that_float16_holds_only_as_subnormal_numbers(
    backend: EmulatedBackend, rng: np.random.Generator
):
    x = unit(np.concatenate([np.ones((60, 1)), 1e-5 * rng.normal(size=(60, 30))], axis=1))
    np.testing.assert_array_equal(search(backend, x), expected(x, 60))


def test_fast_scores_are_cosines_of_the_named_pair_just_below_the_maximum(
    backend: EmulatedBackend, rng: np.random.Generator
):
    x = with_duplicates(rng, 120, 32)
    score, index = search(backend, x, exact=False)
    best, _ = expected(x, 120)
    assert (score <= best).all()
    assert (score >= best - 1e-3).all()
    for i in range(1, len(x)):
        assert score[i] == np.float32(exact_cosine(x[i], x[index[i]]))


def test_a_cluster_alone_is_searched_without_a_copy_of_its_rows(
    backend: EmulatedBackend, rng: np.random.Generator, small_tiles: None
):
    """Its tiles end where it does, not at a multiple of anything."""
    backend.shapes.clear()
    search(backend, unit(rng.normal(size=(71, 16))))
    assert backend.shapes == [(1, 64, 64), (1, 7, 64), (1, 7, 7)]


def test_half_of_a_batch_is_left_out(backend: EmulatedBackend, rng: np.random.Generator):
    x = unit(rng.normal(size=(2 * 1030, 8)))
    backend.shapes.clear()
    np.testing.assert_array_equal(search(backend, x, 1030, 1030), expected(x, 1030, 1030))
    assert backend.shapes[0] == (2, 128, 128)
    assert sum(rows * columns for _, rows, columns in backend.shapes) < 0.6 * 1030**2


def test_numbers_below_the_range_of_float32_count(backend: EmulatedBackend):
    """The compiler's flush to zero must not reach a score: the kernel's casts are its own."""
    x = np.array([[1, 0, 0], [1e-40, 1, 0], [-1e-41, 1e-42, 1]], dtype=np.float32)
    score, index = search(backend, x)
    assert score.tolist() == [0, x[1, 0], x[2, 1]]
    assert index.tolist() == [0, 0, 1]


def test_memory_that_runs_out_makes_smaller_products(
    backend: EmulatedBackend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(device_search, "_FEWEST_ROWS", 64)
    monkeypatch.setattr(backend, "room", 80 * 80)
    x = unit(rng.normal(size=(330, 16)))
    done: list[int] = []
    found = _on_device(backend, x, np.array([0, 200, 330]), Plan(True, 1 << 30), done.append)
    np.testing.assert_array_equal((found.score, found.index), expected(x, 200, 130))
    assert sum(done) == 330


def test_no_memory_at_all_ends_the_search(
    backend: EmulatedBackend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(backend, "room", 10)
    for sizes in [(30,), (15, 15)]:
        with pytest.raises(MemoryError):
            search(backend, with_duplicates(rng, 30, 16), *sizes)


def test_progress_counts_every_distinct_row_once(
    backend: EmulatedBackend, rng: np.random.Generator, small_tiles: None
):
    x = unit(rng.normal(size=(200, 8)))
    done: list[int] = []
    _on_device(backend, x, np.array([0, 150, 190, 200]), Plan(True, 1 << 30), done.append)
    assert sum(done) == 200


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Clusters, dimension and limits; few directions, so that copies and near copies abound."""
    size = st.sampled_from([0, 1, 2, 3, 8, 9, 31, 63, 64, 65, 100, 130])
    return {
        "sizes": draw(st.lists(size, max_size=5)),
        "dim": draw(st.sampled_from([1, 2, 3, 7, 8, 9, 33])),
        "kind": draw(st.sampled_from(["normal", "near", "grid"])),
        "seed": draw(st.integers(0, 2**32 - 1)),
        "side": draw(st.sampled_from([64, 128, 2048])),
        "budget": draw(st.sampled_from([1, 30_000, 200_000, 1 << 30])),
        "tile": draw(st.sampled_from([None, 1, 100])),
        "exact": draw(st.booleans()),
    }


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plans())
def test_clusters_dimensions_and_limits_change_nothing(
    backend: EmulatedBackend, monkeypatch: pytest.MonkeyPatch, plan: dict[str, Any]
):
    set_sides(monkeypatch, plan["side"])
    rng = np.random.default_rng(plan["seed"])
    shape = (sum(plan["sizes"]), plan["dim"])
    match plan["kind"]:
        case "near":
            x = unit(1 + 1e-4 * rng.normal(size=shape))
        case "grid":
            x = unit(rng.integers(-1, 2, size=shape) + 1e-3)
        case _:
            x = with_duplicates(rng, *shape)
    offsets = np.cumsum([0, *plan["sizes"]])
    limits = Plan(plan["exact"], plan["budget"], plan["tile"])
    found = _on_device(backend, x, offsets, limits, None)
    for begin, end in itertools.pairwise(offsets):
        if begin == end:
            continue
        score, index = best_earlier_by_product(x[begin:end])
        if plan["exact"]:
            np.testing.assert_array_equal(found.score[begin:end], score)
            np.testing.assert_array_equal(found.index[begin:end], index)
        else:
            assert (found.score[begin:end] <= score).all()
            assert (found.score[begin:end] >= score - 1e-3).all()


def test_kernels_are_part_of_the_package():
    assert Path(device_search.__file__).with_name("kernels.cu").exists()
