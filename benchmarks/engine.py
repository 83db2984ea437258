"""What each stage costs for a row, and how fast each engine is with one worker and with two.

    python -m benchmarks.engine --json benchmarks/results/engine.json

Processor time is that of the stage functions in one process, without Dagster. Rates are those of
the stages that an engine does tasks of, without starting Ray, each on as many processors as it has
workers: threads of the local engine, or processes of Ray's with one thread of linear algebra each.
``--against`` names another checkout of this repository: the whole run is made with either, in
turns, and the ratio is of the medians.
"""

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.child import ChildFailedError, in_child
from benchmarks.machine import describe
from benchmarks.options import add_rounds, common_parser, work_folder
from benchmarks.output import Target, print_table, print_targets, write_json

RUNS = "benchmarks.engine_runs"
LOCAL, RAY = "local", "ray"
WORKERS = (1, 2)
TASKS = 300


def main() -> int:
    parser = common_parser(__doc__.splitlines()[0])
    parser.set_defaults(rows=200_000, clusters=200)
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout")
    add_rounds(parser)
    options = parser.parse_args()
    try:
        with work_folder(options) as folder:
            measured = measure(options, folder)
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    targets = judge(measured)
    show(options, measured, targets)
    if options.json is not None:
        document = {
            "benchmark": "engine",
            **describe("numpy", "pyarrow", "ray"),
            "parameters": {n: getattr(options, n) for n in ("rows", "dim", "clusters", "rounds")},
            "targets": [target.as_dict() for target in targets],
            **measured,
        }
        write_json(options.json, document)
    return 0


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    data = str(folder / "input")
    shape = {"rows": options.rows, "dim": options.dim}
    in_child("benchmarks.data", "make_data", folder=data, **shape, centres=options.clusters, seed=7)
    settings = {
        "input_embeddings_path": data,
        "n_clusters": options.clusters,
        "device": options.device,
        "eps_thresholds": ["0.01"],
    }
    measured: dict[str, Any] = {"stages": _stages(options, folder, settings)}
    measured["rates"] = _rates(options, folder, settings)
    measured["overhead_ms"] = in_child(RUNS, "overhead", tasks=TASKS)["milliseconds"]
    if options.against is not None:
        measured["against"] = _against(options, folder, settings)
    return measured


def _stages(
    options: argparse.Namespace, folder: Path, settings: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Of each stage the processor time in all, microseconds a row; medians."""
    rounds = [
        in_child(RUNS, "stages", settings=settings, output=str(folder / f"stages-{n}"))["processor"]
        for n in range(options.rounds)
    ]
    return {
        name: {"us_a_row": 1e6 * statistics.median(r[name] for r in rounds) / options.rows}
        for name in rounds[0]
    }


def _rates(
    options: argparse.Namespace, folder: Path, settings: dict[str, Any]
) -> list[dict[str, Any]]:
    """Rows a second of each engine by its workers, in turns; medians and all rounds."""
    cases = [(engine, workers) for engine in (LOCAL, RAY) for workers in WORKERS]
    seconds: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for number in range(options.rounds):
        for engine, workers in cases:
            output = str(folder / f"rate-{engine}-{workers}-{number}")
            threads = workers if engine == LOCAL else 1
            found = in_child(
                RUNS,
                "rate",
                threads=threads,
                settings=settings | {"engine": engine},
                output=output,
                workers=workers,
            )
            seconds[engine, workers].append(found["seconds"])
    return [
        {
            "engine": engine,
            "workers": workers,
            "rows_a_second": options.rows / statistics.median(found),
            "seconds": found,
        }
        for (engine, workers), found in seconds.items()
    ]


def _against(options: argparse.Namespace, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds of all stages with this checkout and with the other, in turns."""
    here = Path(__file__).parent.parent
    seconds: dict[str, list[float]] = {"this": [], "other": []}
    for number in range(options.rounds):
        for name, root in (("this", here), ("other", options.against)):
            found = in_child(
                RUNS,
                "whole",
                environment=os.environ | {"PYTHONPATH": f"{root.absolute()}{os.pathsep}{here}"},
                settings=settings,
                output=str(folder / f"{name}-{number}"),
            )
            seconds[name].append(found["seconds"])
    return {**seconds, "ratio": statistics.median(seconds["other"]) / statistics.median(
        seconds["this"]
    )}  # fmt: skip


def _speedup(measured: dict[str, Any], engine: str) -> float:
    one, two = (
        next(r["rows_a_second"] for r in measured["rates"] if (r["engine"], r["workers"]) == case)
        for case in ((engine, 1), (engine, 2))
    )
    return two / one


def judge(measured: dict[str, Any]) -> list[Target]:
    targets = [
        Target(f"{engine}: 2 workers, times 1", _speedup(measured, engine), 1.6, "", at_least=True)
        for engine in (LOCAL, RAY)
    ]
    if "against" in measured:
        ratio = measured["against"]["ratio"]
        targets.append(Target("times as quick as the other", ratio, 1.5, "", at_least=True))
    return targets


def show(options: argparse.Namespace, measured: dict[str, Any], targets: list[Target]) -> None:
    title = f"{options.rows:,} x {options.dim}, {options.clusters:,} clusters"
    rows = [[name, found["us_a_row"]] for name, found in measured["stages"].items()]
    print_table(f"{title}: processor time", ["stage", "µs a row"], rows)
    rates = [[f"{r['engine']}, {r['workers']}", r["rows_a_second"]] for r in measured["rates"]]
    print_table(f"{title}: rate", ["engine, workers", "rows a second"], rates, digits=0)
    print(f"a task of Ray's that does nothing: {measured['overhead_ms']:.2f} ms")
    print_targets(targets)


if __name__ == "__main__":
    sys.exit(main())
