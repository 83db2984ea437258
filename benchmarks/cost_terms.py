"""The terms of the cost model: what each stage does for rows, numbers, products and files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

BYTES = 4  # of a number
PER_CENTROID = 256  # rows that k-means is fitted on
GROUP = 1 << 30  # bytes of a file group, at least; and a MiB a cluster
PART = 16 << 20  # bytes of a request to the store
PASSES = 12  # of the fit over all products: most iterations meet few of the centroids


@dataclass(frozen=True)
class Shape:
    """What a run has to do.

    Attributes:
        rows, dim: of the input.
        clusters: their number.
        missed: rows of the sample for what clustering misses.
    """

    rows: int
    dim: int
    clusters: int
    missed: int = 2_000

    @property
    def numbers(self) -> int:
        return self.rows * self.dim

    @property
    def sample(self) -> int:
        """Rows that k-means is fitted on."""
        return min(self.rows, PER_CENTROID * self.clusters)

    @property
    def fragments(self) -> int:
        groups = -(-self.numbers * BYTES // max(GROUP, self.clusters << 20))
        return self.clusters * groups


RUN, ROW, NUMBER, FILE, SAMPLED, OPERATION = (
    *("a run", "a row", "a number", "a file"),
    *("a number of the sample", "an operation"),
)

Term = Callable[[Shape], float]

TERMS: dict[str, dict[str, Term]] = {
    "embeddings": {RUN: lambda s: 1, ROW: lambda s: s.rows},
    "centroids": {
        RUN: lambda s: 1,
        SAMPLED: lambda s: s.sample * s.dim,
        OPERATION: lambda s: 2 * PASSES * s.sample * s.clusters * s.dim,
    },
    "cluster_partitions": {
        ROW: lambda s: s.rows,
        NUMBER: lambda s: s.numbers,
        FILE: lambda s: s.fragments,
        OPERATION: lambda s: 2 * s.numbers * s.clusters,
    },
    "pairwise_scores": {
        ROW: lambda s: s.rows,
        NUMBER: lambda s: s.numbers,
        FILE: lambda s: s.fragments + s.clusters,
        OPERATION: lambda s: s.numbers * s.rows / s.clusters,
    },
    "missed_by_clustering": {
        RUN: lambda s: 1,
        NUMBER: lambda s: s.numbers,
        FILE: lambda s: s.fragments,
        OPERATION: lambda s: 2 * s.numbers * s.missed,
    },
    "duplicate_ids": {ROW: lambda s: s.rows, FILE: lambda s: s.clusters},
}
"""How often each stage does what, as functions of the shape."""

Rates = dict[str, dict[str, float]]
"""Processor seconds of each term of each stage."""


def fit(runs: Sequence[tuple[Shape, dict[str, float]]]) -> Rates:
    """The rates that explain the processor seconds of ``runs`` best, by relative error."""
    rates = {}
    for stage, terms in TERMS.items():
        counts = np.array([[term(shape) for term in terms.values()] for shape, _ in runs])
        taken = np.array([seconds[stage] for _, seconds in runs])
        found = _not_negative(counts / taken[:, None], np.ones(len(runs)))
        rates[stage] = dict(zip(terms, found.tolist(), strict=True))
    return rates


def seconds(rates: Rates, shape: Shape, stage: str, *without: str) -> float:
    """Processor seconds of a stage, but for some terms."""
    terms = TERMS[stage].items()
    return sum(rates[stage][name] * term(shape) for name, term in terms if name not in without)


def operations(shape: Shape, stage: str) -> float:
    """Floating-point operations of the products of a stage."""
    term = TERMS[stage].get(OPERATION)
    return 0.0 if term is None else term(shape)


def bytes_moved(shape: Shape, stage: str) -> float:
    """Bytes of vectors that a stage reads and writes."""
    whole = float(shape.numbers * BYTES)
    passes = {"cluster_partitions": 2, "pairwise_scores": 1, "missed_by_clustering": 1}
    if stage == "centroids":
        return float(shape.sample * shape.dim * BYTES)
    return passes.get(stage, 0) * whole


def files(shape: Shape) -> int:
    """Files that a run leaves: fragments, and of each cluster a table and a list."""
    return shape.fragments + 2 * shape.clusters


def requests(shape: Shape) -> int:
    """Requests to a store: of parts of the vectors, and of each file to write it and read it."""
    moved = sum(bytes_moved(shape, stage) for stage in TERMS)
    return int(moved / PART) + 3 * shape.fragments + 2 * shape.clusters


def _not_negative(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Least squares of ``a x = b`` with no x below 0: what would be is left out, worst first."""
    scale = np.abs(a).max(axis=0)
    scale[scale == 0] = 1.0
    kept = list(range(a.shape[1]))
    while True:
        x, *_ = np.linalg.lstsq(a[:, kept] / scale[kept], b, rcond=None)
        if len(kept) == 1 or x.min() >= 0:
            break
        del kept[int(x.argmin())]
    found = np.zeros(a.shape[1])
    found[kept] = np.maximum(x, 0) / scale[kept]
    return found
