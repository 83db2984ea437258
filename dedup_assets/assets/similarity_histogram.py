import base64

import dagster as dg

from dedup_assets.assets.common import (
    PAIRWISE_SCORES,
    SIMILARITY_HISTOGRAM,
    asset_key,
    asset_options,
    column_schema,
    described,
    stage,
    table,
)
from dedup_assets.partitions import register_eps
from dedup_assets.settings import Settings
from dedup_assets.stages.histogram import build_histogram, shown_eps
from dedup_assets.store import layout, schemas

EPS_TABLE = dg.TableSchema(
    columns=[
        dg.TableColumn("eps", "string"),
        dg.TableColumn("similarity_at_least", "float"),
        dg.TableColumn("removed", "int"),
        dg.TableColumn("share_removed", "float"),
    ]
)


def build_similarity_histogram(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_options(settings, SIMILARITY_HISTOGRAM, {"parquet", "matplotlib"}),
        deps=[
            dg.AssetDep(
                asset_key(settings, PAIRWISE_SCORES), partition_mapping=dg.AllPartitionMapping()
            )
        ],
    )
    def similarity_histogram(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """How similar clips are to their best earlier match, and what each eps would remove."""
        with stage(context, settings) as store:
            histogram = build_histogram(settings, store)
        register_eps(context.instance, settings)
        picture = base64.b64encode(histogram.plot).decode()
        return dg.MaterializeResult(
            metadata=described(
                store,
                layout.HISTOGRAM,
                histogram.table.num_rows,
                histogram.fingerprint,
                plot=dg.MetadataValue.md(f"![similarity](data:image/png;base64,{picture})"),
                share_removed_by_eps=table(
                    [histogram.at(eps) for eps in shown_eps(settings)], EPS_TABLE
                ),
                all_rows=histogram.rows,
                compared_rows=histogram.compared,
                picture=dg.MetadataValue.path(store.url(layout.HISTOGRAM_PLOT)),
                reused=histogram.reused,
                **{"dagster/column_schema": column_schema(schemas.HISTOGRAM)},
            ),
            data_version=dg.DataVersion(histogram.fingerprint),
        )

    return similarity_histogram
