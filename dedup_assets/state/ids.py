"""Hashes of the ids of each file group, so that only the ids of new files have to be read."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from dedup_assets.progress import track
from dedup_assets.state.groups import Group
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.ids import find_repeated, hashes_of, repeated_hashes
from dedup_assets.store.inputs import InputFiles
from dedup_assets.store.tables import read_batches, write_tables

_ROWS = 1 << 18


def find_duplicate_ids(
    files: InputFiles, store: Store, groups: list[Group], memory_budget: int
) -> tuple[int, dict[object, list[str]]]:
    """Find ids that occur more than once, and record the hashes of those of new groups.

    Nothing is recorded where an id repeats.

    Returns:
        How many ids repeat, and for up to ten of them the files, one entry an occurrence.
    """
    listed = set(store.list(layout.ID_HASHES))
    known = [group for group in groups if _name(group) in listed]
    new = [group for group in groups if _name(group) not in listed]
    rows = sum(group.rows for group in new)
    written: list[str] = []

    def read_new() -> Iterator[np.ndarray]:
        with track("checking ids", rows, "rows") as advance:
            for group in new:
                parts: list[np.ndarray] = []
                for file in group.files:
                    for hashes in hashes_of(files, file["file"]):
                        parts.append(hashes)
                        yield hashes
                        advance(len(hashes))
                written.append(layout.id_hashes(group.name))
                write_tables(store, written[-1], schemas.ID_HASHES, _tables(parts), {})

    def read_known() -> Iterator[np.ndarray]:
        for group in known:
            for batch in read_batches(store, layout.id_hashes(group.name), ["hash"], _ROWS):
                yield batch.column(0).to_numpy()

    try:
        repeated = repeated_hashes(read_new, rows, read_known, memory_budget)
        names = [file["file"] for group in groups for file in group.files]
        found = find_repeated(files, sorted(names), repeated)
    except BaseException:
        _delete(store, written)
        raise
    if found[0]:
        _delete(store, written)
    return found


def forget_other_ids(store: Store, groups: list[Group]) -> None:
    """Delete the hashes of groups that are no more, once the manifest does not name them."""
    current = {_name(group) for group in groups}
    stale = [name for name in store.list(layout.ID_HASHES) if name not in current]
    _delete(store, [f"{layout.ID_HASHES}/{name}" for name in stale])


def _tables(parts: list[np.ndarray]) -> Iterator[pa.Table]:
    yield pa.table([np.concatenate([np.empty(0, np.uint64), *parts])], schema=schemas.ID_HASHES)


def _name(group: Group) -> str:
    return layout.id_hashes(group.name).removeprefix(f"{layout.ID_HASHES}/")


def _delete(store: Store, names: Iterable[str]) -> None:
    for name in names:
        store.delete(name)
