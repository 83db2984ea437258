"""The shuffle: against its floors, its peer and itself without threads; rates of the formats.

    python -m benchmarks.shuffle --rows 200_000 --scaling --json benchmarks/results/shuffle.json

What is compared runs in turn, each in a process of its own, and medians are shown: on a shared
machine only the ratios say something. The floors are what no shuffle of these rows gets below:
reading the input, writing as many bytes to as many files, and the float32 products that assign
the rows. The peer is what NeMo Curator does with a batch, Parquet partitioned by label, written by
Arrow from memory with the best options we know, on the same rows with the same labels.
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

RUNS, FORMATS = "benchmarks.shuffle_runs", "benchmarks.formats"
STAGES = ("embeddings", "centroids", "cluster_partitions", "pairwise_scores")
SIZES = [25_000, 50_000, 100_000, 200_000, 400_000]
ROWS_PER_CLUSTER = 1_000
PEAK_MIB, FLAT, NO_SLOWER = 2048.0, 1.5, 1.0
SLOW_MB_S = 100.0
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "shuffle": ("shuffle", {"background": True}),
    "without threads": ("shuffle", {"background": False}),
    "slow storage": ("shuffle", {"background": True, "storage_mb_s": SLOW_MB_S}),
    "slow storage, without threads": (
        "shuffle",
        {"background": False, "storage_mb_s": SLOW_MB_S},
    ),
    "labels given": ("shuffle", {"background": True, "labels": True}),
    "peer, by file group": ("peer", {"labels": True, "each_file": False}),
    "peer, by file": ("peer", {"labels": True, "each_file": True}),
}
"""What is compared: a function of `benchmarks.shuffle_runs` and its arguments."""


def main() -> int:
    parser = common_parser(__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, help="runs of each")
    parser.add_argument(
        "--format-rows", type=int, default=50_000, help="rows of the files of each format"
    )
    parser.add_argument(
        "--scaling",
        type=int,
        nargs="*",
        metavar="ROWS",
        help=f"also at these sizes, {ROWS_PER_CLUSTER:,} rows a cluster; none named: "
        f"{' '.join(map(str, SIZES))}",
    )
    options = parser.parse_args()
    console = Console()
    try:
        with work_folder(options) as folder:
            measured = measure(options, folder, console)
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    summary = summarise(measured)
    targets = judge(summary)
    show(console, options, measured, summary, targets)
    if options.json is not None:
        names = ("rows", "dim", "clusters", "device", "seed", "repeat", "format_rows", "scaling")
        document = {
            "benchmark": "shuffle",
            **describe("numpy", "pyarrow"),
            "parameters": {name: getattr(options, name) for name in names},
            "targets": [target.as_dict() for target in targets],
            "summary": summary,
            "raw": measured,
        }
        write_json(options.json, document)
    return 0


def measure(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """Run everything; raw numbers by kind, a list of runs each."""
    with console.status("rates of the formats"):
        shape = {"dim": options.dim, "repeat": options.repeat}
        rates = in_child(
            FORMATS, "read_rates", folder=str(folder / "read"), rows=options.format_rows, **shape
        )
        sizes = sorted({max(1, options.rows // options.clusters), 10_000})
        rates |= in_child(
            FORMATS,
            "fragment_rates",
            folder=str(folder / "fragments"),
            rows=options.format_rows,
            sizes=sizes,
            **shape,
        )
    size = Size(options, folder / "full", options.rows, options.clusters, console)
    peaks = {name: size.stage(name) for name in STAGES}
    assigned = size.assign()
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in KINDS}
    floors = []
    for turn in range(max(1, options.repeat)):
        names = list(KINDS)
        first = turn % len(names)
        for name in [*names[first:], *names[:first]]:
            runs[name].append(size.run(name))
        floors.append(size.floors(runs["shuffle"][0]))
    return {
        "data": size.data,
        "stages": peaks,
        "assign": assigned,
        "runs": runs,
        "floors": floors,
        **rates,
        "scaling": measure_scaling(options, folder, console),
    }


def measure_scaling(
    options: argparse.Namespace, folder: Path, console: Console
) -> list[dict[str, Any]]:
    """Runs of the shuffle and its floors at each size, in turn."""
    if options.scaling is None:
        return []
    sizes = [
        Size(options, folder / str(rows), rows, max(1, rows // ROWS_PER_CLUSTER), console)
        for rows in options.scaling or SIZES
    ]
    for size in sizes:
        for name in ("embeddings", "centroids"):
            size.stage(name)
    found: list[dict[str, Any]] = [
        {"rows": size.rows, "clusters": size.clusters, "runs": [], "floors": []} for size in sizes
    ]
    for turn in range(max(1, options.repeat)):
        for place in range(len(sizes)):
            number = (turn + place) % len(sizes)
            run = sizes[number].run("shuffle")
            found[number]["runs"].append(run)
            found[number]["floors"].append(sizes[number].floors(run))
    return found


class Size:
    """One data set, and what runs over it, each into a folder of its own."""

    def __init__(
        self, options: argparse.Namespace, folder: Path, rows: int, clusters: int, console: Console
    ) -> None:
        self.rows, self.clusters = rows, clusters
        self._folder, self._device, self._console = folder, options.device, console
        self._label = f"{rows:,} x {options.dim}"
        self._count = 0
        folder.mkdir()
        with console.status(f"{self._label}: making data"):
            self.data = in_child(
                "benchmarks.data",
                "make_data",
                folder=str(folder / "input"),
                rows=rows,
                dim=options.dim,
                centres=clusters,
                seed=options.seed,
            )

    def stage(self, name: str) -> dict[str, Any]:
        """A stage into the folder that holds what the other runs begin with."""
        with self._console.status(f"{self._label}: {name}"):
            return in_child(RUNS, "stage", settings=self._settings("prepared"), name=name)

    def assign(self) -> dict[str, Any]:
        with self._console.status(f"{self._label}: assigning rows"):
            return in_child(
                RUNS, "assign", settings=self._settings("prepared"), folder=self._labels
            )

    def run(self, name: str) -> dict[str, Any]:
        """One of `KINDS`."""
        function, arguments = KINDS[name]
        if "labels" in arguments:
            arguments = {**arguments, "labels": self._labels}
        with self._console.status(f"{self._label}: {name}"):
            done = in_child(
                RUNS,
                function,
                settings=self._settings(f"run-{self._count}"),
                prepared=str(self._folder / "prepared"),
                **arguments,
            )
        self._count += 1
        self._console.print(f"{self._label}: {name} took {done['wall_s']:.1f} s")
        return done

    def floors(self, like: dict[str, Any]) -> dict[str, Any]:
        """The floors of a shuffle that wrote as ``like`` did."""
        with self._console.status(f"{self._label}: floors"):
            return in_child(
                RUNS,
                "floors",
                settings=self._settings(f"floors-{self._count}"),
                prepared=str(self._folder / "prepared"),
                fragments=like["fragments"],
                fragment_bytes=like["fragment_bytes"],
            )

    @property
    def _labels(self) -> str:
        return str(self._folder / "labels")

    def _settings(self, output: str) -> dict[str, Any]:
        return {
            "dataset": "benchmark",
            "input_embeddings_path": str(self._folder / "input"),
            "output_path": str(self._folder / output),
            "n_clusters": self.clusters,
            "max_iter": 2,  # of no consequence for the shuffle
            "device": self._device,
        }


def summarise(measured: dict[str, Any]) -> dict[str, Any]:
    """Medians, and ratios of medians."""
    wall = {name: _median(runs, "wall_s") for name, runs in measured["runs"].items()}
    floors = {
        name: _median(measured["floors"], name)
        for name in ("read_s", "write_s", "copy_s", "memcpy_s", "product_s")
    }
    floor = _floor(measured["floors"])
    of_shuffle = measured["runs"]["shuffle"]
    digests = {
        run["digest"] for runs in measured["runs"].values() for run in runs if "digest" in run
    }
    scaling = [
        {
            "rows": size["rows"],
            "clusters": size["clusters"],
            "groups": size["runs"][0]["groups"],
            "fragments": size["runs"][0]["fragments"],
            "spilled_mib": size["runs"][0]["spilled_bytes"] / 2**20,
            "wall_us_row": 1e6 * _median(size["runs"], "wall_s") / size["rows"],
            "processor_us_row": 1e6 * _median(size["runs"], "processor_s") / size["rows"],
            "user_us_row": 1e6 * _median(size["runs"], "user_s") / size["rows"],
            "floor_us_row": 1e6 * _floor(size["floors"]) / size["rows"],
            "peak_mib": max(run["peak_mib"] for run in size["runs"]),
        }
        for size in measured["scaling"]
    ]
    return {
        "wall_s": wall,
        "fastest_s": {
            name: min(run["wall_s"] for run in runs) for name, runs in measured["runs"].items()
        },
        "processor_s": {
            name: _median(runs, "processor_s") for name, runs in measured["runs"].items()
        },
        "floors": {**floors, "floor_s": floor, "assign_s": measured["assign"]["assign_s"]},
        "shuffle_to_floor": wall["shuffle"] / floor,
        "threads_ratio": wall["shuffle"] / wall["without threads"],
        "threads_ratio_slow": wall["slow storage"] / wall["slow storage, without threads"],
        "peer_ratio": wall["labels given"] / wall["peer, by file group"],
        "peer_by_file_ratio": wall["labels given"] / wall["peer, by file"],
        "groups": of_shuffle[0]["groups"],
        "fragments": of_shuffle[0]["fragments"],
        "spilled_bytes": of_shuffle[0]["spilled_bytes"],
        "same_bytes": len(digests) == 1,
        "peak_mib": {
            **{name: stage["peak_mib"] for name, stage in measured["stages"].items()},
            **{
                name: max(run["peak_mib"] for run in runs)
                for name, runs in measured["runs"].items()
            },
        },
        "scaling": scaling,
        "scaling_ratio": _spread([size["wall_us_row"] for size in scaling]),
        "scaling_ratio_user": _spread([size["user_us_row"] for size in scaling]),
        "scaling_ratio_floor": _spread([size["floor_us_row"] for size in scaling]),
    }


def judge(summary: dict[str, Any]) -> list[Target]:
    peaks = [summary["peak_mib"][name] for name in STAGES]
    targets = [
        Target("peak memory of the largest stage", max(peaks), PEAK_MIB, "MiB"),
        Target("labels given / peer by file group", summary["peer_ratio"], NO_SLOWER, "x peer"),
        Target("labels given / peer by file", summary["peer_by_file_ratio"], NO_SLOWER, "x peer"),
    ]
    if summary["scaling"]:
        targets += [
            Target("time of a row, slowest / fastest size", summary["scaling_ratio"], FLAT, "x"),
            Target("the same without the system's", summary["scaling_ratio_user"], FLAT, "x"),
        ]
    return targets


def show(
    console: Console,
    options: argparse.Namespace,
    measured: dict[str, Any],
    summary: dict[str, Any],
    targets: list[Target],
) -> None:
    """Print the tables."""
    floor = summary["floors"]["floor_s"]
    show_table(
        console,
        f"{options.rows:,} x {options.dim}, {options.clusters:,} clusters: medians",
        ["", "seconds", "/ floor", "fastest", "processor", "peak MiB"],
        [
            [
                name,
                seconds,
                seconds / floor,
                summary["fastest_s"][name],
                summary["processor_s"][name],
                summary["peak_mib"][name],
            ]
            for name, seconds in summary["wall_s"].items()
        ],
    )
    console.print(
        f"{summary['fragments']:,} fragments of {summary['groups']} groups, "
        f"{summary['spilled_bytes'] / 2**20:.0f} MiB spilled; slow storage delivers "
        f"{SLOW_MB_S:.0f} MB/s to each reader; same bytes in all runs: {summary['same_bytes']}"
    )
    show_floors(console, measured, summary)
    show_table(
        console,
        "Peak memory by stage, a process each",
        ["stage", "seconds", "peak MiB"],
        [[name, run["wall_s"], run["peak_mib"]] for name, run in measured["stages"].items()],
    )
    show_rates(console, measured)
    if summary["scaling"]:
        columns = {
            "rows": "rows",
            "clusters": "clusters",
            "spilled_mib": "spilled MiB",
            "wall_us_row": "µs a row",
            "processor_us_row": "processor",
            "user_us_row": "of it, user",
            "floor_us_row": "floor",
            "peak_mib": "peak MiB",
        }
        rows = [[size[name] for name in columns] for size in summary["scaling"]]
        show_table(console, "Sizes: medians", list(columns.values()), rows, digits=1)
    show_targets(console, targets)


def show_floors(console: Console, measured: dict[str, Any], summary: dict[str, Any]) -> None:
    floors, data = summary["floors"], measured["floors"][0]
    written = measured["runs"]["shuffle"][0]["fragment_bytes"]
    rows = [
        ["reading the input", floors["read_s"], data["input_bytes"]],
        ["writing as many bytes to as many files", floors["write_s"], written],
        ["float32 products with the centroids", floors["product_s"], None],
        ["together: the floor", floors["floor_s"], None],
        ["assignment as it is, in memory", floors["assign_s"], None],
        ["copying the files of the input", floors["copy_s"], data["input_bytes"]],
        ["copying the vectors in memory", floors["memcpy_s"], data["vector_bytes"]],
    ]
    show_table(
        console,
        "Floors: medians",
        ["", "seconds", "MB/s"],
        [[name, seconds, size and size / seconds / 1e6] for name, seconds, size in rows],
    )


def show_rates(console: Console, measured: dict[str, Any]) -> None:
    show_table(
        console,
        "Input files, as the product reads them: medians",
        ["form", "type", "writer", "vectors MB/s", "rows/s", "plain bytes MB/s"],
        [
            [r["form"], r["type"], r["writer"], r["mb_s"], round(r["rows_s"]), r["plain_mb_s"]]
            for r in measured["read"]
        ],
        digits=0,
    )
    names = ("write_mb_s", "plain_write_mb_s", "read_mb_s", "plain_read_mb_s")
    show_table(
        console,
        "Fragments, MB/s: medians",
        ["rows of each", "files", "written", "plain bytes written", "read", "plain bytes read"],
        [[f["rows"], f["files"], *(f[name] for name in names)] for f in measured["fragments"]],
        digits=0,
    )


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.median(run[name] for run in runs)


def _floor(runs: list[dict[str, Any]]) -> float:
    return sum(_median(runs, name) for name in ("read_s", "write_s", "product_s"))


def _spread(values: list[float]) -> float | None:
    return max(values) / min(values) if values else None


if __name__ == "__main__":
    sys.exit(main())
