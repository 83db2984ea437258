"""Partition keys: ranges of clusters, zero-padded, such as ``000-007``."""

from dedup_assets.errors import SettingsError, shown
from dedup_assets.settings import Settings
from dedup_assets.settings.steps import MAX_PARTITION_KEYS


def cluster_ranges(settings: Settings) -> dict[str, range]:
    """The clusters of each partition key, in order."""
    n = settings.clustering.n_clusters
    size = settings.clustering.clusters_per_partition or -(-n // MAX_PARTITION_KEYS)
    width = len(str(n - 1))
    ranges = {}
    for first in range(0, n, size):
        last = min(first + size, n) - 1
        key = f"{first:0{width}d}" if size == 1 else f"{first:0{width}d}-{last:0{width}d}"
        ranges[key] = range(first, last + 1)
    return ranges


def clusters_of(settings: Settings, keys: list[str]) -> dict[str, range]:
    """The clusters of the asked keys.

    Raises:
        SettingsError: a key is not of the current ``n_clusters`` and ``clusters_per_partition``.
    """
    ranges, clusters = cluster_ranges(settings), settings.clustering.n_clusters
    for key in keys:
        if key not in ranges:
            raise SettingsError(
                f"partition {shown(key)} is obsolete: n_clusters={clusters} makes the "
                f"keys {next(iter(ranges))} to {list(ranges)[-1]}; materialize those"
            )
    return {key: ranges[key] for key in keys}
