"""The ledger of an eps: how many rows of each cluster its list removes, and the list's size."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.tables import info_of, read_table, write_table

VERSION = 1


@dataclass(frozen=True)
class ListLedger:
    """What was listed at an eps.

    Attributes:
        fingerprint: digest of the scores that it was made from, and the eps.
        parts: by cluster, its list's fingerprint, removed rows and bytes.
    """

    fingerprint: str
    parts: dict[int, tuple[str, int, int]]


def lists_fingerprint(clusters: list[str], eps: str) -> str:
    """Digest of the lists at ``eps``, from the fingerprint of each cluster's scores."""
    return fingerprint("duplicates", VERSION, eps, clusters)


def part_fingerprint(cluster: str, eps: str) -> str:
    """Digest of the list of one cluster."""
    return fingerprint("unique_ids", VERSION, cluster, eps)


def read_lists(store: Store, eps: str) -> ListLedger | None:
    """What was listed at ``eps``, current or not; None if it is not complete."""
    try:
        table = read_table(store, layout.list_ledger(eps))
    except FileNotFoundError:
        return None
    columns = [table[name].to_pylist() for name in ("cluster", "fingerprint", "removed", "bytes")]
    parts = {cluster: (*part,) for cluster, *part in zip(*columns, strict=True)}
    return ListLedger(info_of(table.schema)["fingerprint"], parts)


def listed_eps(store: Store) -> list[str]:
    """The eps values that something was listed at, current or not."""
    return [name.removesuffix(".parquet") for name in store.list(layout.LIST_LEDGERS, ".parquet")]


def write_lists(store: Store, eps: str, ledger: ListLedger) -> None:
    """Commit the lists at ``eps``, which are there by now."""
    rows: list[dict[str, Any]] = [
        {"cluster": cluster, "fingerprint": digest, "removed": removed, "bytes": size}
        for cluster, (digest, removed, size) in sorted(ledger.parts.items())
    ]
    table = pa.Table.from_pylist(rows, schema=schemas.LIST_LEDGER)
    write_table(store, layout.list_ledger(eps), table, {"fingerprint": ledger.fingerprint})
