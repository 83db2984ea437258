"""Whether every id occurs once, in memory or, past a budget, through scratch files."""

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from dedup_assets.progress import track
from dedup_assets.store.arrow import hash_ids
from dedup_assets.store.inputs import InputFiles

_SEED = 0
_BYTES_PER_ID = 24  # a hash, its sorted copy and a mask
_EXAMPLES = 10


def find_duplicate_ids(
    files: InputFiles, names: list[str], rows: int, memory_budget: int
) -> tuple[int, dict[Any, list[str]]]:
    """Find ids that occur more than once.

    Hashes of the ids are compared first; only ids whose hash repeats are looked at themselves.

    Returns:
        How many ids repeat, and for up to ten of them the files, one entry an occurrence.
    """
    repeated = _repeated_hashes(files, names, rows, memory_budget)
    if len(repeated) == 0:
        return 0, {}
    # Beyond so many, they are no chance collisions of 64-bit hashes.
    looked_at = np.sort(repeated)[: 100 * _EXAMPLES]
    places: dict[Any, list[str]] = defaultdict(list)
    for name in names:
        for ids in files.read_ids(name):
            ids = ids.drop_null()
            hit = np.flatnonzero(np.isin(hash_ids(ids, _SEED), looked_at))
            for position in hit:
                places[ids[int(position)].as_py()].append(name)
    real = {key: where for key, where in places.items() if len(where) > 1}
    count = len(real) + len(repeated) - len(looked_at)
    return count, dict(sorted(real.items())[:_EXAMPLES])


def _repeated_hashes(
    files: InputFiles, names: list[str], rows: int, memory_budget: int
) -> np.ndarray:
    parts = max(1, -(-rows * _BYTES_PER_ID // memory_budget))
    if parts == 1:
        hashes = [h for _, h in _hashes(files, names, rows)]
        return _repeats(np.concatenate(hashes) if hashes else np.empty(0, np.uint64))
    with tempfile.TemporaryDirectory(prefix="dedup-assets-ids-") as scratch:
        paths = [Path(scratch) / f"{part}.u64" for part in range(parts)]
        for _, h in _hashes(files, names, rows):
            bucket = (h >> np.uint64(32)) % np.uint64(parts)
            for part in np.unique(bucket):
                with paths[int(part)].open("ab") as spill:
                    h[bucket == part].tofile(spill)
        spilled = [np.fromfile(path, dtype=np.uint64) for path in paths if path.exists()]
        return np.concatenate([np.empty(0, np.uint64), *map(_repeats, spilled)])


def _hashes(files: InputFiles, names: list[str], rows: int) -> Any:
    with track("checking ids", rows, "rows") as advance:
        for name in names:
            for ids in files.read_ids(name):
                yield name, hash_ids(ids.drop_null(), _SEED)
                advance(len(ids))


def _repeats(hashes: np.ndarray) -> np.ndarray:
    hashes = np.sort(hashes)
    return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
