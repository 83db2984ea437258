"""What was done between two materializations: numbers that the UI plots over time."""

from collections.abc import Iterator

import dagster as dg

from dedup_assets.assets.common import asset_key
from dedup_assets.graph import CLUSTER_PARTITIONS, PAIRWISE_SCORES, SIMILARITY_HISTOGRAM
from dedup_assets.settings import Settings

_PAGE = 500


def work_since_last_histogram(instance: dg.DagsterInstance, settings: Settings) -> dict[str, int]:
    """What was read and compared for a new histogram, in this run or in earlier ones."""
    last = instance.fetch_materializations(asset_key(settings, SIMILARITY_HISTOGRAM), limit=1)
    since = last.records[0].storage_id if last.records else None
    bytes_read = {  # each run says it of all of its keys
        run: numbers.get("bytes_read_in_run", 0)  # not of earlier versions
        for run, numbers in _made_since(instance, settings, CLUSTER_PARTITIONS, since)
    }
    scored = [numbers for _, numbers in _made_since(instance, settings, PAIRWISE_SCORES, since)]
    return {
        "bytes_read": sum(bytes_read.values()),
        "clusters_compared": sum(
            n.get("clusters", 0) - n.get("reused_clusters", 0) for n in scored
        ),
        "rows_compared": sum(n.get("rows_compared", 0) for n in scored),
    }


def _made_since(
    instance: dg.DagsterInstance, settings: Settings, asset: str, since: int | None
) -> Iterator[tuple[str, dict[str, int]]]:
    """Run and numbers of each materialization of an asset after a record."""
    wanted = dg.AssetRecordsFilter(asset_key(settings, asset), after_storage_id=since)
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(wanted, limit=_PAGE, cursor=cursor)
        cursor, more = page.cursor, page.has_more
        for record in page.records:
            made = record.asset_materialization
            assert made is not None
            values = {name: entry.value for name, entry in made.metadata.items()}
            numbers = {name: value for name, value in values.items() if isinstance(value, int)}
            yield record.run_id, numbers
