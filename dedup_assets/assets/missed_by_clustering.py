import dagster as dg

from dedup_assets.assets.common import (
    asset_options,
    column_schema,
    described,
    gpu_pool,
    stage,
    table,
)
from dedup_assets.graph import MISSED_BY_CLUSTERING
from dedup_assets.settings import Settings
from dedup_assets.stages.histogram import shown_eps
from dedup_assets.stages.missed import Missed, estimate_missed
from dedup_assets.store import layout, schemas

MISSED_COLUMNS = [
    dg.TableColumn("missed_share", "float", "duplicates whose only partners lie in other clusters"),
    dg.TableColumn("missed", "string", "the same with its 95 % interval"),
]
COLUMNS = dg.TableSchema(columns=[dg.TableColumn("eps", "string"), *MISSED_COLUMNS])


def build_missed_by_clustering(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(**asset_options(settings, MISSED_BY_CLUSTERING, {"parquet"}), pool=gpu_pool(settings))
    def missed_by_clustering(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """What share of the duplicates lies across the borders of clusters, from a sample."""
        with stage(context, settings) as snapshot:
            missed = estimate_missed(snapshot)
        if missed is None:
            context.log.info("missed_sample is 0, so nothing was compared")
            return dg.MaterializeResult(metadata={"sampled": 0, "dagster/row_count": 0})
        if missed.one_cluster:
            context.log.info("one cluster compares every clip with every other: none is missed")
        return dg.MaterializeResult(
            metadata=described(
                snapshot.store,
                layout.MISSED,
                missed.table.num_rows,
                missed.fingerprint,
                sampled=missed.table.num_rows,
                all_rows=missed.rows,
                compared_with_all=missed.compared_with_all,
                compared_with_new=missed.compared_with_new,
                missed_by_eps=table(
                    [{"eps": eps} | shown_share(missed, eps) for eps in shown_eps(settings)],
                    COLUMNS,
                ),
                reused=missed.reused,
                **{"dagster/column_schema": column_schema(schemas.missed(missed.id_type))},
            ),
            data_version=dg.DataVersion(missed.fingerprint),
        )

    return missed_by_clustering


def shown_share(missed: Missed, eps: str) -> dict[str, str | float | None]:
    """What clustering misses at an eps, in `MISSED_COLUMNS`."""
    share = missed.at(eps).value
    return {
        "missed_share": None if share is None else round(share, 6),
        "missed": missed.describe(eps),
    }
