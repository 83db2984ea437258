"""The whole graph on a GPU machine: seconds of each step, and how busy the GPU was.

    python -m benchmarks.gpu_end_to_end --rows 1000000 --json gpu_end_to_end.json

One run as ``dedup-assets run`` does it, over Parquet files that are made before. The busy share is
the mean of what ``nvidia-smi`` says five times a second; without it, and with ``--device cpu``, it
is not known.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.child import ChildFailedError, in_child
from benchmarks.machine import describe
from benchmarks.options import common_parser, work_folder
from benchmarks.output import print_table, write_json

_SMI = "nvidia-smi"
_QUERY = ("--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "200")


def main() -> int:
    parser = common_parser(__doc__.splitlines()[0])
    options = parser.parse_args()
    try:
        with work_folder(options) as folder:
            data = in_child(
                "benchmarks.data",
                "make_data",
                folder=str(folder / "input"),
                rows=options.rows,
                dim=options.dim,
                centres=options.clusters,
                seed=options.seed,
            )
            settings = {
                "dataset": "benchmark",
                "input_embeddings_path": str(folder / "input"),
                "output_path": str(folder / "output"),
                "n_clusters": options.clusters,
                "eps_thresholds": ["0.01"],
                "device": options.device,
            }
            with watching(options.device) as seen:
                found = in_child("benchmarks.graph_runs", "graph", settings=settings)
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    busy = summary(seen)
    steps = [[name, seconds] for name, seconds in found["step_s"].items()]
    title = f"{options.rows:,} x {options.dim}, {options.clusters:,} clusters"
    print_table(title, ["step", "seconds"], [*steps, ["in all", found["wall_s"]]])
    rate = options.rows / found["wall_s"]
    print(f"\n{rate:,.0f} rows a second, {found['peak_mib']:,.0f} MiB")
    print(f"GPU: {busy or 'not watched'}")
    if options.json is not None:
        document = {
            "benchmark": "gpu_end_to_end",
            **describe("dagster", "polars", "pyarrow", "cupy-cuda12x", "cupy-cuda13x"),
            "data": data,
            "run": found,
            "rows_a_second": rate,
            "gpu": busy,
        }
        write_json(options.json, document)
    return 0


@contextmanager
def watching(device: str) -> Iterator[list[tuple[float, float]]]:
    """What the first GPU says meanwhile: percent busy and MiB taken; empty if nobody says it."""
    seen: list[tuple[float, float]] = []
    if device == "cpu" or shutil.which(_SMI) is None:
        yield seen
        return
    with tempfile.TemporaryFile("w+") as file:
        with subprocess.Popen([_SMI, "-i", "0", *_QUERY], stdout=file) as smi:
            try:
                yield seen
            finally:
                smi.terminate()
        file.seek(0)
        seen += [reading for line in file if (reading := read_line(line))]


def read_line(line: str) -> tuple[float, float] | None:
    """A line of ``nvidia-smi``; None where it says that it does not know, or was cut off."""
    try:
        busy, taken = (float(part) for part in line.split(","))
    except ValueError:
        return None
    return busy, taken


def summary(seen: list[tuple[float, float]]) -> dict[str, Any] | None:
    if not seen:
        return None
    busy, taken = zip(*seen, strict=True)
    return {
        "busy_percent": statistics.fmean(busy),
        "readings": len(seen),
        "most_mib": max(taken),
    }


if __name__ == "__main__":
    sys.exit(main())
