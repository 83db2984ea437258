"""k-means by RAPIDS cuML, for those who prefer it to our own; it needs a CUDA device."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import DEFAULT_MEMORY_BUDGET, DeviceError, array_module
from dedup_assets.compute.kmeans import KMeansFit
from dedup_assets.compute.nearest import products
from dedup_assets.compute.seeding import seed_centroids


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
    than the iterations. Its means are scaled back to length one at the end, not in between.

    Args:
        x: of shape (n, d), float32, unit rows, on a CUDA device.
        n_clusters, seed, max_iter, tol, memory_budget: as in `fit`.
        on_iteration: called once at the end, since cuML does not report.

    Raises:
        DeviceError: cuML is not installed, or ``x`` is not on a device.
        ValueError: more clusters than rows, or fewer than one.
    """
    xp = array_module(x)
    if xp is np or importlib.util.find_spec("cuml") is None:
        raise DeviceError(
            "kmeans=cuml needs a CUDA device, CuPy and cuML; install the extra gpu-cu12 or "
            "gpu-cu13 on a machine with an NVIDIA GPU, or use kmeans=lloyd"
        )
    if not 1 <= n_clusters <= len(x):
        raise ValueError(f"n_clusters={n_clusters} should be between 1 and n_samples={len(x)}.")
    start = seed_centroids(x, n_clusters, products(xp), np.random.default_rng(seed), memory_budget)
    allocator = xp.cuda.get_allocator()
    try:
        # Importing cuML makes RMM the allocator of every CuPy array of this process.
        cluster = importlib.import_module("cuml.cluster")
        model = cluster.KMeans(
            n_clusters=n_clusters,
            init=start,
            n_init=1,
            max_iter=max_iter,
            tol=tol,
            random_state=seed % 2**31,
            output_type="cupy",
        )
        model.fit(x)
        means = xp.asarray(model.cluster_centers_, dtype=xp.float64)
        inertia, done = float(model.inertia_), int(model.n_iter_)
    finally:
        xp.cuda.set_allocator(allocator)
    length = xp.sqrt((means * means).sum(axis=1))
    empty = length < 1e-9
    length[empty] = 1.0
    centroids = (means / length[:, None]).astype(xp.float32)
    centroids[empty] = start[empty]
    if on_iteration is not None:
        on_iteration(done)
    return KMeansFit(centroids, inertia, done)
