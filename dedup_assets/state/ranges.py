"""Partition keys: ranges of clusters, zero-padded, such as ``000-007``."""

from dedup_assets.errors import SettingsError, shown
from dedup_assets.settings import MAX_PARTITION_KEYS, Settings


def cluster_ranges(settings: Settings) -> dict[str, range]:
    """The clusters of each partition key, in order."""
    n = settings.n_clusters
    size = settings.clusters_per_partition or -(-n // MAX_PARTITION_KEYS)
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
    ranges = cluster_ranges(settings)
    for key in keys:
        if key not in ranges:
            raise SettingsError(
                f"partition {shown(key)} is obsolete: n_clusters={settings.n_clusters} makes the "
                f"keys {next(iter(ranges))} to {list(ranges)[-1]}; materialize those"
            )
    return {key: ranges[key] for key in keys}
