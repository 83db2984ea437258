"""What Dagster costs around the work: loading definitions, launching runs, showing partitions.

    python -m benchmarks.dagster --json benchmarks/results/dagster.json

Runs are launched as the UI launches them, on an instance on disk, by a code server that starts a
process for each, and take from the launch to their end in the instance; so starting the process,
its imports and loading the code location count. The scores are finished before. "Functions" are
those that the assets and checks call, in a process that has imported them. Launches of one kind
take turns, and the first round does not count; every ratio is the median of those of the rounds.
Loads have no such first round. Queries of statuses are not in turns.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.child import ChildFailedError, in_child
from benchmarks.dagster_table import (
    IN_PROCESS,
    MULTIPROCESS,
    load_rows,
    run_rows,
    status_rows,
)
from benchmarks.machine import describe
from benchmarks.options import add_rounds, common_parser, work_folder
from benchmarks.output import print_table, write_json

LOADS: tuple[tuple[int, int | None], ...] = (
    *((10, None), (1_000, None), (50_000, None)),
    *((1_000, 1), (50_000, 1)),
)
"""Clusters, and clusters of a partition key (None: the default). The first one is the base."""

EXECUTORS = (IN_PROCESS, MULTIPROCESS)
WARM_UPS = 1
EPS_REGISTERED, EPS_MADE = 1_000, 20
FIRST_EPS = 0.01


def main() -> int:
    parser = common_parser(__doc__.splitlines()[0])
    parser.set_defaults(dim=64)
    add_rounds(parser)
    options = parser.parse_args()
    try:
        loads = measure_loads(options.rounds)
        with work_folder(options) as folder:
            measured = measure_runs(options, folder)
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    rows = [*load_rows(loads), *run_rows(measured["runs"]), *status_rows(measured["statuses"])]
    show(options, rows)
    if options.json is not None:
        document = {
            "benchmark": "dagster",
            **describe("dagster", "dagster-graphql", "numpy", "pyarrow", "polars"),
            "parameters": {
                **{name: getattr(options, name) for name in ("rows", "dim", "clusters", "rounds")},
                "eps_registered": EPS_REGISTERED,
                "eps_made": EPS_MADE,
            },
            "table": rows,
            "raw": {"loads": loads, **measured},
        }
        write_json(options.json, document)
    return 0


def measure_loads(rounds: int) -> list[dict[str, Any]]:
    """What each size takes to load, in turns, a process each time."""
    found: list[list[dict[str, Any]]] = [[] for _ in LOADS]
    for number in range(rounds):
        note(f"loading definitions, round {number + 1}")
        for runs, (clusters, per_key) in zip(found, LOADS, strict=True):
            runs.append(
                in_child(
                    *("benchmarks.dagster_loads", "load"),
                    clusters=clusters,
                    clusters_per_partition=per_key,
                )
            )
    return [
        {"clusters": clusters, "rounds": runs}
        for (clusters, _), runs in zip(LOADS, found, strict=True)
    ]


def measure_runs(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make an output with finished scores, and launch runs over it."""
    note("making scores")
    in_child(
        *("benchmarks.data", "make_data"),
        folder=str(folder / "input"),
        rows=options.rows,
        dim=options.dim,
        centres=options.clusters,
        seed=options.seed,
    )
    output = str((folder / "output").absolute())
    settings = {
        "input_embeddings_path": str((folder / "input").absolute()),
        "output_path": output,
        "n_clusters": options.clusters,
        "device": options.device,
        "eps_thresholds": [FIRST_EPS],
    }
    in_child("benchmarks.graph_runs", "graph", settings=settings)
    note("launching runs")
    return in_child(
        *("benchmarks.dagster_runs", "measure"),
        output=output,
        homes=str(folder / "homes"),
        warm_ups=WARM_UPS,
        rounds=options.rounds,
        executors=EXECUTORS,
        eps_registered=EPS_REGISTERED,
        eps_made=EPS_MADE,
    )


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    columns = ["", "s", "base", "/ base", "lowest", "highest"]
    names = ["what", "s", "base", "ratio", "lowest", "highest"]
    names += ["until_start_s", "in_steps_s", "steps", "sent_mib"]
    columns += ["until start, s", "in steps, s", "steps", "MiB"]
    title = f"{options.rows:,} x {options.dim}, {options.clusters:,} clusters"
    print_table(title, columns, [[line.get(name) for name in names] for line in rows])


if __name__ == "__main__":
    sys.exit(main())
