import base64

import dagster as dg

from dedup_assets.assets.common import (
    asset_options,
    column_schema,
    described,
    lineage,
    stage,
    table,
)
from dedup_assets.assets.missed_by_clustering import MISSED_COLUMNS, shown_share
from dedup_assets.assets.work import work_since_last_histogram
from dedup_assets.graph import PAIRWISE_SCORES, SIMILARITY_HISTOGRAM
from dedup_assets.partitions import register_eps
from dedup_assets.settings import Settings
from dedup_assets.stages.histogram import Histogram, build_histogram, shown_eps
from dedup_assets.stages.missed import Missed, find_missed
from dedup_assets.store import layout, schemas

COUNTED = dict.fromkeys(schemas.HISTOGRAM.names, (PAIRWISE_SCORES, schemas.SCORE))
EPS_COLUMNS = [
    dg.TableColumn("eps", "string"),
    dg.TableColumn("similarity_at_least", "float"),
    dg.TableColumn("removed", "int"),
    dg.TableColumn("share_removed", "float"),
]


def build_similarity_histogram(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_options(settings, SIMILARITY_HISTOGRAM, {"parquet", "matplotlib"}),
    )
    def similarity_histogram(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """How similar clips are to their best earlier match, and what each eps would remove."""
        with stage(context, settings) as snapshot:
            histogram = build_histogram(snapshot)
            missed = find_missed(snapshot)
        store = snapshot.store
        register_eps(context.instance, settings)
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
                **work_since_last_histogram(context.instance, settings),
                picture=dg.MetadataValue.path(store.url(layout.HISTOGRAM_PLOT)),
                reused=histogram.reused,
                **{
                    "dagster/column_schema": column_schema(schemas.HISTOGRAM),
                    "dagster/column_lineage": lineage(settings, **COUNTED),
                },
            ),
            data_version=dg.DataVersion(histogram.fingerprint),
        )

    return similarity_histogram


def _eps_table(
    settings: Settings, histogram: Histogram, missed: Missed | None
) -> dg.TableMetadataValue:
    records = [histogram.at(eps) for eps in shown_eps(settings)]
    if missed is None:
        return table(records, dg.TableSchema(columns=EPS_COLUMNS))
    for record in records:
        record |= shown_share(missed, record["eps"])
    return table(records, dg.TableSchema(columns=[*EPS_COLUMNS, *MISSED_COLUMNS]))
