"""The input of a seed."""

import random
from pathlib import Path

from dedup_assets_tests.fuzz.hostile import make_hostile
from dedup_assets_tests.fuzz.made import Made
from dedup_assets_tests.fuzz.tables import make_jsonl, make_npy, make_parquet
from dedup_assets_tests.fuzz.zips import make_split, make_zip

_HOSTILE = 0.3
"""The share of the seeds whose input tries to do harm."""


def make(seed: int, folder: Path) -> Made:
    """The input of a seed, below an empty folder."""
    if random.Random(f"hostile {seed}").random() < _HOSTILE:
        return make_hostile(random.Random(seed), folder)
    rng = random.Random(seed)
    kind = rng.choice(["parquet", "parquet", "jsonl", "jsonl", "npy", "zip", "zip", "split"])
    damaged = rng.random() < 0.75
    return {
        "parquet": make_parquet,
        "jsonl": make_jsonl,
        "npy": make_npy,
        "zip": make_zip,
        "split": make_split,
    }[kind](rng, folder, damaged)
