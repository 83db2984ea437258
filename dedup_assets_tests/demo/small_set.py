"""A small set of demo videos for the tests that only read it."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dedup_assets.demo.videos import make_videos


@dataclass(frozen=True)
class SmallSet:
    folder: Path
    truth: pa.Table
    progress: list[tuple[int, int]]


def make_small_set(folder: Path) -> SmallSet:
    """One film with its near-duplicates and look-alike, made in this process."""
    progress: list[tuple[int, int]] = []
    truth = make_videos(
        folder, n_films=1, workers=1, on_video=lambda done, total: progress.append((done, total))
    )
    return SmallSet(folder, truth, progress)
