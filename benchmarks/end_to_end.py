"""The whole graph at full size: Dagster's share of the time, peak memory, events.

    python -m benchmarks.end_to_end --json benchmarks/results/end_to_end.json

Three processes are compared: the graph as ``dedup-assets run`` runs it, its stage functions called
directly, and an empty graph with the same assets, keys and events. Dagster's cost is the first
minus the second. At full size the times of both vary by more than that difference on a busy
machine, so the three also run several times in turn on little data with the same number of keys
(linear algebra on one thread there), where the cost is the same and the rest is small. And it is
measured a third way, inside the full run: the time that no stage function accounts for.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.child import ChildFailedError, in_child
from benchmarks.machine import describe
from benchmarks.options import common_parser, work_folder
from benchmarks.output import Target, show_table, show_targets, write_json
from benchmarks.rounds import uncertainty

COST_RATIO = 1.3
PEAK_MIB = 2048.0
LONGEST_S = 840.0  # no further round at full size that would end later
RUNS = "benchmarks.graph_runs"


def main() -> int:
    parser = common_parser(__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, help="runs of what is cheap; small: twice")
    parser.add_argument("--small-rows", type=int, default=5_000, help="rows of the small data")
    parser.add_argument("--small-dim", type=int, default=64, help="dimension of the small data")
    parser.add_argument("--eps", nargs="+", default=["0.01"], help="thresholds; first is extracted")
    parser.add_argument("--profile", action="store_true", help="cProfile into the kept folder")
    options = parser.parse_args()
    console = Console()
    try:
        with work_folder(options) as folder:
            measured = measure(options, folder, console)
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    targets = judge(measured)
    show(console, options, measured, targets)
    if options.json is not None:
        write_json(options.json, document(options, measured, targets))
    return 0


def measure(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """Run everything; raw numbers by size and kind, a list of runs each."""
    started = time.monotonic()
    full = Bench(options, folder / "full", (options.rows, options.dim), console)
    small = Bench(
        options, folder / "small", (options.small_rows, options.small_dim), console, one_thread=True
    )
    repeat = max(1, options.repeat)
    for turn in range(2 * repeat):
        small.round(["graph", "functions", "empty", "bare"], turn)
    for turn in range(repeat):
        before = time.monotonic()
        full.round(["graph", "functions", "empty"], turn)
        now = time.monotonic()
        if now - started + (now - before) > LONGEST_S:
            break
    return {"full": full.results(), "small": small.results()}


class Bench:
    """Runs over one data set, each into a folder of its own."""

    def __init__(
        self,
        options: argparse.Namespace,
        folder: Path,
        shape: tuple[int, int],
        console: Console,
        one_thread: bool = False,
    ) -> None:
        rows, dim = shape
        self._options = options
        self._folder = folder
        self._console = console
        self._one_thread = one_thread
        self._label = f"{rows:,} x {dim}"
        folder.mkdir()
        with console.status(f"{self._label}: making data"):
            self.data = in_child(
                "benchmarks.data",
                "make_data",
                folder=str(folder / "input"),
                rows=rows,
                dim=dim,
                centres=options.clusters,
                seed=options.seed,
            )
        self.runs: dict[str, list[dict[str, Any]]] = {}

    def round(self, kinds: list[str], turn: int) -> None:
        """Run each kind once, starting with another one each turn."""
        first = turn % len(kinds)
        for kind in [*kinds[first:], *kinds[:first]]:
            self.run(kind)

    def run(self, kind: str) -> None:
        """``graph``, ``functions``, ``empty``, or ``bare``: empty without metadata."""
        done = self.runs.setdefault(kind, [])
        name = f"{kind}-{len(done)}"
        arguments: dict[str, Any] = {"settings": self._settings(name)}
        if self._options.profile:
            arguments["profile"] = str(self._folder / f"{name}.prof")
        if kind == "bare":
            arguments["metadata"] = False
        with self._console.status(f"{self._label}: {name}"):
            function = "empty" if kind == "bare" else kind
            done.append(
                in_child(RUNS, function, threads=1 if self._one_thread else None, **arguments)
            )
        self._console.print(f"{self._label}: {name} took {done[-1]['wall_s']:.1f} s")

    def results(self) -> dict[str, Any]:
        return {"data": self.data, "one_thread": self._one_thread, "runs": self.runs}

    def _settings(self, name: str) -> dict[str, Any]:
        return {
            "dataset": "benchmark",
            "input_embeddings_path": str(self._folder / "input"),
            "output_path": str(self._folder / name),
            "n_clusters": self._options.clusters,
            "eps_thresholds": self._options.eps,
            "eps_to_extract": self._options.eps[0],
            "device": self._options.device,
        }


def median(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def costs(size: dict[str, Any]) -> dict[str, float]:
    """Medians of one size: the times, Dagster's cost two ways, the ratios and their noise."""
    runs = size["runs"]
    wall = {kind: median(of_kind, "wall_s") for kind, of_kind in runs.items()}
    differences = [
        g["wall_s"] - f["wall_s"] for g, f in zip(runs["graph"], runs["functions"], strict=True)
    ]
    cost = statistics.median(differences)
    direct = [f["wall_s"] for f in runs["functions"]]
    spread = max(direct) - min(direct)
    inside = median(runs["graph"], "dagster_inside_s")
    return {
        **{f"{kind}_s": seconds for kind, seconds in wall.items()},
        "dagster_s": cost,
        "functions_spread_s": spread,
        "dagster_inside_s": inside,
        "ratio": cost / wall["empty"],
        "ratio_noise": uncertainty(differences) / wall["empty"],
        "ratio_inside": inside / wall["empty"],
        "ratio_inside_noise": uncertainty([g["dagster_inside_s"] for g in runs["graph"]])
        / wall["empty"],
        "ratio_inside_processor": median(runs["graph"], "dagster_inside_processor_s")
        / median(runs["empty"], "processor_s"),
        "peak_graph_mib": max(run["peak_mib"] for run in runs["graph"]),
        "peak_functions_mib": max(run["peak_mib"] for run in runs["functions"]),
    }


