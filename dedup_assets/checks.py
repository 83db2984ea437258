"""Checks: what must hold before anyone trains on the result, and when to fit again."""

from collections.abc import Callable
from functools import partial
from typing import Any

import dagster as dg

from dedup_assets.assets.common import RETRY, asset_key, open_store, store_keys, user_errors
from dedup_assets.assets.curated_shards import is_wanted, not_asked
from dedup_assets.errors import InputError, StaleError
from dedup_assets.graph import (
    CLIP_EMBEDDINGS,
    CLUSTER_PARTITIONS,
    CURATED_SHARDS,
    DUPLICATE_IDS,
    MISSED_BY_CLUSTERING,
    PAIRWISE_SCORES,
    PARTITIONED,
    SIMILARITY_HISTOGRAM,
)
from dedup_assets.partitions import eps_partitions_def
from dedup_assets.settings import Settings
from dedup_assets.stages.documented import verify_sampled_lists, verify_sampled_tables
from dedup_assets.stages.quality import (
    verify_balance,
    verify_fit,
    verify_missed,
    verify_split,
    verify_steady,
    verify_valid,
)
from dedup_assets.stages.verify import (
    Verdict,
    verify_conservation,
    verify_removed,
    verify_shards,
    verify_unique,
)
from dedup_assets.state.lists import listed_eps
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout

ROWS_CONSERVED = "rows_conserved"
REMOVED_HAVE_MATCH = "removed_have_match"
SHARDS_HOLD_KEPT = "shards_hold_kept"
CENTROIDS_FIT = "centroids_fit"
LISTS_MATCH_LEDGER = "lists_match_ledger"
TABLES_MATCH_LEDGER = "tables_match_ledger"
MISSED_SHARE = "missed_share"
ROWS_VALID = "rows_valid"
IDS_UNIQUE = "ids_unique"
CLUSTERS_BALANCED = "clusters_balanced"
REMOVED_STEADY = "removed_steady"
VIDEOS_SPLIT = "videos_split"


BLOCKING = {
    SIMILARITY_HISTOGRAM: (IDS_UNIQUE,),
    DUPLICATE_IDS: (ROWS_CONSERVED, REMOVED_HAVE_MATCH, LISTS_MATCH_LEDGER),
    CURATED_SHARDS: (SHARDS_HOLD_KEPT,),
}
"""The checks, by asset, without which nothing that follows is made."""


def build_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    of_videos = (
        [_check(settings, CLIP_EMBEDDINGS, VIDEOS_SPLIT, verify_split)]
        if settings.begins_with_videos
        else []
    )
    return [
        *of_videos,
        _check(settings, DUPLICATE_IDS, ROWS_CONSERVED, verify_conservation),
        _check(settings, DUPLICATE_IDS, REMOVED_HAVE_MATCH, verify_removed),
        _check(settings, DUPLICATE_IDS, LISTS_MATCH_LEDGER, verify_sampled_lists),
        _check(settings, DUPLICATE_IDS, REMOVED_STEADY, verify_steady),
        _check(settings, CURATED_SHARDS, SHARDS_HOLD_KEPT, verify_shards),
        _check(settings, CLUSTER_PARTITIONS, ROWS_VALID, verify_valid),
        _check(settings, CLUSTER_PARTITIONS, CLUSTERS_BALANCED, verify_balance),
        _check(settings, PAIRWISE_SCORES, TABLES_MATCH_LEDGER, verify_sampled_tables),
        _check(settings, SIMILARITY_HISTOGRAM, IDS_UNIQUE, verify_unique),
        _check(settings, SIMILARITY_HISTOGRAM, CENTROIDS_FIT, verify_fit),
        _check(settings, MISSED_BY_CLUSTERING, MISSED_SHARE, verify_missed),
    ]


def _check(
    settings: Settings,
    asset: str,
    name: str,
    verify: Callable[..., Verdict],
) -> dg.AssetChecksDefinition:
    """A check of an eps, or of the whole dataset; those in `BLOCKING` block, others warn.

    Run without a partition, as the UI does with "Execute all", a check of an eps verifies every eps
    that was made.
    """
    by_eps = PARTITIONED.get(asset) == "eps"
    blocking = name in BLOCKING.get(asset, ())

    @dg.asset_check(
        asset=asset_key(settings, asset),
        name=name,
        description=(verify.__doc__ or "").split("\n")[0],
        blocking=blocking,
        partitions_def=eps_partitions_def(settings) if by_eps else None,
        required_resource_keys=store_keys(settings),
        retry_policy=RETRY,
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        result_type: type[dg.AssetCheckResult] = dg.AssetCheckResult
        here = partial(_steady, context.instance) if name == REMOVED_STEADY else verify
        with user_errors():
            snapshot = Snapshot(*open_store(context.resources, settings))
            if by_eps and not context.has_partition_key:
                verdict, result_type = _verify_all(snapshot, here, asset), _ResultOfAll
            elif asset == CURATED_SHARDS and not is_wanted(
                context, settings, context.partition_key
            ):
                verdict = Verdict(True, not_asked(context.partition_key), {})
            else:
                verdict = here(snapshot, *((context.partition_key,) if by_eps else ()))
        return result_type(
            asset_key=asset_key(settings, asset),
            check_name=name,
            passed=verdict.passed,
            severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
            description=verdict.description,
            metadata=verdict.numbers,
        )

    return check


class _ResultOfAll(dg.AssetCheckResult):
    """Of all eps at once: Dagster would look for the one materialization that was checked."""

    def to_asset_check_evaluation(self, step_context: Any) -> dg.AssetCheckEvaluation:
        assert self.asset_key is not None
        assert self.check_name is not None
        return dg.AssetCheckEvaluation(
            asset_key=self.asset_key,
            check_name=self.check_name,
            passed=self.passed,
            severity=self.severity,
            description=self.description,
            metadata=self.metadata,
            blocking=self.severity == dg.AssetCheckSeverity.ERROR,
        )


def _steady(instance: dg.DagsterInstance, snapshot: Snapshot, eps: str) -> Verdict:
    """The verdict on the share removed, by what the last two materializations say of it."""
    settings = snapshot.settings
    made = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key(settings, DUPLICATE_IDS), asset_partitions=[eps]), limit=2
    )
    shares = [
        float(record.asset_materialization.metadata["share_removed"].value)  # type: ignore[union-attr, arg-type]
        for record in made.records
    ]
    return verify_steady(settings, eps, shares)


def _verify_all(snapshot: Snapshot, verify: Callable[..., Verdict], asset: str) -> Verdict:
    """The verdict on every eps at which an asset was made."""
    store = snapshot.store
    values = listed_eps(store)
    if asset == CURATED_SHARDS:
        values = [eps for eps in values if store.exists(layout.shard_index(eps))]
    failed = []
    for eps in values:
        try:
            verdict = verify(snapshot, eps)
        except (StaleError, InputError) as error:
            verdict = Verdict(False, str(error), {})
        if not verdict.passed:
            failed.append(f"eps {eps}: {verdict.description}")
    text = "; ".join(failed) or f"holds at each eps: {', '.join(values) or 'none was made yet'}"
    return Verdict(not failed, text, {"verified": len(values), "failed": len(failed)})
