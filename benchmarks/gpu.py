"""Everything to know of a GPU, in one command on a machine that has little else.

    python -m benchmarks.gpu --json benchmarks/results/gpu.json

NumPy, CuPy, threadpoolctl, pytest and hypothesis are enough for its first parts; torch lets the
peers take part, and PyArrow, Polars, Dagster and rich the whole graph. First the tests that compare
device and host, then the searches, k-means, the passes over all rows and the graph from end to end.
Each part is a process of its own with a limit of time: one that fails loses no other, and what it
said is kept. The limits are 25 minutes in all. ``--small --device cpu`` tries all of it in a
minute, on NumPy.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.output import print_table, write_json

_PYTEST = ("pytest", "--noconftest", "-q", "-p", "no:cacheprovider")
_ON_DEVICE = "dedup_assets_tests/compute/gpu/test_on_device.py"
_GRAPH = ("pyarrow", "polars", "dagster", "rich")
_SAID = 4_000  # characters of what a part wrote last


@dataclass(frozen=True)
class Part:
    """A command: ``python -m`` and these arguments.

    Attributes:
        limit: seconds after which it is ended.
        needs: modules without which it is left out.
        small: what replaces its sizes for a first look.
    """

    name: str
    command: tuple[str, ...]
    limit: int
    needs: tuple[str, ...] = ()
    small: tuple[str, ...] = ()


_LITTLE = ("--rows", "400", "--dim", "16", "--rounds", "1")
PARTS = (
    Part("tests", (*_PYTEST, _ON_DEVICE), 200, ("pytest", "hypothesis")),
    Part(
        "search of 100,000 rows",
        ("benchmarks.pairwise", "--rows", "100000", "--clusters", "1"),
        120,
        small=_LITTLE,
    ),
    Part(
        "search of 1,000 clusters",
        ("benchmarks.pairwise", "--rows", "1000000", "--clusters", "1000"),
        150,
        small=("--clusters", "4", *_LITTLE),
    ),
    Part(
        "search of near-duplicates",
        ("benchmarks.pairwise", "--rows", "100000", "--clusters", "50", "--scene", "200"),
        90,
        small=("--clusters", "2", "--scene", "50", *_LITTLE),
    ),
    Part("k-means", ("benchmarks.kmeans",), 120, small=("--clusters", "5", *_LITTLE)),
    Part(
        "passes and all pairs of 1,000,000 rows",
        ("benchmarks.passes",),
        150,
        small=("--clusters", "5", "--queries", "20", *_LITTLE),
    ),
    Part(
        "end to end, 1,000,000 rows",
        ("benchmarks.gpu_end_to_end", "--rows", "1000000"),
        150,
        _GRAPH,
        ("--clusters", "4", *_LITTLE[:4]),
    ),
    Part(
        "end to end, 10,000,000 rows",
        ("benchmarks.gpu_end_to_end", "--rows", "10000000", "--clusters", "10000"),
        520,
        _GRAPH,
        ("--clusters", "6", *_LITTLE[:4]),
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--small", action="store_true", help="little data, for a first look")
    parser.add_argument(
        "--only", nargs="+", metavar="WORD", help="parts whose names hold one of these words"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    options = parser.parse_args()
    parts = [
        part
        for part in PARTS
        if options.only is None or any(word in part.name for word in options.only)
    ]
    if not parts:
        parser.error(f"no part is named so; there are: {', '.join(part.name for part in PARTS)}")
    document: dict[str, Any] = {
        "benchmark": "gpu",
        **describe("numpy", "cupy-cuda12x", "cupy-cuda13x", "torch", "dagster"),
        "device": options.device,
        "small": options.small,
        "parts": {},
    }
    for part in parts:
        document["parts"][part.name] = done = run(part, options.device, options.small)
        print(f"{part.name}: {done['state']}", file=sys.stderr, flush=True)
        if options.json is not None:  # after each, in case that the machine goes away
            write_json(options.json, document)
    rows = [[name, done["state"], done["seconds"]] for name, done in document["parts"].items()]
    print_table("Parts", ["part", "state", "seconds"], rows)
    states = {done["state"] for done in document["parts"].values()}
    return 0 if states <= {"done", "left out"} else 1


def run(part: Part, device: str, small: bool) -> dict[str, Any]:
    """What came of a part: its state, seconds, what it printed last, and its own numbers."""
    if lacking := [name for name in part.needs if importlib.util.find_spec(name) is None]:
        return {"state": "left out", "seconds": 0.0, "why": f"{', '.join(lacking)} is missing"}
    with tempfile.TemporaryDirectory(prefix="benchmark-gpu-") as scratch:
        numbers = Path(scratch) / "numbers.json"
        command = [sys.executable, "-m", *part.command]
        if part.command[0] != "pytest":
            command += [*(part.small if small else ()), "--device", device, "--json", str(numbers)]
        started = time.monotonic()
        try:
            ended = subprocess.run(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=part.limit,
                check=False,
            )
            said, code = ended.stdout, ended.returncode
        except subprocess.TimeoutExpired as error:
            said, code = (error.stdout or b"").decode(errors="replace"), None
        print(said, flush=True)
        state = "done" if code == 0 else "out of time" if code is None else f"failed with {code}"
        found = json.loads(numbers.read_text()) if numbers.exists() else None
    return {
        "state": state,
        "seconds": time.monotonic() - started,
        "said": said[-_SAID:],
        "numbers": found,
    }


if __name__ == "__main__":
    sys.exit(main())
