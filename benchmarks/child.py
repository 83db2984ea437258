"""One measurement in one process, so that its peak memory is its own.

Run as ``python -m benchmarks.child MODULE FUNCTION RESULT_FILE``, with the arguments as JSON on
the standard input. The calling process stays small and imports nothing heavy.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DAGSTER = ("DAGSTER_HOME", "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS")
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class ChildFailedError(RuntimeError):
    """A measurement did not come to its end; the message holds what it wrote."""


def in_child(
    module: str,
    function: str,
    *,
    threads: int | None = None,
    environment: Mapping[str, str] = os.environ,
    **arguments: Any,
) -> dict[str, Any]:
    """Call ``module.function(**arguments)`` in a new process and return the dict it returns.

    ``threads`` limits the linear algebra, and with it the threads of the stages. ``environment``
    goes without what is Dagster's.

    Raises:
        ChildFailedError: it raised, or was killed.
    """
    variables = {k: v for k, v in environment.items() if k not in _DAGSTER}
    if threads is not None:
        variables |= dict.fromkeys(_THREADS, str(threads))
    if hasattr(os, "sync"):
        os.sync()  # what earlier runs wrote must not slow down this one's commits
    with tempfile.TemporaryDirectory(prefix="benchmark-child-") as folder:
        result = Path(folder) / "result.json"
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.child", module, function, str(result)],
            input=json.dumps(arguments),
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=variables,
        )
        if done.returncode != 0 or not result.exists():
            raise ChildFailedError(
                f"{module}.{function} ended with code {done.returncode}:\n{done.stderr[-4000:]}"
            )
        return json.loads(result.read_text())


def peak_memory_mib() -> float | None:
    """Highest resident memory of this process so far, in MiB."""
    from dedup_assets.stages.memory import process_peak_bytes

    peak = process_peak_bytes()
    return None if peak is None else peak / 2**20


def main() -> None:
    module, function, result = sys.argv[1:]
    arguments = json.load(sys.stdin)
    returned = getattr(importlib.import_module(module), function)(**arguments)
    returned["peak_mib"] = peak_memory_mib()
    Path(result).write_text(json.dumps(returned))
    sys.stderr.flush()
    os._exit(0)  # threads of Arrow's dataset writer may abort a process that ends in order


if __name__ == "__main__":
    main()
