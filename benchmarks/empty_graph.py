"""A graph with the assets, keys, checks and events of a data set's, whose assets do nothing.

It declares what the product declares and is otherwise written plainly, so what its run takes is
what Dagster takes for such a graph. ``metadata=False`` leaves out the metadata too.
"""

import base64
import warnings
from typing import Any

import dagster as dg
import pyarrow as pa
from dagster import BetaWarning, PreviewWarning

from dedup_assets.assets import build_assets
from dedup_assets.assets.common import asset_options, column_schema, store_keys
from dedup_assets.automation import build_automation
from dedup_assets.checks import build_checks
from dedup_assets.graph import CLUSTER_PARTITIONS, DUPLICATE_IDS, SIMILARITY_HISTOGRAM
from dedup_assets.partitions import register_eps
from dedup_assets.runs import (
    all_clusters_tags,
    curation_job_name,
    eps_assets,
    scoring_job_name,
)
from dedup_assets.settings import Settings
from dedup_assets.store import schemas

_PICTURE_BYTES = 40_000
_TABLE_ROWS = 20
_PRINT = "0" * 32
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def build_empty_definitions(settings: Settings, *, metadata: bool) -> dg.Definitions:
    """Definitions with the keys, partitions, deps, checks and jobs of the data set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BetaWarning)
        warnings.simplefilter("ignore", PreviewWarning)
        assets = [_empty_asset(settings, real, metadata) for real in build_assets(settings)]
        checks = [
            _empty_check(settings, spec, metadata)
            for real in build_checks(settings)
            for spec in real.check_specs
        ]
        return dg.Definitions.merge(
            dg.Definitions(
                assets=assets,
                asset_checks=checks,
            ),
            build_automation(settings),
        )


def _empty_asset(
    settings: Settings, real: dg.AssetsDefinition, metadata: bool
) -> dg.AssetsDefinition:
    spec = real.get_asset_spec()
    name = spec.key.path[-1]
    options: dict[str, Any] = {
        **asset_options(settings, name, set(spec.kinds)),
        "deps": list(spec.deps),
        "partitions_def": spec.partitions_def,
        "backfill_policy": real.backfill_policy,
        "pool": real.op.pool,
    }
    entry = _entry(settings, name) if metadata else {}
    if isinstance(spec.partitions_def, dg.StaticPartitionsDefinition):

        @dg.asset(**options)
        def ranged(context: dg.AssetExecutionContext) -> None:
            if metadata:
                for key in context.partition_keys:
                    context.add_asset_metadata(entry, partition_key=key)

        return ranged

    @dg.asset(**options)
    def single(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata=entry, data_version=dg.DataVersion(_PRINT))

    return single


def _empty_check(
    settings: Settings, spec: dg.AssetCheckSpec, metadata: bool
) -> dg.AssetChecksDefinition:
    numbers = dict.fromkeys(("kept", "removed", "total", "rejected"), 0) if metadata else {}

    @dg.asset_check(
        asset=spec.asset_key,
        name=spec.name,
        description=spec.description,
        blocking=spec.blocking,
        partitions_def=spec.partitions_def,
        required_resource_keys=store_keys(settings),
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True, description="0 + 0 = 0", metadata=numbers)

    return check


def _entry(settings: Settings, name: str) -> dict[str, Any]:
    """Metadata of the kinds and about the size that the real asset reports."""
    schema = schemas.pairs(pa.string())
    entry: dict[str, Any] = {
        "dagster/row_count": 0,
        "path": dg.MetadataValue.path(settings.storage.output_path),
        "fingerprint": _PRINT,
        **dict.fromkeys(("first", "second", "third", "fourth"), 0),
    }
    if name == CLUSTER_PARTITIONS:
        schema = schemas.fragment(pa.string(), pa.schema([]))
    elif name == SIMILARITY_HISTOGRAM:
        schema = schemas.HISTOGRAM
        picture = base64.b64encode(bytes(_PICTURE_BYTES)).decode()
        entry["plot"] = dg.MetadataValue.md(f"![picture](data:image/png;base64,{picture})")
    if name in (SIMILARITY_HISTOGRAM, DUPLICATE_IDS):
        record = dg.TableRecord({"id": "0" * 36, "max_id": "0" * 36, "score": 0.5})
        entry["table"] = dg.MetadataValue.table([record] * _TABLE_ROWS)
    return {**entry, "dagster/column_schema": column_schema(schema)}


def run_empty_graph(settings: Settings, instance: dg.DagsterInstance, *, metadata: bool) -> None:
    """Materialize everything as the command does: all clusters, then each configured eps."""
    definitions = build_empty_definitions(settings, metadata=metadata)
    register_eps(instance, settings)
    scoring = definitions.resolve_job_def(scoring_job_name(settings))
    curation = definitions.resolve_job_def(curation_job_name(settings))
    scoring.execute_in_process(
        run_config=_QUIET, instance=instance, tags=all_clusters_tags(settings)
    )
    for eps in settings.thresholds.eps_thresholds:
        curation.execute_in_process(
            run_config=_QUIET,
            instance=instance,
            partition_key=eps,
            asset_selection=eps_assets(settings, eps),
        )
