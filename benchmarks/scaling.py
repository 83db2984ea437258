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
from benchmarks.rounds import Contestant, seconds_of, take_turns, waiting
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
    """What came of all sizes.

    Attributes:
        sizes: medians of the rounds.
        rate: operations in a second of the quickest product.
        calls: seconds that each call takes on next to nothing.
    """

    sizes: list[Size]
    rate: float
    calls: dict[str, float]

    def line(self, dim: int) -> tuple[float, float]:
        """Seconds for a row at no operations, and for an operation."""
        x = [size.operations(dim) for size in self.sizes]
        y = [(size.iterating + size.assigning) / size.rows for size in self.sizes]
        slope, start = np.polyfit(x, y, 1)
        return float(start), float(slope)


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
    turns = take_turns(products, 0)
    one_size(x, clusters[0], options.seed, wait)
    found: dict[int, list[Size]] = {count: [] for count in clusters}
    for turn in range(options.rounds):
        for one in products:
            turns[one.name].seconds.append(seconds_of(one.call, wait))
        for count in clusters:
            found[count].append(one_size(x, count, options.seed + turn, wait))
    operations = 2.0 * len(rate_rows) * min(_RATE_CENTROIDS, len(x)) * options.dim
    return Measured(
        [_medians(sizes) for sizes in found.values()],
        operations / turns[floors.quickest(turns, list(turns))].median,
        on_next_to_nothing(x, options.rounds, wait),
    )


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


def _medians(sizes: list[Size]) -> Size:
    fields = {name: [getattr(s, name) for s in sizes] for name in asdict(sizes[0])}
    whole = {"rows", "iterations"}
    return Size(
        **{k: (int if k in whole else float)(statistics.median(v)) for k, v in fields.items()}
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
    each = [size.pairwise / size.rows for size in measured.sizes]
    _, slope = measured.line(dim)
    return [
        Target(
            "pairwise time for a row, greatest / least", max(each) / min(each), GREATEST_GROWTH, "x"
        ),
        Target(
            "fit and assignment: time of an operation / that of a float32 product",
            slope * measured.rate,
            GREATEST_GROWTH,
            "x",
        ),
    ]


def show(measured: Measured, dim: int) -> None:
    start, slope = measured.line(dim)
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
    print(f"fit and assignment: {micro * start:.2f} microseconds for a row at any k, and")
    print(f"  {slope * measured.rate:.2f} of the time of these products")
    for name, seconds in measured.calls.items():
        print(f"{name} of two rows: {1e3 * seconds:.2f} ms")


def document(
    options: argparse.Namespace, device: str, measured: Measured, targets: list[Target]
) -> dict[str, Any]:
    start, slope = measured.line(options.dim)
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
        "rate_gflop_s": measured.rate / 1e9,
        "row_at_any_k_us": 1e6 * start,
        "operation_times_product": slope * measured.rate,
        "next_to_nothing_ms": {name: 1e3 * s for name, s in measured.calls.items()},
        "sizes": [
            {**asdict(size), "operations_per_row": size.operations(options.dim)}
            for size in measured.sizes
        ],
    }
