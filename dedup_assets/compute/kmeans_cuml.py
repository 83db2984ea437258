"""k-means by RAPIDS cuML, for those who prefer it to our own; it needs a CUDA device."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import (
    DEFAULT_MEMORY_BUDGET,
    DeviceError,
    array_module,
    device_memory,
)
from dedup_assets.compute.kmeans import FIT_ADVICE, KMeansFit, inertia_of
from dedup_assets.compute.products import fit_format
from dedup_assets.compute.seeding import seed_centroids

_LEAST_TOL = 1e-30  # cuML refuses zero


def fit_cuml(
    x: Any,
    n_clusters: int,
    *,
    seed: int,
    max_iter: int,
    tol: float,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    on_iteration: Callable[[int], None] | None = None,
) -> KMeansFit:
    """Cluster unit rows as `dedup_assets.compute.kmeans.fit` does, with cuML's iterations.

    It starts from the same seeded rows, since cuML's own start is drawn anew and takes longer
    than the iterations. Its means are scaled back to length one at the end, not in between. One
    seed does not give the same centroids each time, since cuML adds up in no fixed order.

    Args:
        x: of shape (n, d), float32, unit rows, on a CUDA device.
        n_clusters, seed, max_iter, memory_budget: as in `fit`; cuML allocates beside the budget.
        tol: stop when the inertia falls by less than this share, or the summed squared movement
            of the centroids is less than this.
        on_iteration: called once at the end, since cuML does not report.

    Raises:
        DeviceError: cuML is not installed, ``x`` is not on a device, or no memory is left there.
        ValueError: more clusters than rows, or fewer than one.
    """
    xp = array_module(x)
    if xp is np or importlib.util.find_spec("cuml") is None:
        raise DeviceError(
            "kmeans=cuml needs a CUDA device, CuPy and cuML; install the extras gpu-cu12 and "
            "cuml-cu12, or gpu-cu13 and cuml-cu13, on a machine with an NVIDIA GPU, or use "
            "kmeans=lloyd"
        )
    if not 1 <= n_clusters <= len(x):
        raise ValueError(f"n_clusters={n_clusters} should be between 1 and n_samples={len(x)}.")
    with device_memory(xp, f"to fit {n_clusters} centroids on {len(x)} rows", FIT_ADVICE):
        return _fit(x, n_clusters, seed, max_iter, tol, memory_budget, on_iteration)


def _fit(
    x: Any,
    n_clusters: int,
    seed: int,
    max_iter: int,
    tol: float,
    memory_budget: int,
    on_iteration: Callable[[int], None] | None,
) -> KMeansFit:
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    quick = fit_format(xp)
    start = seed_centroids(x, n_clusters, quick, np.random.default_rng(seed), memory_budget)
    allocator = xp.cuda.get_allocator()
    try:
        # Importing cuML makes RMM the allocator of every CuPy array of this process.
        cluster = importlib.import_module("cuml.cluster")
        # What CuPy keeps for later arrays RMM cannot use; and cuML may work on another stream.
        xp.get_default_memory_pool().free_all_blocks()
        xp.cuda.get_current_stream().synchronize()
        model = cluster.KMeans(
            n_clusters=n_clusters,
            init=start,
            n_init=1,
            max_iter=max_iter,
            tol=max(tol, _LEAST_TOL),
            random_state=seed % 2**32,
            output_type="cupy",
        )
        model.fit(x)
        means = xp.asarray(model.cluster_centers_, dtype=xp.float64)
        done = int(model.n_iter_)
        del model  # its labels
    finally:
        xp.cuda.set_allocator(allocator)
    length = xp.sqrt((means * means).sum(axis=1))
    empty = length < 1e-9
    length[empty] = 1.0
    centroids = (means / length[:, None]).astype(xp.float32)
    centroids[empty] = start[empty]
    if on_iteration is not None:
        on_iteration(done)
    return KMeansFit(centroids, inertia_of(x, centroids, quick, memory_budget), done)
