"""The same numbers on a GPU as on the host. CONTRIBUTING.md says how to run this on a machine
that has a GPU and little else."""

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.data import make_scenes
from dedup_assets.compute.arrays import DeviceError, resolve_device, to_device, to_host
from dedup_assets.compute.assign import nearest_centroids
from dedup_assets.compute.bounds import screen_bound
from dedup_assets.compute.cuda import CudaBackend
from dedup_assets.compute.exact import squared_norms
from dedup_assets.compute.kmeans import fit
from dedup_assets.compute.kmeans_cuml import fit_cuml
from dedup_assets.compute.missed import BestPartners
from dedup_assets.compute.normalize import unit_rows
from dedup_assets.compute.pairwise import BestMatch, best_earlier_match, best_earlier_matches
from dedup_assets.compute.self_test import failure
from dedup_assets_tests.compute.oracle import exact_cosine
from dedup_assets_tests.rows import unit, with_duplicates


def _missing() -> str:
    with warnings.catch_warnings(action="ignore"):
        try:
            resolve_device("cuda")
        except DeviceError as error:
            return str(error)
    return ""


MISSING = _missing()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
    pytest.mark.filterwarnings("default"),
]
MIB = 1 << 20


@pytest.fixture
def cp() -> Any:
    return importlib.import_module("cupy")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


def assert_equal(found: BestMatch, host: BestMatch) -> None:
    assert not isinstance(found.score, np.ndarray)
    np.testing.assert_array_equal(to_host(found.score), host.score)
    np.testing.assert_array_equal(to_host(found.index), host.index)


@pytest.mark.parametrize("dim", [1, 7, 64, 768])
@pytest.mark.parametrize("rows", [0, 1, 2, 100, 1030, 5000])
def test_one_cluster(cp: Any, rng: np.random.Generator, rows: int, dim: int):
    x = with_duplicates(rng, rows, dim)
    assert_equal(best_earlier_match(cp.asarray(x)), best_earlier_match(x))


@pytest.mark.parametrize("budget", [1, 16 * MIB, 1024 * MIB])
@pytest.mark.parametrize("largest_tile", [None, 1000])
def test_many_strips_and_tiles(
    cp: Any, rng: np.random.Generator, budget: int, largest_tile: int | None
):
    rows = 6_000 if budget == 1 else 40_000
    x = with_duplicates(rng, rows, 32)
    found = best_earlier_matches(
        cp.asarray(x), [0, rows], memory_budget=budget, largest_tile=largest_tile
    )
    assert_equal(found, best_earlier_match(x))


def test_many_clusters(cp: Any, rng: np.random.Generator):
    sizes = np.concatenate([rng.integers(0, 40, 300), rng.integers(500, 1500, 20), [9000]])
    rng.shuffle(sizes)
    offsets = np.cumsum([0, *sizes]).tolist()
    x = with_duplicates(rng, offsets[-1], 96)
    done: list[int] = []
    found = best_earlier_matches(cp.asarray(x), offsets, on_rows=done.append)
    assert_equal(found, best_earlier_matches(x, offsets))
    assert 0 < sum(done) <= len(x)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, 200), max_size=8), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_any_sizes(cp: Any, sizes: list[int], dim: int, seed: int):
    rng = np.random.default_rng(seed)
    x = with_duplicates(rng, sum(sizes), dim)
    offsets = np.cumsum([0, *sizes]).tolist()
    assert_equal(best_earlier_matches(cp.asarray(x), offsets), best_earlier_matches(x, offsets))


def test_rows_with_more_near_ties_than_are_listed(cp: Any, rng: np.random.Generator):
    x = unit(rng.normal(size=64) + 1e-6 * rng.normal(size=(4000, 64)))
    assert_equal(best_earlier_match(cp.asarray(x)), best_earlier_match(x))


def test_all_rows_identical(cp: Any):
    x = np.repeat(unit(np.ones((1, 24))), 3000, axis=0)
    assert_equal(best_earlier_match(cp.asarray(x)), best_earlier_match(x))


def test_numbers_below_the_range_of_float16_and_of_float32(cp: Any, rng: np.random.Generator):
    x = unit(np.concatenate([np.ones((60, 1)), 1e-5 * rng.normal(size=(60, 30))], axis=1))
    assert_equal(best_earlier_match(cp.asarray(x)), best_earlier_match(x))
    x = np.array([[1, 0, 0], [1e-40, 1, 0], [-1e-41, 1e-42, 1]], dtype=np.float32)
    assert_equal(best_earlier_match(cp.asarray(x)), best_earlier_match(x))


def test_rows_that_do_not_lie_next_to_each_other(cp: Any, rng: np.random.Generator):
    x = np.tile(unit(rng.normal(size=(200, 16))), (1, 2))
    found = best_earlier_match(cp.asarray(x)[::2, :16])
    assert_equal(found, best_earlier_match(x[::2, :16]))