def judge(measured: dict[str, Any]) -> list[Target]:
    full, small = costs(measured["full"]), costs(measured["small"])
    wrong = sum(
        abs(c["materializations"] - c["keys"]) + c["keys"] - c["keys_with_exactly_one"]
        for size in measured.values()
        for run in size["runs"]["graph"]
        for c in run["events"]["materializations"].values()
    )
    ratio = "x empty"
    return [
        Target("peak memory of the run", full["peak_graph_mib"], PEAK_MIB, "MiB"),
        Target(
            "Dagster's cost, small data", small["ratio"], COST_RATIO, ratio, small["ratio_noise"]
        ),
        Target("Dagster's cost, full size", full["ratio"], COST_RATIO, ratio, full["ratio_noise"]),
        Target(
            "Dagster's cost, inside full run",
            full["ratio_inside"],
            COST_RATIO,
            ratio,
            full["ratio_inside_noise"],
        ),
        Target("keys without exactly one materialization", wrong, 0, ""),
    ]


def same_result(size: dict[str, Any]) -> bool:
    """Whether every run of the graph and of the functions came to the same duplicates."""
    results = [run["result"] for kind in ("graph", "functions") for run in size["runs"][kind]]
    return all(result == results[0] for result in results)


def document(
    options: argparse.Namespace, measured: dict[str, Any], targets: list[Target]
) -> dict[str, Any]:
    """What goes into the JSON; no path is among the parameters."""
    names = ("rows", "dim", "clusters", "device", "seed", "repeat", "small_rows", "small_dim")
    return {
        "benchmark": "end_to_end",
        **describe("dagster", "numpy", "pyarrow"),
        "parameters": {**{name: getattr(options, name) for name in names}, "eps": options.eps},
        "targets": [target.as_dict() for target in targets],
        "summary": {
            name: {**costs(size), "same_result": same_result(size)}
            for name, size in measured.items()
        },
        "raw": measured,
    }


def show(
    console: Console,
    options: argparse.Namespace,
    measured: dict[str, Any],
    targets: list[Target],
) -> None:
    """Print the tables."""
    full, small = costs(measured["full"]), costs(measured["small"])
    lines = [
        ("the graph through Dagster", "graph_s"),
        ("its functions called directly", "functions_s"),
        ("their slowest minus their fastest run", "functions_spread_s"),
        ("Dagster's cost: the difference", "dagster_s"),
        ("Dagster's cost: inside the run", "dagster_inside_s"),
        ("an empty graph with the same keys", "empty_s"),
        ("the same without metadata", "bare_s"),
        ("cost / empty graph", "ratio"),
        ("cost inside the run / empty graph", "ratio_inside"),
        ("the same in processor time", "ratio_inside_processor"),
        ("peak memory of the graph, MiB", "peak_graph_mib"),
        ("peak memory of the functions, MiB", "peak_functions_mib"),
    ]
    sizes = [f"{d['rows']:,} x {d['dim']}" for d in (measured[s]["data"] for s in measured)]
    rows = [[text, full.get(name), small.get(name)] for text, name in lines]
    rows.append(["same duplicates in all runs", *(str(same_result(s)) for s in measured.values())])
    show_table(console, "Medians, seconds", ["", *sizes], rows)

    graph = measured["full"]["runs"]["graph"]
    direct = measured["full"]["runs"]["functions"]
    show_table(
        console,
        f"Stages at {sizes[0]}, {options.clusters:,} clusters: medians, seconds",
        ["stage", "in the graph", "called directly", "of that, processor time"],
        [
            [
                name,
                median([run["stage_s"] for run in graph], name),
                median([run["stage_s"] for run in direct], name),
                median([run["stage_processor_s"] for run in direct], name),
            ]
            for name in direct[0]["stage_s"]
        ],
    )
    show_table(
        console,
        "Materializations",
        ["asset", "keys", "events", "keys with exactly one"],
        [
            [name, c["keys"], c["materializations"], c["keys_with_exactly_one"]]
            for name, c in graph[0]["events"]["materializations"].items()
        ],
    )
    show_targets(console, targets)


if __name__ == "__main__":
    sys.exit(main())
