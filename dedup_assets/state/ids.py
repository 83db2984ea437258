"""Hashes of the ids of each file group, so that only the ids of new files have to be read."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from dedup_assets.progress import track
from dedup_assets.state.groups import Group
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.ids import append_hashes, find_repeated, hashes_of, repeated_hashes
from dedup_assets.store.inputs import InputFiles
from dedup_assets.store.tables import read_batches, write_table

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

    def read_known() -> Iterator[np.ndarray]:
        for group in known:
            for batch in read_batches(store, layout.id_hashes(group.name), ["hash"], _ROWS):
                yield batch.column(0).to_numpy()

    with tempfile.TemporaryDirectory(prefix="dedup-assets-ids-") as scratch:
        paths = {group.name: Path(scratch, group.name) for group in new}

        def read_new() -> Iterator[np.ndarray]:
            with track("checking ids", rows, "rows") as advance:
                for group in new:
                    paths[group.name].write_bytes(b"")
                    for file in group.files:
                        for hashes in hashes_of(files.read_ids, file["file"]):
                            append_hashes(paths[group.name], hashes)
                            yield hashes
                            advance(len(hashes))

        repeated = repeated_hashes(read_new, rows, read_known, memory_budget)
        names = sorted(file["file"] for group in groups for file in group.files)
        found = find_repeated(files.read_ids, names, repeated)
        for group in () if found[0] else new:
            table = pa.table([np.fromfile(paths[group.name], np.uint64)], schema=schemas.ID_HASHES)
            write_table(store, layout.id_hashes(group.name), table, {})
    return found


def forget_other_ids(store: Store, groups: list[Group]) -> None:
    """Delete the hashes of groups that are no more, once the manifest does not name them."""
    current = {_name(group) for group in groups}
    stale = [name for name in store.list(layout.ID_HASHES) if name not in current]
    for name in stale:
        store.delete(f"{layout.ID_HASHES}/{name}")


def ids_lacking(store: Store, groups: list[Group]) -> str:
    """How the hashes differ from those of the current groups; empty if they do not."""
    listed = set(store.list(layout.ID_HASHES))
    current = {_name(group) for group in groups}
    if current - listed:
        return "hashes of ids are missing"
    return "hashes of ids of earlier files are to be deleted" if listed - current else ""


def _name(group: Group) -> str:
    return layout.id_hashes(group.name).removeprefix(f"{layout.ID_HASHES}/")