def test_dimensions_that_need_more_shared_memory_than_is_given_unasked(
    cp: Any, rng: np.random.Generator
):
    x = with_duplicates(rng, 100, 13_001)
    assert_equal(best_earlier_match(cp.asarray(x)), best_earlier_match(x))


@pytest.mark.parametrize("rows", [500, 12_000])
def test_fast_scores_are_cosines_of_the_named_pair_just_below_the_maximum(
    cp: Any, rng: np.random.Generator, rows: int
):
    x = with_duplicates(rng, rows, 256)
    found = best_earlier_match(cp.asarray(x), precision="fast")
    score, index = to_host(found.score), to_host(found.index)
    best = best_earlier_match(x).score
    assert (score <= best).all()
    assert (score >= best - 1e-3).all()
    for i in rng.integers(1, rows, 50):
        assert score[i] == np.float32(exact_cosine(x[i], x[index[i]]))


def graded(rng: np.random.Generator, kind: str, dim: int) -> np.ndarray:
    """512 unit rows whose products add up in ways that cost different numbers of digits."""
    shape = (512, dim)
    match kind:
        case "positive":
            return unit(rng.random(shape))
        case "signs":
            return unit(rng.normal(size=shape))
        case "ladder":  # magnitudes from 1 down to where float16 ends, in any order
            return unit(rng.choice([-1.0, 1.0], shape) * 2.0 ** -rng.integers(0, 14, shape))
    # One large term first, and then terms each just too small to change the sum.
    x = np.full(shape, 2.0**-13) * rng.uniform(0.9, 1.4, shape)
    x[:, 0] = 1.0
    return unit(x)


@pytest.mark.parametrize("kind", ["positive", "signs", "ladder", "cut off"])
@pytest.mark.parametrize("dim", [8, 40, 72, 768, 1000, 4096])
@pytest.mark.parametrize("matrices", [1, 3])
def test_tensor_cores_err_less_than_the_bound_says(
    cp: Any, rng: np.random.Generator, matrices: int, dim: int, kind: str
):
    """By one product, and by a batch of them, which are two functions of cuBLAS."""
    half = np.stack([graded(rng, kind, dim) for _ in range(matrices)]).astype(np.float16)
    out = cp.empty((matrices, 512, 512), dtype=cp.float32)
    CudaBackend().multiply(cp.asarray(half[:, ::-1].copy()), cp.asarray(half), out)
    wide = half.astype(np.float64)
    error = np.abs(out.get() - wide[:, ::-1] @ wide.transpose(0, 2, 1)).max()
    assert error <= 3 * screen_bound(dim, 1e-3)


def test_static_scenes(cp: Any):
    x = make_scenes(6_000, 96, 200, seed=3)
    offsets = [0, 4_500, 6_000]
    assert_equal(best_earlier_matches(cp.asarray(x), offsets), best_earlier_matches(x, offsets))


def test_numbers_below_the_range_of_float32_in_expressions_of_cupy(cp: Any):
    x = np.array(
        [[1, 0, 0], [1e-40, 1, 0], [-1e-41, 1e-42, 1], [1, 2e-39, 3e-40], [0, 1, 1e-44]],
        dtype=np.float32,
    )
    on_device = cp.asarray(x)
    np.testing.assert_array_equal(to_host(squared_norms(on_device)), squared_norms(x))
    found, host = nearest_centroids(on_device, on_device[:3]), nearest_centroids(x, x[:3])
    np.testing.assert_array_equal(to_host(found.l2_distance), host.l2_distance)


def test_rows_arrive_whole_and_leave_nothing_pinned(cp: Any, rng: np.random.Generator):
    x = rng.normal(size=(3_000, 100)).astype(np.float32)
    before = cp.get_default_pinned_memory_pool().n_free_blocks()
    found = to_device(cp, x)
    np.testing.assert_array_equal(to_host(found), x)
    assert cp.get_default_pinned_memory_pool().n_free_blocks() == before


def test_self_test(cp: Any):
    assert failure() is None


@pytest.fixture
def little_memory(cp: Any) -> Iterator[Any]:
    """A function that leaves so many bytes to CuPy."""
    pool = cp.get_default_memory_pool()

    def leave(room: int) -> None:
        pool.free_all_blocks()
        pool.set_limit(size=pool.total_bytes() + room)

    yield leave
    pool.set_limit(size=0)


def test_memory_that_runs_out_makes_smaller_products(
    cp: Any, rng: np.random.Generator, little_memory: Any
):
    x = with_duplicates(rng, 20_000, 32)
    sizes = [12_000, *[400] * 20]
    on_device, offsets = cp.asarray(x), np.cumsum([0, *sizes]).tolist()
    host = best_earlier_matches(x, offsets)
    little_memory(48 * MIB)
    assert_equal(best_earlier_matches(on_device, offsets), host)


