"""The search on a GPU, with its real kernels run thread by thread on the CPU."""

from pathlib import Path

import numpy as np
import pytest

from dedup_assets.compute import device_search
from dedup_assets.compute.arrays import DeviceError
from dedup_assets.compute.pairwise import _on_device
from dedup_assets.compute.plan import Plan
from dedup_assets_tests.compute.gpu.emulator import COMPILER, EmulatedBackend, compile_kernels
from dedup_assets_tests.compute.oracle import best_earlier_by_product, exact_cosine
from dedup_assets_tests.conftest import unit

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> EmulatedBackend:
    return EmulatedBackend(compile_kernels(tmp_path_factory.mktemp("kernels")))


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sides that make several strips and tiles of a few hundred rows."""
    for name in ("_LARGEST_SIDE", "_USUAL_SIDE", "_SMALLEST_SIDE"):
        monkeypatch.setattr(device_search, name, 64)


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


def with_duplicates(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    x = unit(rng.normal(size=(n, dim)))
    x[n // 2 :: 5] = x[: len(x[n // 2 :: 5])]
    x[1::7] = unit(x[::7][: len(x[1::7])] + 1e-4 * rng.normal(size=x[1::7].shape))
    return x


@pytest.mark.parametrize("dim", [1, 7, 64, 65])
def test_one_product(backend: EmulatedBackend, rng: np.random.Generator, dim: int):
    x = with_duplicates(rng, 90, dim)
    np.testing.assert_array_equal(search(backend, x), expected(x, 90))


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


def test_rows_with_more_near_ties_than_slots(backend: EmulatedBackend, rng: np.random.Generator):
    """No two are equal, and float16 cannot tell them apart: all are settled in float64."""
    x = unit(rng.normal(size=24) + 1e-6 * rng.normal(size=(100, 24)))
    assert len(np.unique(x, axis=0)) > device_search._SLOTS + 20
    np.testing.assert_array_equal(search(backend, x, 60, 40), expected(x, 60, 40))


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


def test_memory_that_runs_out_makes_smaller_products(
    backend: EmulatedBackend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(device_search, "_SMALLEST_SIDE", 64)
    monkeypatch.setattr(backend, "room", 80 * 80)
    x = unit(rng.normal(size=(330, 16)))
    done: list[int] = []
    found = _on_device(backend, x, np.array([0, 200, 330]), Plan(True, 1 << 30), done.append)
    np.testing.assert_array_equal((found.score, found.index), expected(x, 200, 130))
    assert sum(done) == 330


def test_no_memory_at_all_is_one_clear_error(
    backend: EmulatedBackend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(backend, "room", 10)
    with pytest.raises(DeviceError, match="raise n_clusters"):
        search(backend, with_duplicates(rng, 30, 16))


def test_progress_counts_every_distinct_row_once(
    backend: EmulatedBackend, rng: np.random.Generator, small_tiles: None
):
    x = unit(rng.normal(size=(200, 8)))
    done: list[int] = []
    _on_device(backend, x, np.array([0, 150, 190, 200]), Plan(True, 1 << 30), done.append)
    assert sum(done) == 200


def test_kernels_are_part_of_the_package():
    assert Path(device_search.__file__).with_name("kernels.cu").exists()
