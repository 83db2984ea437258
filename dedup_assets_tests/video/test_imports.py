"""What importing the package may cost."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "demo.videos",
        "demo.evaluate",
        "video.apart",
        "video.descriptor",
        "video.encoders",
        "video.ids",
    ],
)
def test_import_needs_neither_dagster_nor_av(module: str):
    """PyAV belongs to few files, which the others import when they read or write a video."""
    code = f"import sys; sys.modules.update(dagster=None, av=None); import dedup_assets.{module}"
    subprocess.run([sys.executable, "-c", code], check=True)
