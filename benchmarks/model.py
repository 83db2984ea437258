"""A model of what a run costs: fitted to small runs, checked on others, and what it says of large.

    python -m benchmarks.model --json benchmarks/results/model.json
    python -m benchmarks.model --check-rows 1000000
    python -m benchmarks.model --rates benchmarks/results/model.json --storage-gbs 4

Each small run is predicted from the others, which the model has to get right within 1.5 times, and
so is one that is much larger if ``--check-rows`` asks for it. Processor time is that of the stage
functions in one process, without Dagster. Predictions for machines with GPUs are arithmetic, not
measurements: the host's share of a row is the one measured here, the rates of a GPU and of the
storage are options. ``--rates`` takes the host's share from an earlier run and measures nothing.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.child import ChildFailedError, in_child
from benchmarks.cost_terms import (
    OPERATION,
    SAMPLED,
    TERMS,
    Rates,
    Shape,
    bytes_moved,
    files,
    fit,
    operations,
    requests,
    seconds,
)
from benchmarks.machine import describe
from benchmarks.options import common_parser, positive, work_folder
from benchmarks.output import Target, print_table, print_targets, write_json

RUNS = (  # rows, dimensions, clusters, rows of the sample for what clustering misses
    (50_000, 768, 50, 2_000),
    (50_000, 768, 400, 500),
    (100_000, 256, 100, 500),
    (100_000, 256, 1_000, 2_000),
    (100_000, 768, 100, 500),
    (100_000, 768, 1_000, 2_000),
    (200_000, 256, 400, 4_000),
    (200_000, 768, 200, 2_000),
)
LARGE = ((10**8, 10_000, 8), (10**8, 10_000, 32), (10**9, 50_000, 8), (10**9, 50_000, 32))
"""Rows, clusters and GPUs of the predictions."""

WITHIN = 1.5
EVENT_S = 0.038  # of a materialization on SQLite: docs/performance.md
KEYS = 128


def main() -> int:
    parser = common_parser(__doc__.splitlines()[0])
    parser.add_argument("--check-rows", type=positive, help="rows of one more, larger run")
    parser.add_argument("--check-clusters", type=positive, default=1_000, help="its clusters")
    parser.add_argument("--gpu-tflops", type=float, default=200, help="of a GPU, in float16")
    parser.add_argument("--gpu-cores", type=positive, default=16, help="processors beside a GPU")
    parser.add_argument("--storage-gbs", type=float, default=1, help="GB/s of the store for a GPU")
    parser.add_argument("--rates", type=Path, metavar="FILE", help="results of an earlier run")
    options = parser.parse_args()
    if options.rates is not None:
        earlier = json.loads(options.rates.read_text())
        rates = {s: {t: float(v) for t, v in of.items()} for s, of in earlier["rates"].items()}
        show_predictions(
            options, [predict(options, rates, earlier["efficiency"], *large) for large in LARGE]
        )
        return 0
    shapes = [Shape(*run) for run in RUNS]
    if options.check_rows:
        large = (options.check_rows, options.dim, options.check_clusters)
        shapes.append(Shape(*large))
    try:
        with work_folder(options) as folder:
            measured = [measure(options, folder, shape) for shape in shapes]
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    small = list(zip(shapes, measured, strict=True))[: len(RUNS)]
    checked = check(shapes, measured, small)
    rates = fit([(shape, run["processor"]) for shape, run in small])
    cores = describe()["machine"]["cores"]
    busy = efficiency(measured, cores)
    predictions = [predict(options, rates, busy, *large) for large in LARGE]
    targets = judge(checked, busy * cores)
    show(checked, rates)
    show_predictions(options, predictions)
    print_targets(targets)
    if options.json is not None:
        names = ("gpu_tflops", "gpu_cores", "storage_gbs")
        document = {
            "benchmark": "model",
            **describe("numpy", "pyarrow"),
            "parameters": {name: getattr(options, name) for name in names},
            "targets": [target.as_dict() for target in targets],
            "runs": checked,
            "rates": {s: {t: f"{v:.3g}" for t, v in terms.items()} for s, terms in rates.items()},
            "efficiency": busy,
            "predictions": predictions,
        }
        write_json(options.json, document)
    return 0


def measure(options: argparse.Namespace, folder: Path, shape: Shape) -> dict[str, Any]:
    """Processor and wall seconds of each stage."""
    data, output = folder / "input", folder / "output"
    size = {"rows": shape.rows, "dim": shape.dim, "centres": shape.clusters}
    for old in (data, output):
        in_child("benchmarks.model", "clear", folder=str(old))
    in_child("benchmarks.data", "make_data", folder=str(data), seed=options.seed, **size)
    settings = {
        "input_embeddings_path": str(data),
        "n_clusters": shape.clusters,
        "missed_sample": shape.missed,
        "device": options.device,
        "eps_thresholds": ["0.01"],
    }
    return in_child("benchmarks.engine_runs", "stages", settings=settings, output=str(output))


def clear(folder: str) -> dict[str, Any]:
    """Delete a folder."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    return {}


