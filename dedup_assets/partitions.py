"""The kinds of partition: videos by hash and ranges of clusters (static), eps values (dynamic)."""

import dagster as dg

from dedup_assets.compute.thresholds import canonical_eps
from dedup_assets.settings import Settings
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.store.processed import KEY_NAMES


def videos_partitions_def() -> dg.StaticPartitionsDefinition:
    return dg.StaticPartitionsDefinition(list(KEY_NAMES))


def cluster_partitions_def(settings: Settings) -> dg.StaticPartitionsDefinition:
    return dg.StaticPartitionsDefinition(list(cluster_ranges(settings)))


def eps_partitions_def(settings: Settings) -> dg.DynamicPartitionsDefinition:
    return dg.DynamicPartitionsDefinition(name=eps_partitions_name(settings))


def eps_partitions_name(settings: Settings) -> str:
    return f"{settings.dataset}/eps"


def register_eps(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Add the configured eps values to the dataset's partitions, those that are not there yet."""
    if settings.thresholds.eps_thresholds:
        instance.add_dynamic_partitions(
            eps_partitions_name(settings), settings.thresholds.eps_thresholds
        )


def misspelt_eps(instance: dg.DagsterInstance, settings: Settings) -> dict[str, str]:
    """The eps of each partition that is spelled otherwise; not of those that are no eps at all."""
    found = {}
    for key in instance.get_dynamic_partitions(eps_partitions_name(settings)):
        try:
            eps = canonical_eps(key)
        except ValueError:
            continue  # the asset refuses it, and says how to delete it
        if eps != key:
            found[key] = eps
    return found
