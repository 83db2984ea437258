"""The passes over all rows, each against the products it consists of.

    python -m benchmarks.passes --json benchmarks/results/passes.json

Every row to its centroid, every row to the sample for what clustering misses, and all pairs of one
cluster; and on a GPU what brings rows there. The floor of each is the same products in the format
that the device multiplies fastest, without a look at what comes out. In turns. NumPy and
threadpoolctl are enough to run it; ``pip install numkong`` for bfloat16 and CuPy for a GPU.
"""

import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.data import make_rows
from benchmarks.machine import describe
from benchmarks.options import add_rounds, array_parser, positive
from benchmarks.output import print_table, write_json
from benchmarks.rounds import Contestant, Ratio, ratio, take_turns, waiting
from dedup_assets.compute.arrays import array_module, device_array_module, resolve_device, to_device
from dedup_assets.compute.assign import Assigner
from dedup_assets.compute.missed import BestPartners
from dedup_assets.compute.pairwise import best_earlier_match
from dedup_assets.compute.products import row_chunks, screen_format
from dedup_assets.compute.threads import thread_count

ROWS_HOST, ROWS_DEVICE = 20_000, 1_000_000
QUERIES = 1_000
BUDGET = 1 << 30
FLOOR = ": products alone"


@dataclass(frozen=True)
class Pass:
    """What was measured.

    Attributes:
        seconds: of each round.
        floor: seconds of the products alone, or of a plain copy; of each round.
    """

    name: str
    seconds: list[float]
    floor: list[float]

    @property
    def times(self) -> Ratio:
        return ratio(self.seconds, self.floor)


def main() -> int:
    parser = array_parser(__doc__.splitlines()[0])
    parser.set_defaults(clusters=1_000)
    parser.add_argument("--queries", type=positive, default=QUERIES, help="rows of the sample")
    add_rounds(parser)
    options = parser.parse_args()
    device = resolve_device(options.device)
    xp = device_array_module(device)
    rows = options.rows or (ROWS_HOST if xp is np else ROWS_DEVICE)
    host = make_rows(rows, options.dim, options.clusters, options.seed)
    contestants = list(_contestants(xp, host, options.clusters, options.queries))
    turns = take_turns(contestants, options.rounds, wait=waiting(xp), keep=lambda result: None)
    passes = [
        Pass(name, turns[name].seconds, turns[name + FLOOR].seconds)
        for name in turns
        if not name.endswith(FLOOR)
    ]
    _show(passes, f"{rows:,} x {options.dim}, {options.clusters:,} centroids")
    if options.json is not None:
        write_json(
            options.json,
            {
                "benchmark": "passes",
                **describe("numpy", "numkong", "cupy-cuda12x", "cupy-cuda13x"),
                "parameters": {
                    "device": device,
                    "threads": thread_count(),
                    "rows": rows,
                    "dim": options.dim,
                    "clusters": options.clusters,
                    "queries": options.queries,
                },
                "passes": {p.name: asdict(p) | {"times_floor": asdict(p.times)} for p in passes},
            },
        )
    return 0


def _contestants(xp: Any, host: np.ndarray, clusters: int, queries: int) -> Iterator[Contestant]:
    x = to_device(xp, host)
    rng = np.random.default_rng(0)
    some = np.sort(rng.choice(len(host), min(queries, len(host)), replace=False))
    sample, centroids = x[xp.asarray(some)], x[:clusters].copy()
    cluster = np.sort(rng.integers(0, clusters, len(host)))
    rank = np.arange(len(host))
    assigner = Assigner(centroids, memory_budget=BUDGET)

    def partners() -> None:
        search = BestPartners(sample, cluster[some], memory_budget=BUDGET)
        search.add(x, cluster, rank, (np.arange(len(some)), some))

    yield Contestant("rows to centroids", lambda: assigner.assign(x))
    yield Contestant("rows to centroids" + FLOOR, _products(x, centroids))
    yield Contestant("rows to the sample", partners)
    yield Contestant("rows to the sample" + FLOOR, _products(x, sample))
    for precision in ("exact", "fast"):
        name = f"all pairs of one cluster, {precision}"
        yield Contestant(
            name, lambda p=precision: best_earlier_match(x, precision=p, memory_budget=BUDGET)
        )
        yield Contestant(name + FLOOR, _half_of_all_products(x))
    if xp is not np:
        yield Contestant("rows to the device", lambda: to_device(xp, host))
        yield Contestant("rows to the device" + FLOOR, lambda: xp.asarray(host))


def _products(x: Any, right: Any) -> Callable[[], None]:
    """Every row with every row of the right side."""
    xp = array_module(x)
    quick = screen_format(xp)
    chunks = row_chunks(xp, len(x), len(right), x.shape[1], memory_budget=BUDGET)

    def call() -> None:
        side = quick.right(right)
        for chunk in chunks:
            side.product(quick.operand(x[chunk]))

    return call


def _half_of_all_products(x: Any) -> Callable[[], None]:
    """Strips of rows, each with the rows before its end."""
    strip = max(64, min(4096, len(x) // 8))

    def call() -> None:
        for begin in range(0, len(x), strip):
            end = min(begin + strip, len(x))
            _products(x[begin:end], x[:end])()

    return call


def _show(passes: list[Pass], title: str) -> None:
    rows = [
        [
            one.name,
            statistics.median(one.seconds),
            statistics.median(one.floor),
            one.times.value,
            f"{one.times.low:.2f} to {one.times.high:.2f}",
        ]
        for one in passes
    ]
    print_table(title, ["pass", "seconds", "floor", "x floor", "range"], rows, digits=3)


if __name__ == "__main__":
    sys.exit(main())
