import base64
from typing import Any

import dagster as dg

from dedup_assets.assets.common import (
    PAIRWISE_SCORES,
    SIMILARITY_HISTOGRAM,
    asset_key,
    asset_options,
    column_schema,
    described,
    gpu_pool,
    stage,
    table,
)
from dedup_assets.partitions import register_eps
from dedup_assets.settings import Settings
from dedup_assets.stages.histogram import Histogram, build_histogram, shown_eps
from dedup_assets.stages.missed import Missed, estimate_missed
from dedup_assets.store import layout, schemas
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint

EPS_COLUMNS = [
    dg.TableColumn("eps", "string"),
    dg.TableColumn("similarity_at_least", "float"),
    dg.TableColumn("removed", "int"),
    dg.TableColumn("share_removed", "float"),
]
MISSED_COLUMNS = [
    dg.TableColumn("missed_share", "float", "duplicates whose only partners lie in other clusters"),
    dg.TableColumn("missed", "string", "the same with its 95 % interval"),
]


def build_similarity_histogram(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_options(settings, SIMILARITY_HISTOGRAM, {"parquet", "matplotlib"}),
        deps=[
            dg.AssetDep(
                asset_key(settings, PAIRWISE_SCORES), partition_mapping=dg.AllPartitionMapping()
            )
        ],
        pool=gpu_pool(settings),
    )
    def similarity_histogram(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """How similar clips are to their best earlier match, and what each eps would remove."""
        with stage(context, settings) as store:
            histogram = build_histogram(settings, store)
            missed = estimate_missed(settings, store)
        register_eps(context.instance, settings)
        version = fingerprint(histogram.fingerprint, missed and missed.fingerprint)
        picture = base64.b64encode(histogram.plot).decode()
        return dg.MaterializeResult(
            metadata=described(
                store,
                layout.HISTOGRAM,
                histogram.table.num_rows,
                histogram.fingerprint,
                plot=dg.MetadataValue.md(f"![similarity](data:image/png;base64,{picture})"),
                share_removed_by_eps=_eps_table(settings, histogram, missed),
                all_rows=histogram.rows,
                compared_rows=histogram.compared,
                picture=dg.MetadataValue.path(store.url(layout.HISTOGRAM_PLOT)),
                reused=histogram.reused,
                **_sampled(store, missed),
                **{"dagster/column_schema": column_schema(schemas.HISTOGRAM)},
            ),
            data_version=dg.DataVersion(version),
        )

    return similarity_histogram


def _eps_table(
    settings: Settings, histogram: Histogram, missed: Missed | None
) -> dg.TableMetadataValue:
    records = [histogram.at(eps) for eps in shown_eps(settings)]
    if missed is None:
        return table(records, dg.TableSchema(columns=EPS_COLUMNS))
    for record in records:
        share = missed.at(record["eps"])
        record["missed_share"] = None if share.value is None else round(share.value, 6)
        record["missed"] = missed.describe(record["eps"])
    return table(records, dg.TableSchema(columns=[*EPS_COLUMNS, *MISSED_COLUMNS]))


def _sampled(store: Store, missed: Missed | None) -> dict[str, Any]:
    """How the share that clustering misses was found."""
    if missed is None:
        return {}
    found: dict[str, Any] = {
        "missed_sample": missed.table.num_rows,
        "missed_seconds": round(missed.seconds, 1),
        "missed_reused": missed.reused,
    }
    if not missed.one_cluster:
        found["missed_pairs"] = dg.MetadataValue.path(store.url(layout.MISSED))
    return found
