"""The command as a subprocess, as users start it."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import dedup_assets
from dedup_assets_tests.command.preloaded import Preloaded

ROOT = Path(dedup_assets.__file__).parent.parent
COMMAND = [sys.executable, "-m", "dedup_assets.cli"]
FINISHED = (
    "extraction/dedup_summary_*.csv",
    "extraction/unique_ids_*",
    "extraction/similarity_histogram.*",
    "extraction/semdedup_pruning_tables/*",
    "shards/*",
)


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without what a developer may have set for Dagster.

    Nor what keeps Python from storing compiled modules: each process would compile them all.
    """
    unwanted = ("DAGSTER", "DEDUP_ASSETS", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more}


@functools.cache
def _preloaded() -> Preloaded:
    return Preloaded(clean_environment())


def command(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, in an environment that a test may add to."""
    return _preloaded().run(list(arguments), cwd, clean_environment(**env), timeout=120)


def looks_finished(output: Path) -> list[str]:
    """Files of an output folder that a reader would take for results."""
    return sorted(str(p.relative_to(output)) for pattern in FINISHED for p in output.glob(pattern))


def summary(output: Path, eps: str) -> dict[str, str]:
    header, row = (output / f"extraction/dedup_summary_{eps}.csv").read_text().splitlines()
    return dict(zip(header.split(","), row.split(","), strict=True))
