"""Checks: what must hold before anyone trains on the result, and when to fit again."""

from collections.abc import Callable
from typing import Any

import dagster as dg

from dedup_assets.assets.common import RETRY, asset_key, open_store, store_keys, user_errors
from dedup_assets.assets.curated_shards import is_wanted, not_asked
from dedup_assets.errors import InputError, StaleError
from dedup_assets.graph import (
    CURATED_SHARDS,
    DUPLICATE_IDS,
    MISSED_BY_CLUSTERING,
    PAIRWISE_SCORES,
    SIMILARITY_HISTOGRAM,
)
from dedup_assets.partitions import eps_partitions_def
from dedup_assets.settings import Settings
from dedup_assets.stages.documented import verify_sampled_lists, verify_sampled_tables
from dedup_assets.stages.verify import (
    Verdict,
    verify_conservation,
    verify_fit,
    verify_missed,
    verify_removed,
    verify_shards,
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


BLOCKING = {
    DUPLICATE_IDS: (ROWS_CONSERVED, REMOVED_HAVE_MATCH, LISTS_MATCH_LEDGER),
    CURATED_SHARDS: (SHARDS_HOLD_KEPT,),
}
"""The checks of an eps, by asset: nothing that follows is made if one of them does not pass."""


def build_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    return [
        _check(settings, DUPLICATE_IDS, ROWS_CONSERVED, verify_conservation),
        _check(settings, DUPLICATE_IDS, REMOVED_HAVE_MATCH, verify_removed),
        _check(settings, DUPLICATE_IDS, LISTS_MATCH_LEDGER, verify_sampled_lists),
        _check(settings, CURATED_SHARDS, SHARDS_HOLD_KEPT, verify_shards),
        _check(settings, PAIRWISE_SCORES, TABLES_MATCH_LEDGER, verify_sampled_tables, by_eps=False),
        _check(settings, SIMILARITY_HISTOGRAM, CENTROIDS_FIT, verify_fit, by_eps=False),
        _check(settings, MISSED_BY_CLUSTERING, MISSED_SHARE, verify_missed, by_eps=False),
    ]


def _check(
    settings: Settings,
    asset: str,
    name: str,
    verify: Callable[..., Verdict],
    *,
    by_eps: bool = True,
) -> dg.AssetChecksDefinition:
    """A check of an eps, which blocks; or of the whole dataset, which only warns.

    Run without a partition, as the UI does with "Execute all", a check of an eps verifies every eps
    that was made.
    """

    @dg.asset_check(
        asset=asset_key(settings, asset),
        name=name,
        description=(verify.__doc__ or "").split("\n")[0],
        blocking=by_eps,
        partitions_def=eps_partitions_def(settings) if by_eps else None,
        required_resource_keys=store_keys(settings),
        retry_policy=RETRY,
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        result_type: type[dg.AssetCheckResult] = dg.AssetCheckResult
        with user_errors():
            snapshot = Snapshot(*open_store(context.resources, settings))
            if by_eps and not context.has_partition_key:
                verdict, result_type = _verify_all(snapshot, verify, asset), _ResultOfAll
            elif asset == CURATED_SHARDS and not is_wanted(
                context, settings, context.partition_key
            ):
                verdict = Verdict(True, not_asked(context.partition_key), {})
            else:
                verdict = verify(snapshot, *((context.partition_key,) if by_eps else ()))
        return result_type(
            asset_key=asset_key(settings, asset),
            check_name=name,
            passed=verdict.passed,
            severity=dg.AssetCheckSeverity.ERROR if by_eps else dg.AssetCheckSeverity.WARN,
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
            blocking=True,
        )


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
