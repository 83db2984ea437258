"""What an output holds, without what says from what and in which run it was made."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from dedup_assets.settings import Settings
from dedup_assets.stages.plan import plan_work
from dedup_assets.state.commits import fragment_name
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.filesystem import TEMPORARY
from dedup_assets.store.tables import read_table


def contents(settings: Settings) -> dict[str, Any]:
    """The content of each file, by its name without fingerprints; several of one name together.

    Of the ledgers of the lists and of the shuffle only what is no fingerprint.
    """
    store = settings.storage.open_output()
    found: dict[str, Any] = {}
    gathered: dict[str, list[pa.Table]] = {}
    for name in store.list(""):
        folder, _, file = name.rpartition("/")
        if folder in (layout.REJECTED, layout.ID_HASHES) or folder.startswith(layout.CLUSTERS):
            gathered.setdefault(folder, []).append(read_table(store, name))
        elif folder == layout.PARTITIONS:
            table = read_table(store, name).group_by("cluster").aggregate([("rows", "sum")])
            found[name] = _plain(table.sort_by("cluster"))
        elif folder == layout.LIST_LEDGERS:
            found[name] = _plain(read_table(store, name).select(["cluster", "removed"]))
        elif folder.startswith(f"{layout.SHARDS}/"):
            eps, _, inside = name.removeprefix(f"{layout.SHARDS}/").partition("/")
            rest = inside.partition("/")[2]
            key = f"{layout.SHARDS}/{eps}/{f'*/{rest}' if rest else file}"
            assert key not in found, f"{name} is of a second set"
            found[key] = _of_set(read_table(store, name)) if not rest else store.read_bytes(name)
        elif file.endswith(".parquet"):
            found[name] = _plain(read_table(store, name))
        else:
            found[name] = store.read_bytes(name)
    for folder, tables in gathered.items():
        found[folder] = _gathered(tables)
    return found


def _gathered(tables: list[pa.Table]) -> Any:
    table = pa.concat_tables(tables)
    keys = [name for name in ("id", "file", "row", "hash") if name in table.column_names]
    return _plain(table.sort_by([(name, "ascending") for name in keys]))


def _of_set(table: pa.Table) -> Any:
    schema, columns = _plain(table)
    shards = [name and name.partition("/")[2] for name in table.to_pydict().get("shard", [])]
    return schema, columns, shards


def _plain(table: pa.Table) -> Any:
    """Schema and values; as text, since NaN does not equal itself."""
    columns = {name: values for name, values in table.to_pydict().items() if name != "shard"}
    return str(table.schema.remove_metadata()), repr(columns)


def assert_nothing_stale(settings: Settings) -> None:
    """Nothing is to be done, and each file with a fingerprint in its name is a current one."""
    store = settings.storage.open_output()
    assert plan_work(settings, store) == []
    snapshot = Snapshot(settings, store)
    commits = snapshot.commits()
    groups = {f"{group.name}.parquet" for group in snapshot.groups}
    aside = {f"{name}.parquet" for commit in commits.values() for name in commit.rejected}
    fragments = {fragment_name(f) for commit in commits.values() for f in commit.fragments}
    assert set(store.list(layout.CLUSTERS)) == fragments
    assert set(store.list(layout.REJECTED)) == aside
    assert set(store.list(layout.ID_HASHES)) == groups
    temporary = Path(store.path(TEMPORARY))
    assert not temporary.exists() or list(temporary.iterdir()) == []


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Names of files that only one of two outputs has, or that are not alike in both."""
    return sorted(n for n in one.keys() | other.keys() if one.get(n) != other.get(n))
