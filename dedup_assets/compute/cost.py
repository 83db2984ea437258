"""What a number of clusters would cost, from measured rates; and the choice of one.

Comparing costs rows² / clusters, fitting up to clusters², and every cluster has its files: few
clusters are slow for one reason, very many for two others, and somewhere between is the fastest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_BYTES = 4  # of a number: rows are compared in float32
SEEDING_POWER = 1.5  # power of the clusters: it passes over rows, and over pairs of candidates
_GRID = (1, 2, 5)


@dataclass(frozen=True)
class Spread:
    """How unevenly rows fell into clusters in a fit.

    Attributes:
        clusters: their number.
        squares: sum of the squared sizes against that of equal clusters, at least 1.
        largest: the largest size against that of equal clusters, at least 1.
    """

    clusters: int
    squares: float
    largest: float


@dataclass(frozen=True)
class ComputeRates:
    """Seconds of the arithmetic on one device, for vectors of one length.

    Attributes:
        compare_row: of a row in `best_earlier_match`, apart from its pairs.
        compare_pair: of a pair of rows there.
        assign_product: of a row and a centroid in `nearest_centroids`.
        fit_row: of a row in an iteration of k-means, apart from the centroids.
        fit_product: of a row and a centroid there.
        fit_seed: of seeding with one cluster; with more it grows, but less than their square.
        iterations: of k-means until it stops.
        spreads: how uneven clusters are, ascending by their number.
    """

    compare_row: float
    compare_pair: float
    assign_product: float
    fit_row: float
    fit_product: float
    fit_seed: float
    iterations: int
    spreads: tuple[Spread, ...] = ()


@dataclass(frozen=True)
class StepRates:
    """Seconds of what a step does beside that arithmetic: reading, writing, sorting.

    Attributes:
        row: of a row; ``cluster``: of a cluster and its files; ``fixed``: of the step.
    """

    row: float = 0.0
    cluster: float = 0.0
    fixed: float = 0.0


@dataclass(frozen=True)
class Rates:
    """All that was measured; the steps are those of a `Prediction`.

    Attributes:
        missed_row: seconds of a row in the search for what clustering misses, which there is
            with more than one cluster.
    """

    compute: ComputeRates
    fit: StepRates
    assign: StepRates
    compare: StepRates
    rest: StepRates
    missed_row: float = 0.0


@dataclass(frozen=True)
class Workload:
    """What is to be done.

    Attributes:
        rows: of the input.
        dim: length of the vectors.
        fit_rows: rows that k-means is fitted on, by number of clusters.
        groups: file groups, each of which leaves a fragment in each cluster, likewise.
        most_bytes: the largest cluster that can be compared, as float32 rows; None: any.
    """

    rows: int
    dim: int
    fit_rows: Callable[[int], int]
    groups: Callable[[int], int]
    most_bytes: int | None = None


@dataclass(frozen=True)
class Prediction:
    """What a number of clusters would cost.

    Attributes:
        clusters: their number.
        fit: seconds to sample and fit k-means; ``longest_fit``: if it never converged.
        assign: seconds to assign the rows and write them cluster by cluster.
        compare: seconds to compare the rows of each cluster.
        rest: seconds of what comes before and after, the search for what is missed included.
        rows: rows of a cluster, on average.
        fit_rows: rows that k-means is fitted on.
        largest_bytes: the largest cluster, as float32 rows.
        in_memory: whether that can be compared on this machine.
    """

    clusters: int
    fit: float
    longest_fit: float
    assign: float
    compare: float
    rest: float
    rows: float
    fit_rows: int
    largest_bytes: int
    in_memory: bool

    @property
    def total(self) -> float:
        return self.fit + self.assign + self.compare + self.rest


@dataclass(frozen=True)
class Choice:
    """The chosen number of clusters.

    Attributes:
        clusters: the number.
        within_budget: whether it is predicted to keep to the budget; if not, it is the fastest.
        predictions: of every candidate, ascending.
    """

    clusters: int
    within_budget: bool
    predictions: dict[int, Prediction]

    @property
    def chosen(self) -> Prediction:
        return self.predictions[self.clusters]

    def neighbours(self, fewer: int, more: int) -> list[Prediction]:
        """The chosen number between round ones, one cluster first; so many on either side."""
        grid = [k for k in self.predictions if _is_round(k) or k == max(self.predictions)]
        below = [k for k in grid if k < self.clusters][-fewer:] if fewer else []
        above = [k for k in grid if k > self.clusters][:more]
        return [self.predictions[k] for k in sorted({1, *below, self.clusters, *above})]


def predict(work: Workload, rates: Rates, clusters: int, max_iter: int) -> Prediction:
    """Seconds of each step with so many clusters."""
    k, compute = clusters, rates.compute
    fit_rows, groups = work.fit_rows(k), work.groups(k)
    iteration = fit_rows * (compute.fit_row + k * compute.fit_product)
    before = _step(rates.fit, work.rows, k) + compute.fit_seed * k**SEEDING_POWER
    squares, largest = _unevenness(compute.spreads, k)
    pairs = squares * work.rows**2 / (2 * k)
    largest_bytes = int(min(1.0, largest / k) * work.rows) * work.dim * _BYTES
    return Prediction(
        clusters=k,
        fit=before + min(max_iter, compute.iterations) * iteration,
        longest_fit=before + max_iter * iteration,
        assign=_step(rates.assign, work.rows, k * groups) + work.rows * k * compute.assign_product,
        # A cluster reads a fragment of each group and writes one table.
        compare=_step(rates.compare, work.rows, k * (1 + groups) / 2)
        + work.rows * compute.compare_row
        + pairs * compute.compare_pair,
        rest=_step(rates.rest, work.rows, k) + (work.rows * rates.missed_row if k > 1 else 0.0),
        rows=work.rows / k,
        fit_rows=fit_rows,
        largest_bytes=largest_bytes,
        in_memory=work.most_bytes is None or largest_bytes <= work.most_bytes,
    )


def choose(work: Workload, rates: Rates, budget: float, max_iter: int) -> Choice:
    """The fewest clusters predicted to keep to ``budget`` seconds; if none do, the fastest.

    Numbers of at most two significant digits are weighed: a prediction is no finer than that.

    Raises:
        ValueError: with any number, some cluster would not fit into memory.
    """
    predictions = {
        k: predict(work, rates, k, max_iter) for k in candidates(work.fit_rows(work.rows))
    }
    possible = [p for p in predictions.values() if p.in_memory]
    if not possible:
        raise ValueError("no number of clusters makes them small enough")
    found = next((p for p in possible if p.total <= budget), None)
    fastest = min(possible, key=lambda p: p.total)
    return Choice((found or fastest).clusters, found is not None, predictions)


def candidates(most: int) -> list[int]:
    """1 to ``most``, as far as they have at most two significant digits; and ``most``."""
    found = []
    step = 1
    while step <= most:
        first = 1 if step == 1 else 10
        found += [step * n for n in range(first, 100) if step * n <= most]
        step *= 10
    return found if most in found else [*found, most]


def _step(rates: StepRates, rows: int, clusters: float) -> float:
    return rates.fixed + rates.row * rows + rates.cluster * clusters


def _unevenness(spreads: tuple[Spread, ...], clusters: int) -> tuple[float, float]:
    """`Spread.squares` and `Spread.largest`: a single cluster has 1, beyond the last they stay."""
    known = np.log([1, *(s.clusters for s in spreads)])
    at = np.log(clusters)
    squares = np.interp(at, known, [1.0, *(s.squares for s in spreads)])
    return float(squares), float(np.interp(at, known, [1.0, *(s.largest for s in spreads)]))


def _is_round(clusters: int) -> bool:
    while clusters % 10 == 0:
        clusters //= 10
    return clusters in _GRID
