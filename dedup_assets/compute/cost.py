"""What a number of clusters would cost, from measured rates; and the choice of one.

Comparing costs rows² / clusters, fitting up to clusters², and every cluster has its files: few
clusters are slow for one reason, very many for two others, and somewhere between is the fastest.
"""

from collections.abc import Callable
from dataclasses import dataclass

_BYTES = 4  # of a number: rows are compared in float32
_GRID = (1, 2, 5)


@dataclass(frozen=True)
class Rates:
    """Seconds on one machine, for vectors of one length, and how uneven clusters are.

    Attributes:
        fit: of a row and a centroid in a whole fit of k-means.
        assign: of a row and a centroid in `nearest_centroids`.
        compare: of a pair of rows in `best_earlier_match`.
        missed: of a row in the search for what clustering misses, which there is with more than
            one cluster.
        row: of a row in all that is no arithmetic: reading, sorting, writing.
        file: of a file of a cluster, likewise.
        fixed: once.
        squares: sum of the squared sizes of clusters against that of equal ones, at least 1.
        largest: the largest size against that of equal ones, at least 1.
    """

    fit: float = 0.0
    assign: float = 0.0
    compare: float = 0.0
    missed: float = 0.0
    row: float = 0.0
    file: float = 0.0
    fixed: float = 0.0
    squares: float = 1.0
    largest: float = 1.0


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
        fit: seconds of k-means.
        assign: seconds to find the nearest centroid of each row.
        compare: seconds to compare the rows of each cluster.
        rest: seconds of all else, the search for what is missed included.
        rows: rows of a cluster, on average.
        fit_rows: rows that k-means is fitted on.
        largest_bytes: the largest cluster, as float32 rows.
        in_memory: whether that can be compared on this machine.
    """

    clusters: int
    fit: float
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


def predict(work: Workload, rates: Rates, clusters: int) -> Prediction:
    """Seconds of each part with so many clusters."""
    k, several = clusters, clusters > 1
    fit_rows = work.fit_rows(k)
    squares, largest = (rates.squares, rates.largest) if several else (1.0, 1.0)
    largest_bytes = int(min(1.0, largest / k) * work.rows) * work.dim * _BYTES
    files = k * (1 + work.groups(k))  # a fragment of each group, and a table of scores
    of_row = rates.row + (rates.missed if several else 0.0)
    return Prediction(
        clusters=k,
        fit=fit_rows * k * rates.fit,
        assign=work.rows * k * rates.assign,
        compare=squares * work.rows**2 / (2 * k) * rates.compare,
        rest=rates.fixed + work.rows * of_row + files * rates.file,
        rows=work.rows / k,
        fit_rows=fit_rows,
        largest_bytes=largest_bytes,
        in_memory=work.most_bytes is None or largest_bytes <= work.most_bytes,
    )


def choose(work: Workload, rates: Rates, budget: float) -> Choice:
    """The fewest clusters predicted to keep to ``budget`` seconds; if none do, the fastest.

    Numbers of at most two significant digits are weighed: a prediction is no finer than that.

    Raises:
        ValueError: with any number, some cluster would not fit into memory.
    """
    predictions = {k: predict(work, rates, k) for k in candidates(work.fit_rows(work.rows))}
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


def _is_round(clusters: int) -> bool:
    while clusters % 10 == 0:
        clusters //= 10
    return clusters in _GRID
