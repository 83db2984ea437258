"""The runs of `benchmarks.increments`: the command over an output that grows."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.child import ChildFailedError, in_child

FIRST, EPS, NOTHING, ALL, SOME = (
    *("first run", "one more eps", "nothing to do"),
    *("1 % new rows in all clusters", "1 % new rows in 2 % of the clusters"),
)
WITHOUT_SAMPLE = ", missed_sample 0"
_FIRST_EPS, _MORE_EPS = "0.01", "0.03"
_BUCKET = "benchmark"
_KEY = "benchmark"
_WIDE = "1000"
_S3_SERVER = "benchmarks.s3_server"


@dataclass(frozen=True)
class Shape:
    """What is measured.

    Attributes:
        clusters_per_partition: None for the default.
        max_iter: of k-means; None for the default.
        new_rows: whether rows are added.
        s3: whether the output lies in a store that speaks S3.
        profile: folder for a profile of each run, or None.
    """

    rows: int
    dim: int
    clusters: int
    clusters_per_partition: int | None
    max_iter: int | None
    seed: int
    device: str
    new_rows: bool = True
    s3: bool = False
    profile: str | None = None


class Runs:
    """Runs of the command, in order, each with what its process did."""

    def __init__(self, shape: Shape, folder: Path, endpoint: str | None) -> None:
        self._shape = shape
        self._folder = folder
        self._input = folder / "input"
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self._environment |= {"COLUMNS": _WIDE, "DAGSTER_HOME": str(folder / "dagster")}
        if endpoint is not None:
            self._environment |= {
                "AWS_ACCESS_KEY_ID": _KEY,
                "AWS_SECRET_ACCESS_KEY": _KEY,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_EC2_METADATA_DISABLED": "true",
            }
        self._root = f"s3://{_BUCKET}" if endpoint is not None else str(folder)
        self.data: dict[str, Any] = {}
        self.near: dict[str, Any] = {}
        self.done: dict[str, dict[str, Any]] = {}

    def measure(self) -> Iterator[str]:
        """Run everything, and yield the name of each run when it is done."""
        shape = self._shape
        waiting = [self._folder / f"{name}.parquet" for name in ("everywhere", "near")]
        self.data = in_child(
            "benchmarks.increment_data",
            "make_growing",
            folder=str(self._input),
            everywhere=str(waiting[0]),
            rows=shape.rows,
            dim=shape.dim,
            centres=shape.clusters,
            seed=shape.seed,
        )
        yield self._run(FIRST, "output")
        yield self._run(EPS, "output", eps=(_FIRST_EPS, _MORE_EPS))
        yield self._run(NOTHING, "output", eps=(_FIRST_EPS, _MORE_EPS))
        if not shape.new_rows:
            return
        yield self._run(FIRST + WITHOUT_SAMPLE, "unsampled")
        self.near = in_child(
            "benchmarks.increment_data",
            "make_near",
            environment=self._environment,
            file=str(waiting[1]),
            output=f"{self._root}/output",
            rows=self.data["new_rows"],
            seed=shape.seed + 1,
        )
        for number, (name, file) in enumerate(zip((ALL, SOME), waiting, strict=True)):
            file.rename(self._input / f"part-{self.data['files'] + number:05d}.parquet")
            yield self._run(name, "output")
            yield self._run(name + WITHOUT_SAMPLE, "unsampled")

    def _run(self, name: str, output: str, eps: tuple[str, ...] = (_FIRST_EPS,)) -> str:
        shape = self._shape
        target = f"{self._root}/{output}"
        Path(self._environment["DAGSTER_HOME"]).mkdir(exist_ok=True)
        command = [
            *("run", "--input-embeddings-path", str(self._input), "--output-path", target),
            *("--n-clusters", str(shape.clusters), "--eps-thresholds", *eps),
            *("--device", shape.device, "--dataset", output),
        ]
        if shape.clusters_per_partition is not None:
            command += ["--clusters-per-partition", str(shape.clusters_per_partition)]
        if shape.max_iter is not None:
            command += ["--max-iter", str(shape.max_iter)]
        if output == "unsampled":
            command += ["--missed-sample", "0"]
        profile = [*("-m", "cProfile", "-o", f"{shape.profile}/{name}.prof")]
        begin = [sys.executable, *(profile if shape.profile else ()), "-m", "benchmarks.watched"]
        with tempfile.TemporaryDirectory(prefix="benchmark-record-") as scratch:
            record = Path(scratch) / "record.json"
            imported = self._seconds([sys.executable, "-c", "import dagster"])[0]
            imported -= self._seconds([sys.executable, "-c", "pass"])[0]
            wall, said = self._seconds([*begin, str(record), target, "--", *command])
            found = json.loads(record.read_text())
        self.done[name] = {"wall_s": wall, "import_s": imported, **found, "new": what_was_new(said)}
        return name

    def _seconds(self, command: list[str]) -> tuple[float, str]:
        """How long a process takes, and what it writes."""
        os.sync()
        started = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment)
        seconds = time.monotonic() - started
        if done.returncode != 0:
            raise ChildFailedError(
                f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr[-4000:]}"
            )
        return seconds, done.stdout

    def results(self) -> dict[str, Any]:
        return {
            "shape": {k: v for k, v in asdict(self._shape).items() if k != "profile"},
            "data": self.data,
            "near": self.near,
            "runs": self.done,
        }


def what_was_new(said: str) -> dict[str, str]:
    """What the command says of new files, rows and clusters; as it says it."""
    patterns = {
        "files": r"input files: ([\d,]+ new)",
        "rows": r"cluster_partitions [^;]*?\(([\d,]+) rows\)",
        "clusters": r"pairwise_scores ([\d,]+ of [\d,]+) clusters",
        "lists": r"duplicate_ids ([\d,]+ of [\d,]+) lists",
    }
    found = {name: re.search(pattern, said) for name, pattern in patterns.items()}
    return {name: match[1] for name, match in found.items() if match is not None}


@contextmanager
def s3_server(wanted: bool) -> Iterator[str | None]:
    """The endpoint of a server on loopback, in a process of its own, with an empty bucket."""
    if not wanted:
        yield None
        return
    with subprocess.Popen(
        [sys.executable, "-m", _S3_SERVER, _BUCKET], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()
