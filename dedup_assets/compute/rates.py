"""How fast this device does the arithmetic: a few real rows, through the product's own functions.

A second or two in all. A processor reaches its speed with few rows and a GPU with many, so the
comparison grows until it can be timed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dedup_assets.compute.arrays import to_host
from dedup_assets.compute.assign import nearest_centroids
from dedup_assets.compute.cost import SEEDING_POWER, ComputeRates, Spread
from dedup_assets.compute.kmeans import KMeansFit
from dedup_assets.compute.pairwise import Precision, best_earlier_match

_FIRST_ROWS = 4096
_ENOUGH_S = 0.05
_FEWEST_CALLS, _MOST_CALLS, _CALLS_S = 3, 10, 0.2
_FIT_ROWS, _FIT_ROWS_PER_CENTROID = 4096, 256  # fitted until k-means stops
_MANY_ROWS, _MANY_ROWS_PER_CENTROID, _FEW_ITERATIONS = 8192, 64, 5  # for the time of one


@dataclass(frozen=True)
class FitOptions:
    """How k-means is fitted: the function (see `dedup_assets.compute.kmeans.fit`), its options."""

    fit: Callable[..., KMeansFit]
    seed: int
    max_iter: int
    tol: float
    memory_budget: int


def measure_rates(
    x: np.ndarray, xp: Any, *, options: FitOptions, precision: Precision, memory_budget: int
) -> ComputeRates:
    """Measure `ComputeRates`.

    Args:
        x: of shape (n, d), float32, unit rows of the input in any order, host. Some ten thousand
            are enough; of few, the rates say little.
        xp: the array module of the device (see `device_array_module`).
        options: of k-means.
        precision: of comparisons.
        memory_budget: bytes that a comparison may hold beside its rows.
    """
    compare_row, compare_pair = _compare(x, xp, precision, memory_budget)
    rows = xp.asarray(x[:_MANY_ROWS])
    once = replace(options, max_iter=1)
    _Fit(rows[:_FIT_ROWS], _FIT_ROWS, once)  # what starts only once
    few = _Fit(rows[:_FIT_ROWS], _FIT_ROWS_PER_CENTROID, options)
    many = _Fit(rows, _MANY_ROWS_PER_CENTROID, replace(options, max_iter=_FEW_ITERATIONS, tol=0.0))
    fit_row, fit_product = _line(few.clusters, few.row, many.clusters, many.row)
    _, assign_product = _line(
        few.clusters, _assign_seconds(rows, few), many.clusters, _assign_seconds(rows, many)
    )
    return ComputeRates(
        compare_row=compare_row,
        compare_pair=compare_pair,
        assign_product=assign_product,
        fit_row=fit_row,
        fit_product=fit_product,
        fit_seed=many.before / many.clusters**SEEDING_POWER,
        iterations=few.iterations,
        spreads=tuple(f.spread() for f in (few, many) if f.clusters > 1),
    )


class _Fit:
    """A small fit, timed."""

    def __init__(self, rows: Any, rows_per_centroid: int, options: FitOptions) -> None:
        self.clusters = max(1, len(rows) // rows_per_centroid)
        self.memory_budget = options.memory_budget
        stamps = [time.perf_counter()]
        found = options.fit(
            rows,
            self.clusters,
            seed=options.seed,
            max_iter=options.max_iter,
            tol=options.tol,
            memory_budget=options.memory_budget,
            on_iteration=lambda _: stamps.append(time.perf_counter()),
        )
        taken = np.diff(stamps)
        self.rows = rows
        self.centroids = found.centroids
        self.iterations = found.n_iter
        # One that reports only once, at its end, does not tell its seeding apart.
        iteration = float(np.median(taken[1:]) if len(taken) > 1 else taken[0] / found.n_iter)
        self.row = iteration / len(rows)
        """Seconds of a row in an iteration."""
        self.before = max(0.0, float(taken[0]) - iteration) if len(taken) > 1 else 0.0
        """Seconds before the first iteration."""

    def spread(self) -> Spread:
        label = self.assign(self.rows)
        share = np.bincount(label, minlength=self.clusters) / len(label)
        return Spread(
            self.clusters,
            float(self.clusters * (share * share).sum()),
            float(self.clusters * share.max()),
        )

    def assign(self, rows: Any) -> np.ndarray:
        """The nearest centroid of each row, host."""
        found = nearest_centroids(rows, self.centroids, memory_budget=self.memory_budget)
        return to_host(found.label)


def _assign_seconds(rows: Any, found: _Fit) -> float:
    """Seconds to assign a row to the centroids of a fit."""
    return _best(lambda: found.assign(rows)) / len(rows)


def _compare(
    x: np.ndarray, xp: Any, precision: Precision, memory_budget: int
) -> tuple[float, float]:
    """Seconds of a row and of a pair, from a number of rows and a quarter of it."""

    def seconds(rows: int) -> float:
        def work() -> np.ndarray:
            found = best_earlier_match(
                xp.asarray(x[:rows]), precision=precision, memory_budget=memory_budget
            )
            return to_host(found.score)

        return _best(work)

    n = min(_FIRST_ROWS, len(x))
    while (large := seconds(n)) < _ENOUGH_S and n < len(x):
        n = min(2 * n, len(x))
    quarter = max(1, n // 4)
    return split_compare(n, large, quarter, seconds(quarter))


def split_compare(n: int, large: float, quarter: int, small: float) -> tuple[float, float]:
    """Seconds of a row and of a pair, from those of ``n`` rows and of ``quarter`` rows.

    Pairs are given at least half the time of the larger call. A prediction goes up to a thousand
    times as many rows, where an error in the other direction would grow as much.
    """
    most = 2 * large / n**2
    _, slope = _line(quarter, small / quarter, n, large / n)
    pair = min(most, max(most / 2, 2 * slope))
    return max(0.0, large / n - pair * n / 2), pair


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls; others on the machine only make a call slower."""
    seconds: list[float] = []
    while len(seconds) < _FEWEST_CALLS or (len(seconds) < _MOST_CALLS and sum(seconds) < _CALLS_S):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _line(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float]:
    """Intercept and slope of the line through two points, neither of them negative."""
    slope = max(0.0, (y2 - y1) / (x2 - x1)) if x2 > x1 else 0.0
    return max(0.0, y2 - slope * x2), slope
