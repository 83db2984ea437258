"""How long a number of clusters takes: what `suggest-clusters` predicts, and what it takes.

    python -m benchmarks.clusters --rows 50000 --dim 256 --json benchmarks/results/clusters.json

Each turn predicts once, in a process of its own as a user would, and then runs the stages up to
the histogram with each number of clusters, so that a busy machine is busy for both.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.child import ChildFailedError, in_child
from benchmarks.machine import describe
from benchmarks.options import common_parser, work_folder
from benchmarks.output import Target, show_table, show_targets, write_json

CLUSTERS = (1, 5, 20, 100, 500)
WITHIN = 2.0  # times too long or too short


def main() -> int:
    parser = common_parser(__doc__.splitlines()[0], clusters=CLUSTERS)
    parser.set_defaults(rows=50_000, dim=256)
    parser.add_argument("--centres", type=int, default=200, help="groups that the data has")
    parser.add_argument("--repeat", type=int, default=3, help="turns; medians are shown")
    parser.add_argument(
        "--one-thread",
        action="store_true",
        help="linear algebra on one thread, which others on the machine disturb less",
    )
    options = parser.parse_args()
    console = Console()
    try:
        with work_folder(options) as folder:
            data, turns = measure(options, folder, console)
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    results = [summary(turns, clusters) for clusters in options.clusters]
    targets = judge(results)
    show(console, data, results, targets)
    if options.json is not None:
        write_json(options.json, document(options, data, turns, results, targets))
    return 0


def measure(
    options: argparse.Namespace, folder: Path, console: Console
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Make data; then in each turn a prediction and a run for each number of clusters."""
    shape = {"rows": options.rows, "dim": options.dim, "centres": options.centres}
    with console.status("making data"):
        data = in_child(
            "benchmarks.data", "make_data", folder=str(folder / "input"), seed=options.seed, **shape
        )
    turns = []
    for turn in range(max(1, options.repeat)):
        settings = {
            "input_embeddings_path": str(folder / "input"),
            "device": options.device,
            "output_path": str(folder / "none"),
            "n_clusters": 1,
        }
        with console.status(f"turn {turn}: predicting"):
            found = in_child(
                "benchmarks.clusters",
                "predict_times",
                threads=1 if options.one_thread else None,
                settings=settings,
                clusters=list(options.clusters),
            )
        found["taken"] = {}
        for clusters in options.clusters:
            settings |= {"output_path": str(folder / f"{turn}-{clusters}"), "n_clusters": clusters}
            with console.status(f"turn {turn}: running with {clusters:,} clusters"):
                taken = in_child(
                    "benchmarks.clusters",
                    "time_stages",
                    threads=1 if options.one_thread else None,
                    settings=settings,
                )
            found["taken"][str(clusters)] = taken
        turns.append(found)
    return data, turns


def predict_times(settings: dict[str, Any], clusters: list[int]) -> dict[str, Any]:
    """What the command would predict, in seconds by number of clusters."""
    from dataclasses import asdict

    from dedup_assets.compute.cost import predict
    from dedup_assets.settings import Settings
    from dedup_assets.stages import suggestion

    parsed = Settings.of(**settings)
    measured = suggestion.measure(parsed, suggestion.survey(parsed))
    work = suggestion.workload(parsed, measured)
    predicted = {str(k): predict(work, measured.rates, k).total for k in clusters}
    return {
        "predicted": predicted,
        "rates": asdict(measured.rates),
        "measured_in_s": measured.seconds,
    }


def time_stages(settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a run up to the histogram."""
    import dedup_assets.stages.plot  # noqa: F401  (imported late by the product; no clock counts it)
    from benchmarks.stages import Stopwatch, call_stages
    from dedup_assets.settings import Settings

    parsed = Settings.of(**settings)
    watch = Stopwatch()
    call_stages(parsed, watch)
    return {"seconds": sum(watch.wall.values())}


def summary(turns: list[dict[str, Any]], clusters: int) -> dict[str, Any]:
    """Medians over the turns: seconds predicted and taken, and how they compare."""
    key = str(clusters)
    predicted = [turn["predicted"][key] for turn in turns]
    taken = [turn["taken"][key]["seconds"] for turn in turns]
    ratios = [p / t for p, t in zip(predicted, taken, strict=True)]
    return {
        "clusters": clusters,
        "predicted_s": statistics.median(predicted),
        "taken_s": statistics.median(taken),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def judge(results: list[dict[str, Any]]) -> list[Target]:
    def off(result: dict[str, Any]) -> float:
        return max(result["ratio"], 1 / result["ratio"])

    return [
        Target(f"off by, with {result['clusters']:,} clusters", off(result), WITHIN, "times")
        for result in results
    ]


def document(
    options: argparse.Namespace,
    data: dict[str, Any],
    turns: list[dict[str, Any]],
    results: list[dict[str, Any]],
    targets: list[Target],
) -> dict[str, Any]:
    """What goes into the JSON; no path is among the parameters."""
    names = ("rows", "dim", "clusters", "centres", "device", "seed", "repeat", "one_thread")
    return {
        "benchmark": "clusters",
        **describe("numpy", "pyarrow"),
        "parameters": {name: getattr(options, name) for name in names},
        "targets": [target.as_dict() for target in targets],
        "summary": results,
        "data": data,
        "raw": [{**turn, "rates": precise(turn["rates"])} for turn in turns],
    }


def precise(rates: Any) -> Any:
    """The rates as text: some are nanoseconds, which rounding to decimals would make zero."""
    if isinstance(rates, dict):
        return {name: precise(value) for name, value in rates.items()}
    if isinstance(rates, list):
        return [precise(value) for value in rates]
    return f"{rates:.3g}" if isinstance(rates, float) else rates


def show(
    console: Console, data: dict[str, Any], results: list[dict[str, Any]], targets: list[Target]
) -> None:
    """Print the tables."""
    rows = [
        [
            f"{result['clusters']:,}",
            f"{result['predicted_s']:.2f}",
            f"{result['taken_s']:.2f}",
            f"{result['ratio']:.2f}",
            f"{min(result['ratios']):.2f} to {max(result['ratios']):.2f}",
        ]
        for result in results
    ]
    show_table(
        console,
        f"{data['rows']:,} x {data['dim']}: medians",
        ["clusters", "predicted, s", "taken, s", "predicted / taken", "range"],
        rows,
    )
    show_targets(console, targets)


if __name__ == "__main__":
    sys.exit(main())
