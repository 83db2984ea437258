"""Time for a row as a data set grows: ``python -m benchmarks.kmeans --scaling``.

Rows double from a sixteenth of ``--rows`` (400,000 if not given), with 1,000 rows for each cluster
and k-means fitted on 256 of them. The pairwise search compares rows within clusters of 1,000, so
its time for a row should not grow. Fit and assignment take ``2 d k (1 + 0.256 iterations)``
operations for each row, which grow with k. A straight line through the times for a row over these
operations parts what a row costs at any k (the line at no operations: distances, sums, copies)
from what an operation costs (its slope), and that is compared with the quickest float32 product
seen in the same rounds. Seeding is shown apart, and so is what a call on next to nothing takes.
"""

import argparse
import statistics
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks import floors
from benchmarks.data import make_clusters
from benchmarks.fits import Task, fit_own
from benchmarks.machine import describe
from benchmarks.output import Target, print_table, print_targets, write_json
from benchmarks.rounds import Contestant, seconds_of, take_turns, uncertainty, waiting
from dedup_assets.compute.arrays import array_module, device_array_module, resolve_device
from dedup_assets.compute.assign import nearest_centroids
from dedup_assets.compute.pairwise import best_earlier_matches
from dedup_assets.compute.threads import thread_count

ROWS, SIZES = 400_000, 5
ROWS_PER_CLUSTER, FITTED_PER_CLUSTER = 1_000, 256
ITERATIONS = 10
_NEVER = -1.0  # a tolerance that stops no fit, so that all sizes take as many iterations
GREATEST_GROWTH = 1.3
_RATE_ROWS, _RATE_CENTROIDS = 16_384, 1_000


@dataclass(frozen=True)
class Size:
    """Times of one size, seconds.

    Attributes:
        rows: of the data set.
        iterations: of the fit.
        pairwise: of the search.
        seeding: of the fit, up to its first iteration.
        iterating: of the rest of the fit.
        assigning: of the assignment of all rows.
    """

    rows: int
    iterations: int
    pairwise: float
    seeding: float
    iterating: float
    assigning: float

    def operations(self, dim: int) -> float:
        """Of fit and assignment, for each row, in the products alone."""
        clusters = self.rows / ROWS_PER_CLUSTER
        fitted = FITTED_PER_CLUSTER / ROWS_PER_CLUSTER
        return 2 * dim * clusters * (1 + fitted * self.iterations)


@dataclass(frozen=True)
class Measured:
    """What came of all rounds.

    Attributes:
        rounds: of each, its sizes, ascending.
        rates: of each, operations in a second of the quickest product.
        calls: seconds that each call takes on next to nothing.
    """

    rounds: list[list[Size]]
    rates: list[float]
    calls: dict[str, float]

    @property
    def sizes(self) -> list[Size]:
        """Medians of the rounds."""
        return [_medians(list(sizes)) for sizes in zip(*self.rounds, strict=True)]

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def growth(self) -> list[float]:
        """Of each round, the greatest time of the search for a row over the least."""
        each = [[size.pairwise / size.rows for size in sizes] for sizes in self.rounds]
        return [max(times) / min(times) for times in each]

    def starts(self, dim: int) -> list[float]:
        """Of each round, seconds of fit and assignment for a row at no operations."""
        return [_line(sizes, dim)[0] for sizes in self.rounds]

    def slopes(self, dim: int) -> list[float]:
        """Of each round, the time of an operation in times of that of a product."""
        return [
            _line(sizes, dim)[1] * rate for sizes, rate in zip(self.rounds, self.rates, strict=True)
        ]


def _line(sizes: list[Size], dim: int) -> tuple[float, float]:
    x = [size.operations(dim) for size in sizes]
    y = [(size.iterating + size.assigning) / size.rows for size in sizes]
    slope, start = np.polyfit(x, y, 1)
    return float(start), float(slope)


def _medians(sizes: list[Size]) -> Size:
    found = {name: statistics.median(getattr(s, name) for s in sizes) for name in asdict(sizes[0])}
    return Size(**{**found, "rows": sizes[0].rows, "iterations": sizes[0].iterations})


def run(options: argparse.Namespace) -> int:
    device = resolve_device(options.device)
    measured = measure(options, device)
    targets = judge(measured, options.dim)
    show(measured, options.dim)
    print_targets(targets)
    if options.json is not None:
        write_json(options.json, document(options, device, measured, targets))
    return 0


