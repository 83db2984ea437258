"""Memory and time of the steps over ids and scores, which hold no vectors: 10,000,000 clips.

    python -m benchmarks.tables --json benchmarks/results/tables.json

Each step runs in a process of its own, over scores that another one has made of short vectors:
what these steps hold does not depend on the vectors.
"""

import sys
from pathlib import Path
from typing import Any

from benchmarks.child import ChildFailedError, in_child
from benchmarks.machine import describe
from benchmarks.options import common_parser, work_folder
from benchmarks.output import Target, print_table, print_targets, write_json

ROWS, DIM, CLUSTERS = 10_000_000, 8, 1_000
EPS = "0.01"
MOST_MIB = 2048
LIMITED = ("duplicate_ids", "curated_shards")
STEPS = ("similarity_histogram", "duplicate_ids", "curated_shards", "shards_hold_kept")


def main() -> int:
    parser = common_parser(__doc__.splitlines()[0], (CLUSTERS,))
    parser.set_defaults(rows=ROWS, dim=DIM)
    options = parser.parse_args()
    module = "benchmarks.tables"
    measured: dict[str, dict[str, Any]] = {}
    try:
        with work_folder(options) as folder:
            places = {"data": str(folder / "in"), "output": str(folder / "out")}
            shape = {"rows": options.rows, "dim": options.dim, "seed": options.seed}
            centres = options.clusters
            in_child(
                "benchmarks.data", "make_data", folder=places["data"], centres=centres, **shape
            )
            common = {**places, "clusters": options.clusters}
            in_child(module, "make_scores", device=options.device, **common)
            for step in STEPS:
                measured[step] = in_child(module, "take_step", step=step, **common)
                print(f"{step}: {measured[step]['wall_s']:.1f} s", file=sys.stderr, flush=True)
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    rows = [[step, found["wall_s"], found["peak_mib"]] for step, found in measured.items()]
    title = f"{options.rows:,} clips, {options.clusters:,} clusters, eps {EPS}"
    print_table(title, ["step", "s", "peak, MiB"], rows, digits=1)
    targets = [
        Target(f"{step}: peak memory", measured[step]["peak_mib"], MOST_MIB, "MiB")
        for step in LIMITED
    ]
    print_targets(targets)
    if options.json is not None:
        document = {
            "benchmark": "tables",
            **describe("polars", "pyarrow", "numpy"),
            "parameters": {**shape, "clusters": options.clusters, "eps": EPS},
            "targets": [target.as_dict() for target in targets],
            "raw": measured,
        }
        write_json(options.json, document)
    return 0


def make_scores(data: str, output: str, clusters: int, device: str) -> dict[str, Any]:
    """Run everything up to the scores."""
    from benchmarks.stages import Stopwatch, call_scoring

    watch = Stopwatch()
    call_scoring(_settings(data, output, clusters, device), watch)
    return {"wall_s": watch.wall}


def take_step(step: str, data: str, output: str, clusters: int) -> dict[str, Any]:
    """Run one step as its asset or check does."""
    from benchmarks.stages import Stopwatch, stage_function
    from dedup_assets.state.snapshot import Snapshot

    settings = _settings(data, output, clusters, "cpu")
    watch = Stopwatch()
    of_eps = () if step == "similarity_histogram" else (EPS,)
    run = watch.timed(step, stage_function(step))
    found = run(Snapshot(settings, settings.storage.open_output()), *of_eps)
    if not getattr(found, "passed", True):
        raise RuntimeError(f"{step}: {found.description}")
    return {"wall_s": watch.wall[step], "processor_s": watch.processor[step]}


def _settings(data: str, output: str, clusters: int, device: str) -> Any:
    from dedup_assets.settings import Settings

    return Settings.of(
        input_embeddings_path=data,
        output_path=str(Path(output)),
        n_clusters=clusters,
        files_per_partition=100,  # the files are small, since the vectors are short
        device=device,
        missed_sample=0,
        eps_thresholds=[EPS],
    )


if __name__ == "__main__":
    raise SystemExit(main())
