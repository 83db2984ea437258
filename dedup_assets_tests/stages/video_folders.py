"""Videos in a folder, and a run that splits them, for tests of splitting."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dedup_assets.engine import Engine
from dedup_assets.settings import Settings
from dedup_assets.stages.clip_embeddings import collect, failures, sort_records
from dedup_assets.stages.splitting import plan, split
from dedup_assets.stages.videos import Splitting, list_videos
from dedup_assets.store import processed
from dedup_assets_tests.video.movies import regular

RATE = Fraction(10)
LOCAL = Engine()


@dataclass(frozen=True)
class Done:
    """What a run did: all videos, those split now, clips of all, and reasons of failures."""

    videos: int
    split: int
    clips: int
    failed: dict[str, str]


def run(common: Splitting, engine: Engine = LOCAL, limit: int | None = None) -> Done:
    """Split and collect, as the command and the assets do."""
    listed = list_videos(common)
    outcomes = split(common, engine, plan(common, listed, limit=limit).todo)
    parts = collect(common, listed)
    kept, _ = sort_records(listed, processed.records(common.store))
    return Done(
        len(listed.videos),
        sum(outcome.reason is None for outcome in outcomes),
        sum(part.clips for part in parts.values()),
        failures(common.store, kept),
    )


def names_to_do(common: Splitting, limit: int | None = None) -> list[str]:
    return [video.name for video in plan(common, list_videos(common), limit=limit).todo]


class Folders:
    """Videos, what they are split into, and how."""

    def __init__(self, root: Path) -> None:
        self.videos, self.out = root / "videos", root / "out"
        self.videos.mkdir(parents=True)

    def add(self, name: str, seconds: float) -> Path:
        path = self.videos / name
        path.parent.mkdir(exist_ok=True)
        return regular(path, round(seconds * RATE), RATE)

    def common(self, **settings: Any) -> Splitting:
        values = {
            "video_dir": str(self.videos),
            "output_clip_path": str(self.out),
            "output_path": str(self.out),
            "n_clusters": 1,
            "device": "cpu",
            "fixed_stride_split_duration": 2.0,
            "fixed_stride_min_clip_length_s": 0.5,
        }
        return Splitting(Settings.of(**values | settings))

    def split(self, **settings: Any) -> Done:
        return run(self.common(**settings))

    def rows(self) -> list[dict[str, Any]]:
        parts = sorted((self.out / "perceptual_embd_parquet").glob("part-*.parquet"))
        return [row for part in parts for row in pq.read_table(part).to_pylist()]