def check(
    shapes: list[Shape], measured: list[dict[str, Any]], small: list[tuple[Shape, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Each run predicted from the small ones without it."""
    checked = []
    for shape, run in zip(shapes, measured, strict=True):
        rates = fit([(s, r["processor"]) for s, r in small if s is not shape])
        predicted = {stage: seconds(rates, shape, stage) for stage in TERMS}
        checked.append(
            {
                "shape": asdict(shape),
                "predicted_s": sum(predicted.values()),
                "taken_s": sum(run["processor"].values()),
                "wall_s": sum(run["wall"].values()),
                "stages": {
                    stage: {"predicted_s": predicted[stage], "taken_s": run["processor"][stage]}
                    for stage in TERMS
                },
            }
        )
    return checked


def efficiency(measured: list[dict[str, Any]], cores: int) -> float:
    """The share of the processors that stages keep busy."""
    taken = sum(sum(run["processor"].values()) for run in measured)
    return taken / (cores * sum(sum(run["wall"].values()) for run in measured))


def predict(
    options: argparse.Namespace, rates: Rates, busy: float, rows: int, clusters: int, gpus: int
) -> dict[str, Any]:
    """Seconds of each stage with GPUs, by what holds it up: host, arithmetic or storage."""
    shape = Shape(rows, options.dim, clusters)
    stages = {}
    for stage in TERMS:
        devices = 1 if stage == "centroids" else gpus  # one fit stays on one device
        # What is drawn from the sample is read by the task that fits.
        sampled = seconds(rates, shape, stage, *(set(TERMS[stage]) - {SAMPLED}))
        host = seconds(rates, shape, stage, OPERATION, SAMPLED) / gpus + sampled
        bound = {
            "host": host / (options.gpu_cores * busy),
            "GPU": operations(shape, stage) / (devices * options.gpu_tflops * 1e12),
            "storage": bytes_moved(shape, stage) / (devices * options.storage_gbs * 1e9),
        }
        by = max(bound, key=lambda name: bound[name])
        stages[stage] = {"s": bound[by], "by": by}
    events = 2 * KEYS * EVENT_S
    total = sum(stage["s"] for stage in stages.values()) + events
    return {
        "rows": rows,
        "clusters": clusters,
        "gpus": gpus,
        "stages": stages,
        "dagster_s": events,
        "s": total,
        "rows_a_second_a_gpu": rows / total / gpus,
        "files": files(shape),
        "requests": requests(shape),
        "moved_tb": sum(bytes_moved(shape, stage) for stage in TERMS) / 1e12,
    }


def judge(checked: list[dict[str, Any]], processors: float) -> list[Target]:
    """``processors``: how many a run keeps busy."""

    def off(predicted: float, taken: float) -> float:
        return max(predicted / taken, taken / predicted)

    processor = max(off(run["predicted_s"], run["taken_s"]) for run in checked)
    wall = max(off(run["predicted_s"] / processors, run["wall_s"]) for run in checked)
    return [
        Target("processor time of a run, off by at most", processor, WITHIN, "times"),
        Target("its time, off by at most", wall, WITHIN, "times"),
    ]


def show(checked: list[dict[str, Any]], rates: Rates) -> None:
    rows = [
        [_name(r["shape"]), r["predicted_s"], r["taken_s"], r["predicted_s"] / r["taken_s"]]
        for r in checked
    ]
    columns = ["run", "predicted, s", "taken, s", "ratio"]
    print_table("Processor time, each run predicted from the others", columns, rows)
    rows = [[stage, term, f"{rates[stage][term]:.3g}"] for stage in rates for term in rates[stage]]
    print_table("Processor seconds of one", ["stage", "term", "s"], rows)


def show_predictions(options: argparse.Namespace, predictions: list[dict[str, Any]]) -> None:
    for found in predictions:
        size = f"{found['rows']:,} x {options.dim}, {found['clusters']:,} clusters"
        lines = [[stage, f"{of['s']:,.0f}", of["by"]] for stage, of in found["stages"].items()]
        lines.append(["Dagster", f"{found['dagster_s']:,.0f}", "events"])
        title = f"{size}, {found['gpus']} GPUs: predicted"
        print_table(title, ["stage", "s", "held up by"], lines)
        print(
            f"in all {found['s']:,.0f} s, {found['rows_a_second_a_gpu']:,.0f} rows/s a GPU, "
            f"{found['files']:,} files, {found['requests']:,} requests, "
            f"{found['moved_tb']:,.1f} TB moved"
        )


def _name(shape: dict[str, Any]) -> str:
    return f"{shape['rows']:,} x {shape['dim']}, {shape['clusters']:,} clusters"


if __name__ == "__main__":
    sys.exit(main())
