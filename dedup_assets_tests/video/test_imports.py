"""What importing the package may cost."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["demo_clips", "descriptor", "evaluate"])
def test_import_needs_neither_dagster_nor_av(module: str):
    """PyAV belongs to one file, which the others import when they read or write a video."""
    code = (
        f"import sys; sys.modules.update(dagster=None, av=None); import dedup_assets.video.{module}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
