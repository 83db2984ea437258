"""The product's k-means against faiss and scikit-learn, by the time to equal inertia.

    python -m benchmarks.kmeans --json benchmarks/results/kmeans.json
    python -m benchmarks.kmeans --scaling --json benchmarks/results/scaling.json

Same rows, same process, same threads, in turns; each round has another seed. Equal inertia of a
package and the product is 1 % above the higher one of those that both end with; the time of each
is that to its first iteration below it. The inertia that all reach is 1 % above the highest of a
round: the worst seeding sets it. Low inertia is 1 % above the lowest that any reaches. All stop
after ``--max-iter`` iterations, or where their own rule stops them (a tolerance of 1e-4, or for
faiss an objective that stays the same). k-means++ of the packages takes part where it is
affordable.

The floor of an iteration is the float32 product of all rows with all centroids, 2 n k d
operations, measured in the same rounds. ``pip install faiss-cpu scikit-learn`` for the packages,
``pip install numkong`` for bfloat16, CuPy for a GPU.

``--scaling`` is described in `benchmarks.scaling`.
"""

import argparse
import statistics
import sys
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks import floors
from benchmarks.data import make_rows
from benchmarks.fits import OWN, Fit, Task, fits
from benchmarks.machine import describe
from benchmarks.options import add_rounds, array_parser, positive
from benchmarks.output import Target, print_table, print_targets, write_json
from benchmarks.rounds import Ratio, ratio, seconds_of, take_turns, waiting
from dedup_assets.compute.arrays import device_array_module, resolve_device
from dedup_assets.compute.threads import thread_count

PACKAGES = ("numpy", "numkong", "faiss-cpu", "scikit-learn", "cupy-cuda12x", "cupy-cuda13x")
ROWS, CLUSTERS = 200_000, 1_000
WITHIN = 1.01
WARM_UP_ITERATIONS = 2


@dataclass(frozen=True)
class Run:
    """One fit of one round.

    Attributes:
        seconds: of the whole call.
        iterations: done.
        each: seconds of one iteration.
        inertia: of the result.
        to_equal: seconds to equal inertia with the product.
        own_to_equal: what the product took to the same inertia.
        to_all: seconds to the inertia that all reach.
        to_low: seconds to low inertia, or None: never.
    """

    seconds: float
    iterations: int
    each: float
    inertia: float
    to_equal: float
    own_to_equal: float
    to_all: float
    to_low: float | None


@dataclass
class Measured:
    """What came of all rounds, in their order."""

    runs: dict[str, list[Run]]
    goals: list[float]
    floors: list[float]
    skipped: dict[str, str]
    bandwidth: float

    def to_equal(self, name: str) -> Ratio:
        """Time to equal inertia, in times of the product's."""
        runs = self.runs[name]
        return ratio([run.to_equal for run in runs], [run.own_to_equal for run in runs])

    def median(self, name: str, field: str) -> float:
        return statistics.median(getattr(run, field) for run in self.runs[name])

    def low(self, name: str) -> str | None:
        """Median time to low inertia of the rounds that reached it."""
        runs = self.runs[name]
        times = [run.to_low for run in runs if run.to_low is not None]
        if not times:
            return None
        often = "" if len(times) == len(runs) else f" ({len(times)} of {len(runs)})"
        return f"{statistics.median(times):,.2f}{often}"


def main() -> int:
    parser = array_parser(__doc__.splitlines()[0])
    parser.add_argument("--max-iter", type=positive, default=25, help="most iterations")
    parser.add_argument(
        "--longest-seeding", type=float, default=120.0, help="seconds that k-means++ may take"
    )
    parser.add_argument(
        "--scaling", action="store_true", help="time for a row as rows and clusters grow"
    )
    add_rounds(parser)
    options = parser.parse_args()
    if options.scaling:
        from benchmarks.scaling import run

        return run(options)
    device = resolve_device(options.device)
    rows, clusters = options.rows or ROWS, options.clusters or CLUSTERS
    measured = measure(options, device, rows, clusters)
    targets = judge(measured)
    show(measured, f"{rows:,} x {options.dim}, {clusters:,} clusters")
    print_targets(targets)
    if options.json is not None:
        write_json(options.json, document(options, device, (rows, clusters), measured, targets))
    return 0


