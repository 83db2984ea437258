"""Ledgers that this process has read before: each is read again only when its file changed."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from dedup_assets.store.filesystem import Store

_MOST = 1024
"""Ledgers that are kept: those of four outputs of 128 keys, two a key."""

_Ledger = TypeVar("_Ledger")

_seen: OrderedDict[str, tuple[str, Any]] = OrderedDict()
"""By URL: the version of the file, and what it holds."""


def read_seen(
    store: Store,
    folder: str,
    path_of: Callable[[str], str],
    read: Callable[[Store, str], _Ledger | None],
    keys: Iterable[str],
) -> dict[str, _Ledger | None]:
    """The ledgers of some keys, None where there is none; one listing, and a read for each new one.

    Several steps of a run look at the same ledgers, and each step looks at all of them.

    Args:
        store: where they lie.
        folder: that holds them; ``path_of``: the path of the one of a key.
        read: reads the one of a key. Nothing may change what it returns.
        keys: partition keys.
    """
    wanted = list(keys)
    if not wanted:
        return {}
    versions = store.list_versions(folder)
    found: dict[str, _Ledger | None] = dict.fromkeys(wanted)
    unread: dict[str, str] = {}
    for key in wanted:
        version = versions.get(path_of(key).removeprefix(f"{folder}/"))
        seen, ledger = _seen.get(store.url(path_of(key)), (None, None))
        if version is not None and version == seen:
            found[key] = ledger
        elif version is not None:
            unread[key] = version
    for key, ledger in zip(unread, store.map(lambda key: read(store, key), unread), strict=True):
        found[key] = ledger
        # It is no older than its version: one that changes meanwhile is read again next time.
        _keep(store.url(path_of(key)), unread[key], ledger)
    return found


def _keep(url: str, version: str, ledger: Any) -> None:
    _seen[url] = (version, ledger)
    _seen.move_to_end(url)
    while len(_seen) > _MOST:
        _seen.popitem(last=False)
