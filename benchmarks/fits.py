"""The contestants of `benchmarks.kmeans`: how each is run, and what centroids it had when.

The packages are used as they are. All inertias are of one kind, whatever the package minimises:
the sum over rows of the squared distance to the nearest centroid scaled to length one.
"""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.rounds import missing
from dedup_assets.compute import kmeans
from dedup_assets.compute.arrays import array_module
from dedup_assets.compute.bfloat16 import should_be_quicker
from dedup_assets.compute.products import Format, fit_format
from dedup_assets.compute.threads import thread_count

OWN, OWN_FLOAT32 = "dedup_assets", "dedup_assets, float32"
FAISS, FAISS_AFK_MC2, FAISS_PLUS = "faiss", "faiss, AFK-MC2 seeds", "faiss, k-means++ seeds"
SKLEARN, SKLEARN_PLUS = "scikit-learn", "scikit-learn, k-means++ seeds"
_STRIP = 4096
_FEW = 50  # the part of the clusters that an estimate is made with


@dataclass
class Point:
    """Centroids that a fit had.

    Attributes:
        seconds: after the start of the fit.
        centroids: of shape (k, d); unit rows.
        known: their inertia, once computed.
    """

    seconds: float
    centroids: Any
    known: float | None = None

    def inertia(self, x: Any) -> float:
        if self.known is None:
            self.known = inertia(x, self.centroids)
        return self.known


@dataclass
class Fit:
    """What came of a fit.

    Attributes:
        seconds: of the whole call.
        iterations: done.
        each: seconds of one iteration, the first left out.
        points: in order of time; the last holds the result.
    """

    seconds: float
    iterations: int
    each: float
    points: list[Point] = field(default_factory=list)

    def first_below(self, x: Any, goal: float) -> Point | None:
        """The first point whose inertia is at most ``goal``, since it falls with each iteration."""
        if self.points[-1].inertia(x) > goal:
            return None
        low, high = 0, len(self.points) - 1
        while low < high:
            middle = (low + high) // 2
            if self.points[middle].inertia(x) <= goal:
                high = middle
            else:
                low = middle + 1
        return self.points[high]


@dataclass(frozen=True)
class Task:
    """What all are asked for: ``x`` of shape (n, d), float32, unit rows, on its device."""

    x: Any
    clusters: int
    seed: int
    max_iter: int
    tol: float = 1e-4


def inertia(x: Any, centroids: Any) -> float:
    """Sum of squared distances of unit rows to the nearest of some unit centroids."""
    xp = array_module(x)
    total = 0.0
    for start in range(0, len(x), _STRIP):
        total += float((x[start : start + _STRIP] @ centroids.T).max(axis=1).sum(dtype=xp.float64))
    return 2.0 * (len(x) - total)


def fit_own(task: Task, *, narrow: bool = True) -> Fit:
    """The product's k-means; ``narrow=False`` keeps a CPU to float32."""
    points: list[Point] = []
    begin, move = kmeans.Labels.__init__, kmeans.Labels.move

    def begun(rows: Any, x: Any, centroids: Any, *rest: Any) -> None:
        points.append(Point(time.perf_counter() - start, centroids))
        begin(rows, x, centroids, *rest)

    def moved(rows: Any, centroids: Any) -> None:
        points.append(Point(time.perf_counter() - start, centroids))
        move(rows, centroids)

    def wide(xp: Any, *, narrow: bool) -> Format:
        return fit_format(xp, narrow=False)

    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(kmeans.Labels, "__init__", begun))
        stack.enter_context(patch.object(kmeans.Labels, "move", moved))
        if not narrow:
            stack.enter_context(patch.object(kmeans, "fit_format", wide))
        start = time.perf_counter()
        kmeans.fit(task.x, task.clusters, seed=task.seed, max_iter=task.max_iter, tol=task.tol)
        seconds = time.perf_counter() - start
    return _fit(seconds, [point.seconds for point in points[1:]], points)


def fit_faiss(task: Task, seeding: str | None = None) -> Fit:
    """faiss's spherical k-means on all rows; its own record gives each iteration's objective."""
    import faiss

    faiss.omp_set_num_threads(thread_count())
    n, dim = task.x.shape
    options = {} if seeding is None else {"init_method": getattr(faiss, seeding)}
    start = time.perf_counter()
    model = faiss.Kmeans(
        dim,
        task.clusters,
        niter=task.max_iter,
        spherical=True,
        seed=task.seed,
        max_points_per_centroid=n,  # so that it takes no sample
        min_points_per_centroid=1,
        **options,
    )
    model.train(task.x)
    seconds = time.perf_counter() - start
    ends = [one["time"] for one in model.iteration_stats]
    # The objective of an iteration, a sum of cosines, is that of the centroids it began with.
    cosines = [float(one["obj"]) for one in model.iteration_stats[1:]]
    points = [
        Point(end, None, 2.0 * (n - cosine)) for end, cosine in zip(ends[:-1], cosines, strict=True)
    ]
    return _fit(seconds, ends, [*points, Point(ends[-1], model.centroids)])


