"""One small set of demo clips for the tests that only read it."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from dedup_assets.video.demo_clips import make_clips


@dataclass(frozen=True)
class SmallSet:
    folder: Path
    truth: pa.Table
    progress: list[tuple[int, int]]


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> SmallSet:
    """Three scenes with their near-duplicates and look-alikes, made in this process."""
    folder = tmp_path_factory.mktemp("demo")
    progress: list[tuple[int, int]] = []
    truth = make_clips(
        folder, n_scenes=3, workers=1, on_clip=lambda done, total: progress.append((done, total))
    )
    return SmallSet(folder, truth, progress)