def test_no_memory_at_all_is_one_clear_error(cp: Any, rng: np.random.Generator, little_memory: Any):
    x = cp.asarray(with_duplicates(rng, 20_000, 32))
    little_memory(MIB)
    with pytest.raises(DeviceError, match="raise n_clusters"):
        best_earlier_match(x)


@pytest.mark.parametrize("clusters", [1, 10, 1001])
@pytest.mark.parametrize("budget", [1 * MIB, 256 * MIB])
def test_nearest_centroids(cp: Any, rng: np.random.Generator, clusters: int, budget: int):
    x = with_duplicates(rng, 5000, 96)
    c = unit(rng.normal(size=(clusters, 96)))
    c[clusters // 2 :: 3] = c[: len(c[clusters // 2 :: 3])]
    found = nearest_centroids(cp.asarray(x), cp.asarray(c), memory_budget=budget)
    host = nearest_centroids(x, c)
    np.testing.assert_array_equal(to_host(found.label), host.label)
    np.testing.assert_array_equal(to_host(found.cosine_distance), host.cosine_distance)
    np.testing.assert_array_equal(to_host(found.l2_distance), host.l2_distance)


def test_nearest_of_many_equal_centroids(cp: Any, rng: np.random.Generator):
    x, c = with_duplicates(rng, 300, 24), np.repeat(unit(rng.normal(size=(3, 24))), 30, axis=0)
    found = nearest_centroids(cp.asarray(x), cp.asarray(c))
    np.testing.assert_array_equal(to_host(found.label), nearest_centroids(x, c).label)


def test_best_partners(cp: Any, rng: np.random.Generator):
    x = with_duplicates(rng, 9000, 64)
    cluster = np.sort(rng.integers(0, 30, len(x)))
    queries = np.sort(rng.permutation(len(x))[:1500])

    def found(asarray: Callable[[np.ndarray], Any]) -> list[tuple[Any, ...]]:
        search = BestPartners(asarray(x[queries]), cluster[queries])
        out = []
        for batch in np.array_split(np.arange(len(x)), 3):
            own = np.nonzero(queries[:, None] == batch[None, :])
            for side in search.add(asarray(x[batch]), cluster[batch], np.arange(len(batch)), own):
                out += zip(side.query, side.row, side.score, strict=True)
        return sorted(out)

    assert found(cp.asarray) == found(np.asarray)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_rows(cp: Any, rng: np.random.Generator, dtype: Any):
    x = rng.normal(size=(500, 77)).astype(dtype)
    x[3], x[4, 2] = 0, np.nan
    found, host = unit_rows(cp.asarray(x)), unit_rows(x)
    np.testing.assert_array_equal(to_host(found.rows), host.rows)
    np.testing.assert_array_equal(to_host(found.status), host.status)


def blobs(rng: np.random.Generator, clusters: int, noise: float) -> np.ndarray:
    centres = unit(rng.normal(size=(clusters, 64)))
    x = centres[rng.integers(0, clusters, 100 * clusters)]
    return unit(x + noise * rng.normal(size=x.shape))


@pytest.mark.parametrize("noise", [0.02, 0.2])
@pytest.mark.parametrize("clusters", [1, 10, 200])
def test_kmeans_is_as_good_as_on_the_host(
    cp: Any, rng: np.random.Generator, clusters: int, noise: float
):
    x = blobs(rng, clusters, noise)
    options: dict[str, Any] = {"seed": 1, "max_iter": 50, "tol": 1e-4}
    found, again = (fit(cp.asarray(x), clusters, **options) for _ in range(2))
    host = fit(x, clusters, **options)
    assert found.inertia <= 1.02 * host.inertia
    assert found.centroids.get().tobytes() == again.centroids.get().tobytes()
    lengths = np.linalg.norm(found.centroids.get().astype(float), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


@pytest.mark.skipif(importlib.util.find_spec("cuml") is None, reason="cuML is not installed")
@pytest.mark.parametrize("tol", [0.0, 1e-4])
def test_cuml_is_as_good_as_our_own(cp: Any, rng: np.random.Generator, tol: float):
    x = cp.asarray(blobs(rng, 50, 0.2))
    allocator = cp.cuda.get_allocator()
    options: dict[str, Any] = {"seed": 1, "max_iter": 50}
    found, own = fit_cuml(x, 50, tol=tol, **options), fit(x, 50, tol=1e-4, **options)
    assert found.inertia <= 1.05 * own.inertia
    assert found.centroids.shape == (50, 64)
    assert cp.cuda.get_allocator() == allocator
