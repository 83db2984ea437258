"""What a run costs that finds most of its work done: opened files, requests and time.

    python -m benchmarks.increments --json benchmarks/results/increments.json

The command itself runs, as a process, over one output: at first, with one more eps, with nothing
to do, and with new rows; and over a second output without the sample for what clustering misses.
Ratios are to the first run of the same output, both without the time that ``import dagster``
takes, which a process of its own measures before each run. The files that are counted are Parquet
files of the output. Runs with new rows ask for the one eps of the first run.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.child import ChildFailedError
from benchmarks.increment_runs import (
    ALL,
    EPS,
    FIRST,
    NOTHING,
    SOME,
    WITHOUT_SAMPLE,
    Runs,
    Shape,
    s3_server,
)
from benchmarks.machine import describe
from benchmarks.options import common_parser, positive, work_folder
from benchmarks.output import Target, print_table, print_targets, write_json

SMALL = {"rows": 20_000, "dim": 64, "clusters": 100}
LARGE = {"rows": 1_000_000, "dim": 768, "clusters": 1_000}
FEW_CLUSTERS, MANY_CLUSTERS = 1_000, 50_000
FEWEST_FOR_REQUESTS = 20


def main() -> int:
    parser = common_parser(__doc__.splitlines()[0])
    parser.set_defaults(**LARGE)
    parser.add_argument("--small", action="store_true", help=f"a quick look: {SMALL}")
    parser.add_argument(
        "--clusters-per-partition", type=positive, help="clusters of a partition key"
    )
    parser.add_argument("--max-iter", type=positive, help="most iterations of k-means")
    parser.add_argument("--no-new-rows", action="store_true", help="leave out runs with new rows")
    parser.add_argument("--s3", action="store_true", help="output in an S3 server on loopback")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="a cProfile of each run")
    if parser.parse_args().small:
        parser.set_defaults(**SMALL)
    options = parser.parse_args()
    try:
        with work_folder(options) as folder, s3_server(options.s3) as endpoint:
            runs = Runs(shape_of(options), folder, endpoint)
            for name in runs.measure():
                print(f"{name}: {runs.done[name]['wall_s']:.1f} s", file=sys.stderr, flush=True)
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    measured = runs.results()
    summary = summarise(measured["runs"])
    targets = judge(summary, options.clusters, s3=options.s3)
    show(measured, summary, targets)
    if options.json is not None:
        document = {
            "benchmark": "increments",
            **describe("dagster", "numpy", "pyarrow"),
            "parameters": measured["shape"],
            "targets": [target.as_dict() for target in targets],
            "summary": summary,
            "raw": measured,
        }
        write_json(options.json, document)
    return 0


def shape_of(options: argparse.Namespace) -> Shape:
    profile = None
    if options.profile is not None:
        options.profile.mkdir(parents=True, exist_ok=True)
        profile = str(options.profile.absolute())
    return Shape(
        rows=options.rows,
        dim=options.dim,
        clusters=options.clusters,
        clusters_per_partition=options.clusters_per_partition,
        max_iter=options.max_iter,
        seed=options.seed,
        device=options.device,
        new_rows=not options.no_new_rows,
        s3=options.s3,
        profile=profile,
    )


def summarise(runs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each run its numbers, and its time as a share of the first run of the same output."""
    summary: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        first = runs[FIRST + (WITHOUT_SAMPLE if name.endswith(WITHOUT_SAMPLE) else "")]
        besides = run["wall_s"] - run["import_s"]
        summary[name] = {
            "wall_s": run["wall_s"],
            "besides_import_s": besides,
            "processor_s": run["processor_s"],
            "share_of_first": besides / (first["wall_s"] - first["import_s"]),
            "parquet_read": run["parquet_read"],
            "parquet_written": run["parquet_written"],
            "parquet_opened": run["parquet_read"] + run["parquet_written"],
            "lists_written": _lists(run["written_by_folder"]),
            "requests": sum(run["requests"].values()),
            "peak_mib": run["peak_mib"],
            "new": run["new"],
        }
    return summary


def _lists(written: dict[str, int]) -> int:
    """Part files of lists among what was written."""
    return sum(n for folder, n in written.items() if "unique_ids_" in folder)


def judge(summary: dict[str, dict[str, Any]], clusters: int, *, s3: bool) -> list[Target]:
    """The targets that apply to what was measured. Those of the times are for the full size."""
    targets = []

    def at_most(name: str, what: str, number: str, limit: float, unit: str, scale: float = 1):
        if name in summary:
            value = scale * summary[name][number]
            targets.append(Target(f"{name}: {what}", value, limit, unit))

    def share(name: str, limit: float) -> None:
        at_most(name, "time, of the first run's", "share_of_first", limit, "%", 100)

    if s3:
        if clusters <= FEWEST_FOR_REQUESTS:
            at_most(EPS, "requests", "requests", 250, "")
        at_most(NOTHING, "requests", "requests", 900, "")
        return targets
    at_most(EPS, "part files written", "lists_written", clusters, "")
    if clusters <= FEW_CLUSTERS:
        at_most(EPS, "Parquet files opened", "parquet_opened", 1500, "")
        at_most(NOTHING, "Parquet files opened", "parquet_opened", 300, "")
    if clusters >= MANY_CLUSTERS:
        at_most(EPS, "time", "wall_s", 45, "s")
        at_most(NOTHING, "time", "wall_s", 10, "s")
        return targets
    share(EPS, 5)
    share(NOTHING, 3)
    share(ALL, 25)
    share(SOME, 20)
    share(SOME + WITHOUT_SAMPLE, 8)
    return targets


def show(
    measured: dict[str, Any], summary: dict[str, dict[str, Any]], targets: list[Target]
) -> None:
    """Print the tables."""
    shape = measured["shape"]
    columns = [
        *("", "seconds", "besides import", "processor", "/ first"),
        *("read", "written", "requests", "peak MiB"),
        *("new files", "new rows", "clusters"),
    ]
    rows = [
        [
            name,
            run["wall_s"],
            run["besides_import_s"],
            run["processor_s"],
            run["share_of_first"],
            run["parquet_read"],
            run["parquet_written"],
            run["requests"],
            round(run["peak_mib"] or 0),
            *(run["new"].get(what) for what in ("files", "rows", "clusters")),
        ]
        for name, run in summary.items()
    ]
    title = f"{shape['rows']:,} x {shape['dim']}, {shape['clusters']:,} clusters"
    print_table(f"{title}{', output on S3' if shape['s3'] else ''}", columns, rows)
    print_targets(targets)


if __name__ == "__main__":
    sys.exit(main())
