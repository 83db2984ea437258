"""What runs on a device, held to the rules of CuPy, against the same on the host."""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dedup_assets.compute import (
    arrays,
    cuda,
    exact,
    pairwise,
    rescore,
    self_test,
    update,
)
from dedup_assets.compute.arrays import DeviceError, to_device
from dedup_assets.compute.assign import Assigner, nearest_centroids
from dedup_assets.compute.kmeans import fit
from dedup_assets.compute.kmeans_cuml import fit_cuml
from dedup_assets.compute.missed import BestPartners
from dedup_assets.compute.normalize import unit_rows
from dedup_assets.compute.pairwise import best_earlier_match, best_earlier_matches
from dedup_assets.compute.update import update_matches
from dedup_assets.stages import calibration
from dedup_assets_tests.compute.gpu.emulator import COMPILER, EmulatedBackend, compile_kernels
from dedup_assets_tests.compute.gpu.strict import strict_cupy
from dedup_assets_tests.conftest import make_settings
from dedup_assets_tests.rows import unit, with_duplicates

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compile_kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def backend(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> EmulatedBackend:
    emulated = EmulatedBackend(kernels, strict_cupy(monkeypatch))
    monkeypatch.setattr(cuda, "CudaBackend", lambda: emulated)
    return emulated


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


def test_arrays_of_host_and_device_do_not_mix(backend: EmulatedBackend):
    """Or the tests below would prove nothing."""
    xp = backend.xp
    x = xp.arange(3)
    for mixed in (
        lambda: x + np.arange(3),
        lambda: np.arange(3) * x,
        lambda: x[np.arange(2)],
        lambda: x.__setitem__(slice(2), np.arange(2)),
        lambda: xp.where(x > 1, np.arange(3), 0),
        lambda: np.flatnonzero(x),
        lambda: np.concatenate([x, x]),
    ):
        with pytest.raises(TypeError):
            mixed()
    with pytest.raises(AttributeError):
        _ = xp.einsum
    assert isinstance(x.max(), xp.ndarray)
    assert type(x.get()) is np.ndarray


@pytest.mark.parametrize("sizes", [(0,), (1,), (90,), (1, 0, 30, 2, 31, 5, 64, 65)])
def test_matches(backend: EmulatedBackend, rng: np.random.Generator, sizes: tuple[int, ...]):
    x = with_duplicates(rng, sum(sizes), 24)
    offsets = np.cumsum([0, *sizes]).tolist()
    found = best_earlier_matches(backend.xp.asarray(x), offsets)
    assert isinstance(found.score, backend.xp.ndarray)
    assert isinstance(found.index, backend.xp.ndarray)
    host = best_earlier_matches(x, offsets)
    np.testing.assert_array_equal(found.score.get(), host.score)
    np.testing.assert_array_equal(found.index.get(), host.index)


@pytest.mark.parametrize("copies", [True, False])
def test_matches_of_rows_with_many_near_ties(
    backend: EmulatedBackend, rng: np.random.Generator, copies: bool
):
    x = unit(rng.normal(size=24) + 1e-6 * rng.normal(size=(100, 24)))
    if copies:
        x[40::3] = x[:20]
    found = best_earlier_matches(backend.xp.asarray(x), [0, 60, 100])
    host = best_earlier_matches(x, [0, 60, 100])
    np.testing.assert_array_equal(found.score.get(), host.score)
    np.testing.assert_array_equal(found.index.get(), host.index)


def test_rows_that_are_not_of_length_one_are_refused(backend: EmulatedBackend):
    for value in (np.nan, 2.0):
        with pytest.raises(ValueError, match="must have length 1"):
            best_earlier_match(backend.xp.asarray(np.full((3, 1), value, dtype=np.float32)))


def test_no_memory_is_one_clear_error(
    backend: EmulatedBackend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(backend, "room", 10)
    x = backend.xp.asarray(unit(rng.normal(size=(30, 8))))
    with pytest.raises(DeviceError, match="raise n_clusters"):
        best_earlier_match(x)


def test_hosts_choice_of_products_is_not_the_devices(
    backend: EmulatedBackend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pairwise, "_on_host", None)
    best_earlier_match(backend.xp.asarray(unit(rng.normal(size=(30, 8)))))
    assert backend.launches == ["square", "halve", "screen", "rescore"]


@pytest.mark.parametrize("centroids", ["distinct", "pairs of equals", "crowded", "one"])
@pytest.mark.parametrize("budget", [1, 1 << 30])
def test_nearest_centroids(
    backend: EmulatedBackend, rng: np.random.Generator, centroids: str, budget: int
):
    c = unit(rng.normal(size=(30, 24)))
    c = {
        "distinct": c,
        "pairs of equals": np.repeat(c, 2, axis=0),
        "crowded": np.repeat(c[:2], 20, axis=0),
        "one": c[:1],
    }[centroids]
    x = with_duplicates(rng, 50, 24)
    asarray = backend.xp.asarray
    found = nearest_centroids(asarray(x), asarray(c), memory_budget=budget)
    host = nearest_centroids(x, c)
    np.testing.assert_array_equal(found.label.get(), host.label)
    np.testing.assert_array_equal(found.cosine_distance.get(), host.cosine_distance)
    np.testing.assert_array_equal(found.l2_distance.get(), host.l2_distance)


@pytest.mark.parametrize("budget", [1, 1 << 30])
@pytest.mark.parametrize("kind", ["copies", "crowded"])
def test_best_partners(backend: EmulatedBackend, rng: np.random.Generator, kind: str, budget: int):
    x = with_duplicates(rng, 120, 24)
    if kind == "crowded":
        x = unit(x[0] + 1e-6 * rng.normal(size=x.shape))
    cluster = rng.integers(0, 4, len(x))
    queries = np.sort(rng.permutation(len(x))[:40])
    queries = queries[np.argsort(cluster[queries], kind="stable")]
    batches = [b[np.argsort(cluster[b], kind="stable")] for b in np.array_split(np.arange(120), 3)]

    def found(asarray: Callable[[np.ndarray], Any]) -> list[tuple[Any, ...]]:
        search = BestPartners(asarray(x[queries]), cluster[queries], memory_budget=budget)
        out = []
        for batch in batches:
            own = np.nonzero(queries[:, None] == batch[None, :])
            for side in search.add(asarray(x[batch]), cluster[batch], np.argsort(batch), own):
                out += zip(side.query, side.row, side.score, strict=True)
        return out

    assert sorted(found(backend.xp.asarray)) == sorted(found(np.asarray))


@pytest.mark.parametrize("budget", [1, 1 << 30])
@pytest.mark.parametrize("kind", ["copies", "crowded"])
@pytest.mark.parametrize("whole_from", [0.0, np.inf])
def test_updated_matches(
    backend: EmulatedBackend,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    budget: int,
    whole_from: float,
):
    monkeypatch.setattr(update, "_WHOLE_FROM", whole_from)
    x = with_duplicates(rng, 150, 24)
    if kind == "crowded":
        x = unit(x[0] + 1e-6 * rng.normal(size=x.shape))
    fresh = rng.random(len(x)) < 0.2
    old = np.flatnonzero(~fresh)
    matches = best_earlier_match(x[old])
    known, score = np.full(len(x), -1), np.zeros(len(x), dtype=np.float32)
    known[old], score[old] = old[matches.index], matches.score
    known[rng.permutation(old)[:10]] = -1
    rows = backend.xp.asarray(x)
    found = update_matches(rows, known, score, fresh, memory_budget=budget)
    host = best_earlier_match(x)
    np.testing.assert_array_equal(found.score.get(), host.score)
    np.testing.assert_array_equal(found.index.get(), host.index)


def test_rates_are_measured(
    tmp_path: Path,
    backend: EmulatedBackend,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
):
    for name, value in {"_FIRST_ROWS": 32, "_FIT_ROWS": 128}.items():
        monkeypatch.setattr(calibration, name, value)
    monkeypatch.setattr(calibration, "compute_module", lambda settings: backend.xp)
    settings = make_settings(tmp_path, n_clusters=1, max_iter=3)
    rates = calibration._measure_arithmetic(settings, unit(rng.normal(size=(150, 8))))
    assert min(rates.fit, rates.assign, rates.compare) > 0
    assert 2 >= rates.largest >= rates.squares >= 1  # two clusters


@pytest.mark.parametrize("noise", [0.5, 1e-3], ids=["wide", "narrow"])
@pytest.mark.parametrize("rows, clusters", [(300, 7), (5000, 3), (20, 20), (20, 1)])
def test_kmeans(
    backend: EmulatedBackend, rng: np.random.Generator, rows: int, clusters: int, noise: float
):
    centres = np.ones((1, 16)) + noise * rng.normal(size=(clusters, 16))
    x = unit(centres[rng.integers(0, clusters, rows)] + 0.3 * noise * rng.normal(size=(rows, 16)))
    options: dict[str, Any] = {"seed": 3, "max_iter": 20, "tol": 1e-4}
    found, again = (fit(backend.xp.asarray(x), clusters, **options) for _ in range(2))
    host = fit(x, clusters, **options)
    assert found.inertia == pytest.approx(host.inertia, rel=0.02, abs=1e-6)
    assert found.centroids.get().tobytes() == again.centroids.get().tobytes()
    assert backend.launches.count("add_rows") >= 2


class KMeans:
    """What of cuML 26.10 is used, and what it refuses."""

    def __init__(
        self,
        *,
        n_clusters: int,
        init: Any,
        n_init: int,
        max_iter: int,
        tol: float,
        random_state: int,
        output_type: str,
    ) -> None:
        assert 0 <= random_state < 2**32
        assert tol > 0
        assert n_init == 1
        assert init.shape == (n_clusters, 16)
        assert output_type == "cupy"
        self.cluster_centers_, self.n_iter_ = 2 * init, min(3, max_iter)

    def fit(self, x: Any) -> None:
        assert x.flags.c_contiguous


@pytest.mark.parametrize("tol", [0.0, 1e-4])
def test_cuml(
    backend: EmulatedBackend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, tol: float
):
    done: list[str] = []
    xp = backend.xp
    xp.cuda = SimpleNamespace(
        allocator="of CuPy",
        get_allocator=lambda: xp.cuda.allocator,
        set_allocator=lambda allocator: setattr(xp.cuda, "allocator", allocator),
        get_current_stream=lambda: SimpleNamespace(synchronize=lambda: done.append("waited")),
    )
    xp.get_default_memory_pool = lambda: SimpleNamespace(
        free_all_blocks=lambda: done.append("freed")
    )
    package, cluster = ModuleType("cuml"), ModuleType("cuml.cluster")
    package.__spec__ = ModuleSpec("cuml", None)

    def kmeans(**options: Any) -> KMeans:
        xp.cuda.set_allocator("of RMM")  # what importing the real one does
        return KMeans(**options)

    cluster.KMeans = kmeans  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuml", package)
    monkeypatch.setitem(sys.modules, "cuml.cluster", cluster)
    x = unit(rng.normal(size=(100, 16)))
    found = fit_cuml(xp.asarray(x), 5, seed=2**40, max_iter=9, tol=tol)
    distances = ((x[:, None].astype(float) - found.centroids.get()) ** 2).sum(axis=2)
    assert found.inertia == pytest.approx(distances.min(axis=1).sum(), rel=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.centroids.get(), axis=1), 1, atol=1e-6)
    assert found.n_iter == 3
    assert xp.cuda.allocator == "of CuPy"
    assert done == ["freed", "waited"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_unit_rows(backend: EmulatedBackend, rng: np.random.Generator, dtype: Any):
    x = rng.normal(size=(20, 7)).astype(dtype)
    x[3] = 0
    x[4, 2] = np.nan
    if dtype == np.float64:
        x[5] *= 1e200
        x[6] *= 1e-310
    found, host = unit_rows(backend.xp.asarray(x)), unit_rows(x)
    np.testing.assert_array_equal(found.rows.get(), host.rows)
    np.testing.assert_array_equal(found.status.get(), host.status)


TINY = np.array(
    [[1, 0, 0], [1e-40, 1, 0], [-1e-41, 1e-42, 1], [1, 2e-39, 3e-40], [0, 1, 1e-44]],
    dtype=np.float32,
)
"""Unit rows whose products are below the range of float32."""


def test_numbers_below_the_range_of_float32_count_in_every_expression(backend: EmulatedBackend):
    """CuPy's compiler takes them for zero, the host does not."""
    xp = backend.xp
    x, one = xp.asarray(TINY), np.ones(5, dtype=np.float32)
    assert (x.astype(np.float64).get()[1:, 0] == [0, 0, 1, 0]).all()  # or this would prove nothing
    np.testing.assert_array_equal(exact.squared_norms(x).get(), exact.squared_norms(TINY))
    left, right = np.triu_indices(5, 1)
    pairs = xp.asarray(left), xp.asarray(right)
    dots = exact.pair_dots(x, pairs[0], x, pairs[1])
    host = exact.pair_dots(TINY, left, TINY, right)
    np.testing.assert_array_equal(dots.get(), host)
    assert (host[host != 0] < 1e-37).any()
    norms = one.astype(np.float64)
    sides = rescore.Rows(x, xp.asarray(norms)), rescore.Rows(TINY, norms)
    np.testing.assert_array_equal(
        rescore.cosines(sides[0], pairs[0], sides[0], pairs[1]).get(),
        rescore.cosines(sides[1], left, sides[1], right),
    )
    found, expected = nearest_centroids(x, x[:3]), nearest_centroids(TINY, TINY[:3])
    for name in ("label", "cosine_distance", "l2_distance"):
        np.testing.assert_array_equal(getattr(found, name).get(), getattr(expected, name))
    assert 0 < expected.l2_distance[4] < 1e-37


class _CUBLASError(RuntimeError):
    status = 3


_CUBLASError.__name__ = "CUBLASError"


@pytest.mark.parametrize("error", [MemoryError(), _CUBLASError()])
def test_no_memory_is_one_line_wherever_it_runs_out(
    backend: EmulatedBackend,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
):
    x = backend.xp.asarray(unit(rng.normal(size=(600, 8))))
    own = np.arange(600), np.arange(600)
    labels = np.zeros(600, dtype=np.int64)
    partners = BestPartners(x, labels)
    assigner = Assigner(x[:5])
    known = np.maximum(0, np.arange(600) - 1)
    known[-1] = -1
    scores = (x.get() * x.get()[known]).sum(axis=1)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(backend, "multiply", fail)
    monkeypatch.setattr(backend, "launch", fail)
    for work, advice in (
        (lambda: best_earlier_match(x), "raise n_clusters"),
        (lambda: update_matches(x, known, scores, np.arange(600) == 599), "raise n_clusters"),
        (lambda: assigner.assign(x), "use device=cpu"),
        (lambda: Assigner(x[:5]), "use device=cpu"),
        (lambda: fit(x, 5, seed=0, max_iter=2, tol=0), "lower fit_data_fraction"),
        (lambda: partners.add(x, labels, labels, own), "lower missed_sample"),
    ):
        with pytest.raises(DeviceError, match=f"the GPU has no memory left .*{advice}"):
            work()
    monkeypatch.setattr(backend.xp, "empty", fail)
    with pytest.raises(DeviceError, match="the GPU has no memory left for 12 bytes of rows"):
        to_device(backend.xp, np.zeros(3, dtype=np.float32))


def test_another_error_of_the_device_stays_what_it_is(
    backend: EmulatedBackend, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: Any) -> None:
        raise RuntimeError("illegal address")

    monkeypatch.setattr(backend, "multiply", fail)
    with pytest.raises(RuntimeError, match="illegal address"):
        best_earlier_match(backend.xp.asarray(unit(rng.normal(size=(60, 8)))))


def test_a_device_that_computes_right_passes_the_self_test(backend: EmulatedBackend):
    assert self_test.failure() is None
    assert {"square", "halve", "screen", "rescore", "widen"} <= set(backend.launches)


def test_a_device_that_does_not_is_not_chosen(
    backend: EmulatedBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    right = backend.multiply

    def off(later: Any, earlier: Any, out: Any) -> None:
        right(later, earlier, out)
        np.negative(out, out=out)

    monkeypatch.setattr(arrays, "_missing_for_cuda", lambda: None)
    monkeypatch.setattr(backend, "multiply", off)
    arrays._passes_self_test.cache_clear()
    try:
        assert [arrays.resolve_device("auto") for _ in range(2)] == ["cpu", "cpu"]
        (record,) = caplog.records
        assert "device=auto computes on the CPU, since the GPU failed a self-test: its" in (
            record.getMessage()
        )
        assert arrays.resolve_device("cuda") == "cuda"
    finally:
        arrays._passes_self_test.cache_clear()
    monkeypatch.setattr(backend, "multiply", None)
    assert "TypeError" in (self_test.failure() or "")
