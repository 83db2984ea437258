"""A small set of demo clips for the tests that only read it."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dedup_assets.demo.clips import make_clips


@dataclass(frozen=True)
class SmallSet:
    folder: Path
    truth: pa.Table
    progress: list[tuple[int, int]]


def make_small_set(folder: Path) -> SmallSet:
    """Three scenes with their near-duplicates and look-alikes, made in this process."""
    progress: list[tuple[int, int]] = []
    truth = make_clips(
        folder, n_scenes=3, workers=1, on_clip=lambda done, total: progress.append((done, total))
    )
    return SmallSet(folder, truth, progress)