def fit_sklearn(task: Task, init: str = "random") -> Fit:
    """scikit-learn's Lloyd, whose means are scaled to length one only to be judged.

    With ``verbose`` it computes its inertia after each iteration; that call is replaced by one
    that notes the time and the centroids, so that nothing is added to its work.
    """
    from sklearn.cluster import KMeans, _kmeans

    ends: list[float] = []
    centres: list[np.ndarray] = []

    def note(x: Any, weight: Any, centers: np.ndarray, *others: Any) -> float:
        ends.append(time.perf_counter() - start)
        centres.append(centers.copy())
        return 0.0

    model = KMeans(
        task.clusters,
        init=init,
        n_init=1,
        max_iter=task.max_iter,
        tol=task.tol,
        random_state=task.seed % 2**32,
        verbose=1,
    )
    with (
        patch.object(_kmeans, "_inertia_dense", note),
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        start = time.perf_counter()
        model.fit(task.x)
        seconds = time.perf_counter() - start
    # Noted are the centroids that an iteration began with, and at last those of the result. All
    # are relative to the mean of the rows.
    mean = task.x.mean(axis=0)
    points = [
        Point(end, _unit(centers + mean)) for end, centers in zip(ends, centres[1:], strict=False)
    ]
    if len(points) != model.n_iter_:  # another version calls other functions
        points = [Point(seconds, _unit(model.cluster_centers_))]
    return _fit(seconds, ends[: model.n_iter_], points)


def _fit(seconds: float, ends: list[float], points: list[Point]) -> Fit:
    return Fit(seconds, len(ends), (ends[-1] - ends[0]) / max(1, len(ends) - 1), points)


def _unit(centers: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(centers, axis=1, keepdims=True)
    return centers / np.where(length > 0, length, 1)


Fitting = Callable[[Task], Fit]


def fits(xp: Any, task: Task, longest_seeding: float) -> tuple[dict[str, Fitting], dict[str, str]]:
    """Everyone who can take part here, and why others do not.

    Args:
        xp: the array module of the device.
        task: what they will be asked for.
        longest_seeding: k-means++ on all rows takes part only if it takes no more seconds.
    """
    taking_part: dict[str, Fitting] = {OWN: fit_own}
    skipped: dict[str, str] = {}
    if xp is not np:
        return taking_part, dict.fromkeys((FAISS, SKLEARN), "compared on a CPU only")
    if should_be_quicker():
        taking_part[OWN_FLOAT32] = partial(fit_own, narrow=False)
    else:
        skipped["bfloat16"] = "float32 is as quick on this processor, or NumKong is missing"
    reason = missing("faiss")
    if reason is None:
        taking_part[FAISS] = fit_faiss
        if missing_seeding := _faiss_lacks_seeding():
            skipped[FAISS_AFK_MC2] = skipped[FAISS_PLUS] = missing_seeding
        else:
            taking_part[FAISS_AFK_MC2] = partial(fit_faiss, seeding="ClusteringInitMethod_AFK_MC2")
            plus = partial(fit_faiss, seeding="ClusteringInitMethod_KMEANS_PLUS_PLUS")
            _if_affordable(FAISS_PLUS, plus, task, longest_seeding, taking_part, skipped)
    else:
        skipped[FAISS] = reason
    reason = missing("sklearn.cluster")
    if reason is None:
        taking_part[SKLEARN] = fit_sklearn
        plus = partial(fit_sklearn, init="k-means++")
        _if_affordable(SKLEARN_PLUS, plus, task, longest_seeding, taking_part, skipped)
    else:
        skipped[SKLEARN] = reason
    return taking_part, skipped


def _faiss_lacks_seeding() -> str | None:
    import faiss

    if hasattr(faiss, "ClusteringInitMethod_AFK_MC2"):
        return None
    return "this version of faiss seeds with random rows only"


def _if_affordable(
    name: str,
    fitting: Fitting,
    task: Task,
    longest: float,
    taking_part: dict[str, Fitting],
    skipped: dict[str, str],
) -> None:
    """Seeding takes as many passes over the rows as there are clusters; so try a few of them."""
    few = max(2, task.clusters // _FEW)
    start = time.perf_counter()
    fitting(replace(task, clusters=few, max_iter=1))
    estimate = (time.perf_counter() - start) * task.clusters / few
    if estimate <= longest:
        taking_part[name] = fitting
    else:
        skipped[name] = f"its seeding would take about {estimate:,.0f} s"
