"""Whether every id occurs once: of ids that were looked at before, their hashes are enough."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dedup_assets.store.arrow import hash_ids

_SEED = 0
_BYTES_PER_ID = 24  # a hash, its sorted copy and a mask
_EXAMPLES = 10

Hashes = Callable[[], Iterable[np.ndarray]]
"""Hashes of ids, (m,) uint64 at a time; asked for once or more often."""


Ids = Callable[[str], Iterable[pa.Array | pa.ChunkedArray]]
"""The ids of a file, in batches."""


def hashes_of(read_ids: Ids, name: str) -> Iterator[np.ndarray]:
    """Hashes of the ids of a file, nulls left out."""
    for ids in read_ids(name):
        yield hash_ids(ids.drop_null(), _SEED)


def repeated_hashes(new: Hashes, rows: int, known: Hashes, memory_budget: int) -> np.ndarray:
    """Hashes that occur more than once, of which at least one among the new ones.

    Args:
        new: hashes of ids that were not compared before.
        rows: how many they are, about.
        known: hashes that do not repeat among themselves.
        memory_budget: bytes to hold; past it the new ones go through scratch files.

    Returns:
        (k,) uint64, ascending.
    """
    parts = max(1, -(-rows * _BYTES_PER_ID // memory_budget))
    repeated: list[np.ndarray] = [np.empty(0, np.uint64)]
    with tempfile.TemporaryDirectory(prefix="dedup-assets-ids-") as scratch:
        for hashes in _parted(new(), parts, Path(scratch)):
            hashes.sort()
            repeated.append(np.unique(hashes[1:][hashes[1:] == hashes[:-1]]))
            if len(hashes):
                for earlier in known():
                    place = np.minimum(np.searchsorted(hashes, earlier), len(hashes) - 1)
                    repeated.append(earlier[hashes[place] == earlier])
    return np.unique(np.concatenate(repeated))


def find_repeated(
    read_ids: Ids, names: Iterable[str], repeated: np.ndarray
) -> tuple[int, dict[Any, list[str]]]:
    """The ids behind hashes that repeat; two ids may share a hash by chance.

    Returns:
        How many ids repeat, and for up to ten of them the files, one entry an occurrence.
    """
    if len(repeated) == 0:
        return 0, {}
    # Beyond so many, they are no chance collisions of 64-bit hashes.
    looked_at = repeated[: 100 * _EXAMPLES]
    places: dict[Any, list[str]] = defaultdict(list)
    for name in names:
        for ids in read_ids(name):
            ids = ids.drop_null()
            hit = np.flatnonzero(np.isin(hash_ids(ids, _SEED), looked_at))
            for position in hit:
                places[ids[int(position)].as_py()].append(name)
    real = {key: where for key, where in places.items() if len(where) > 1}
    count = len(real) + len(repeated) - len(looked_at)
    return count, dict(sorted(real.items())[:_EXAMPLES])


def _parted(hashes: Iterable[np.ndarray], parts: int, scratch: Path) -> Iterator[np.ndarray]:
    """All hashes in so many parts, equal ones in one."""
    if parts == 1:
        yield np.concatenate([np.empty(0, np.uint64), *hashes])
        return
    paths = [scratch / f"{part}.u64" for part in range(parts)]
    for h in hashes:
        bucket = (h >> np.uint64(32)) % np.uint64(parts)
        for part in np.unique(bucket):
            append_hashes(paths[int(part)], h[bucket == part])
    for path in paths:
        if path.exists():
            yield np.fromfile(path, dtype=np.uint64)


def append_hashes(path: Path, hashes: np.ndarray) -> None:
    """Append to a scratch file. `tofile` says neither why it failed nor where."""
    try:
        with path.open("ab") as spill:
            spill.write(hashes.tobytes())
    except OSError as error:
        error.filename = str(path)
        raise