def measure(options: argparse.Namespace, device: str) -> Measured:
    xp = device_array_module(device)
    wait = waiting(xp)
    most = max(2**SIZES, (options.rows or ROWS) // ROWS_PER_CLUSTER)
    x = xp.asarray(make_clusters(most, ROWS_PER_CLUSTER, options.dim, 1, options.seed))
    clusters = [most >> halved for halved in reversed(range(SIZES))]
    rate_rows = x[:_RATE_ROWS]
    products = floors.all_products([(rate_rows, x[:_RATE_CENTROIDS].copy())])
    take_turns(products, 0)
    one_size(x, clusters[0], options.seed, wait)
    operations = 2.0 * len(rate_rows) * min(_RATE_CENTROIDS, len(x)) * options.dim
    rounds, rates = [], []
    for turn in range(options.rounds):
        rates.append(operations / min(seconds_of(one.call, wait) for one in products))
        rounds.append([one_size(x, count, options.seed + turn, wait) for count in clusters])
    return Measured(rounds, rates, on_next_to_nothing(x, options.rounds, wait))


def one_size(x: Any, clusters: int, seed: int, wait: Any) -> Size:
    """Time what a data set of the first clusters takes."""
    n = clusters * ROWS_PER_CLUSTER
    rows, offsets = x[:n], np.arange(clusters + 1) * ROWS_PER_CLUSTER
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(n, clusters * FITTED_PER_CLUSTER, replace=False))
    task = Task(rows[array_module(x).asarray(chosen)], clusters, seed, ITERATIONS, tol=_NEVER)
    pairwise = seconds_of(partial(best_earlier_matches, rows, offsets), wait)
    fit = fit_own(task)
    centroids = fit.points[-1].centroids
    return Size(
        n,
        fit.iterations,
        pairwise,
        fit.points[0].seconds,
        fit.seconds - fit.points[0].seconds,
        seconds_of(partial(nearest_centroids, rows, centroids), wait),
    )


def on_next_to_nothing(x: Any, rounds: int, wait: Any) -> dict[str, float]:
    few = x[:2]
    calls = [
        Contestant("pairwise", lambda: best_earlier_matches(few, [0, 2])),
        Contestant("fit", lambda: fit_own(Task(few, 1, 0, 1))),
        Contestant("assign", lambda: nearest_centroids(few, few[:1])),
    ]
    return {name: t.median for name, t in take_turns(calls, rounds, wait=wait).items()}


def judge(measured: Measured, dim: int) -> list[Target]:
    growth, slopes = measured.growth(), measured.slopes(dim)
    return [
        Target(name, statistics.median(values), GREATEST_GROWTH, "x", uncertainty(values))
        for name, values in (
            ("pairwise time for a row, greatest / least", growth),
            ("fit and assignment: time of an operation / that of a float32 product", slopes),
        )
    ]


def show(measured: Measured, dim: int) -> None:
    starts, slopes = measured.starts(dim), measured.slopes(dim)
    micro = 1e6
    rows = [
        [
            f"{size.rows:,}",
            size.rows // ROWS_PER_CLUSTER,
            micro * size.pairwise / size.rows,
            size.iterations,
            micro * size.iterating / size.rows,
            micro * size.assigning / size.rows,
            micro * size.operations(dim) / measured.rate,
            micro * size.seeding / size.rows,
        ]
        for size in measured.sizes
    ]
    columns = ["rows", "clusters", "pairwise", "iterations", "fit", "assignment", "products"]
    print_table(f"Microseconds for a row of {dim}", [*columns, "seeding"], rows)
    print(f"\nproducts: 2 d k (1 + 0.256 iterations) at {measured.rate / 1e9:,.0f} GFLOP/s")
    start = micro * statistics.median(starts)
    print(f"fit and assignment: {start:.2f} microseconds for a row at any k, and")
    print(f"  {statistics.median(slopes):.2f} of the time of these products, in the rounds")
    print(f"  {min(slopes):.2f} to {max(slopes):.2f}")
    for name, seconds in measured.calls.items():
        print(f"{name} of two rows: {1e3 * seconds:.2f} ms")


def document(
    options: argparse.Namespace, device: str, measured: Measured, targets: list[Target]
) -> dict[str, Any]:
    return {
        "benchmark": "scaling",
        **describe("numpy", "numkong", "cupy-cuda12x", "cupy-cuda13x"),
        "parameters": {
            "dim": options.dim,
            "device": device,
            "threads": thread_count(),
            "seed": options.seed,
            "rounds": options.rounds,
        },
        "targets": [target.as_dict() for target in targets],
        "rate_gflop_s": [rate / 1e9 for rate in measured.rates],
        "row_at_any_k_us": [1e6 * start for start in measured.starts(options.dim)],
        "operation_times_product": measured.slopes(options.dim),
        "pairwise_greatest_over_least": measured.growth(),
        "next_to_nothing_ms": {name: 1e3 * s for name, s in measured.calls.items()},
        "sizes": [
            {**asdict(size), "operations_per_row": size.operations(options.dim)}
            for size in measured.sizes
        ],
    }