def measure(options: argparse.Namespace, device: str, rows: int, clusters: int) -> Measured:
    xp = device_array_module(device)
    wait = waiting(xp)
    x = xp.asarray(make_rows(rows, options.dim, clusters, options.seed))
    task = Task(x, clusters, options.seed, options.max_iter)
    taking_part, skipped = fits(xp, task, options.longest_seeding)
    for fitting in taking_part.values():
        fitting(replace(task, max_iter=WARM_UP_ITERATIONS))
    machine = [*floors.all_products([(x, x[:clusters].copy())]), floors.copying(xp)]
    turns = take_turns(machine, 0)
    measured = Measured({name: [] for name in taking_part}, [], [], skipped, 0.0)
    for turn in range(options.rounds):
        for one in machine:
            turns[one.name].seconds.append(seconds_of(one.call, wait))
        seeded = replace(task, seed=options.seed + 1 + turn)
        done = {name: fitting(seeded) for name, fitting in taking_part.items()}
        note(measured, x, done)
    measured.bandwidth = floors.copy_bandwidth(xp, turns.pop(floors.COPY))
    measured.floors = turns[floors.quickest(turns, list(turns))].seconds
    return measured


def note(measured: Measured, x: Any, done: dict[str, Fit]) -> None:
    """Judge the fits of a round by one measure, outside all clocks."""
    last = {name: fit.points[-1].inertia(x) for name, fit in done.items()}
    reached_by_all, low = WITHIN * max(last.values()), WITHIN * min(last.values())
    measured.goals.append(reached_by_all)

    def seconds(fit: Fit, goal: float) -> float:
        there = fit.first_below(x, goal)
        return there.seconds if there else fit.seconds

    for name, fit in done.items():
        equal = WITHIN * max(last[name], last[OWN])
        lowest = fit.first_below(x, low)
        measured.runs[name].append(
            Run(
                fit.seconds,
                fit.iterations,
                fit.each,
                last[name],
                to_equal=seconds(fit, equal),
                own_to_equal=seconds(done[OWN], equal),
                to_all=seconds(fit, reached_by_all),
                to_low=lowest.seconds if lowest else None,
            )
        )


def judge(measured: Measured) -> list[Target]:
    targets = []
    for name in measured.runs:
        if not name.startswith(OWN):
            found = measured.to_equal(name)
            what = f"time to equal inertia: {name} / {OWN}"
            targets.append(Target(what, found.value, 1.0, "x", found.noise, at_least=True))
    return targets


def show(measured: Measured, title: str) -> None:
    floor = statistics.median(measured.floors)
    best = min(run.inertia for runs in measured.runs.values() for run in runs)
    rows = []
    for name, runs in measured.runs.items():
        relative = measured.to_equal(name)
        each = [run.each for run in runs]
        rows.append(
            [
                name,
                measured.median(name, "to_equal"),
                measured.median(name, "own_to_equal"),
                relative.value,
                f"{relative.low:.2f} to {relative.high:.2f}",
                measured.median(name, "to_all"),
                measured.low(name),
                measured.median(name, "seconds"),
                int(statistics.median(run.iterations for run in runs)),
                statistics.median(each),
                ratio(each, measured.floors).value,
                f"{100 * (statistics.median(run.inertia for run in runs) / best - 1):+.2f} %",
            ]
        )
    columns = ["fit", "seconds to equal inertia", f"{OWN} to the same", f"x {OWN}", "range"]
    columns += ["to the inertia that all reach", "to low inertia", "in all", "iterations"]
    columns += ["seconds an iteration", "x floor", "final inertia"]
    print_table(title, columns, rows)
    print(f"\nfloor: {floor:,.3f} s an iteration; copy: {measured.bandwidth / 1e9:,.1f} GB/s")
    print("final inertia: above the lowest of all fits")
    for name, reason in measured.skipped.items():
        print(f"not here: {name} ({reason})")


def document(
    options: argparse.Namespace,
    device: str,
    shape: tuple[int, int],
    measured: Measured,
    targets: list[Target],
) -> dict[str, Any]:
    rows, clusters = shape
    return {
        "benchmark": "kmeans",
        **describe(*PACKAGES),
        "parameters": {
            "rows": rows,
            "dim": options.dim,
            "clusters": clusters,
            "device": device,
            "threads": thread_count(),
            "seed": options.seed,
            "rounds": options.rounds,
            "max_iter": options.max_iter,
        },
        "targets": [target.as_dict() for target in targets],
        "skipped": measured.skipped,
        "floor_s": measured.floors,
        "floor_gflop_s": 2e-9 * rows * clusters * options.dim / statistics.median(measured.floors),
        "copy_gb_s": measured.bandwidth / 1e9,
        "inertia_that_all_reach": measured.goals,
        "fits": {
            name: {
                "runs": [asdict(run) for run in runs],
                "times_own_to_equal_inertia": asdict(measured.to_equal(name)),
                "iteration_times_floor": asdict(ratio([r.each for r in runs], measured.floors)),
            }
            for name, runs in measured.runs.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
