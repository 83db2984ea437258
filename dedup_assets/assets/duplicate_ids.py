import dagster as dg
import polars as pl

from dedup_assets.assets.common import (
    asset_options,
    column_schema,
    described,
    lineage,
    stage,
    table,
)
from dedup_assets.graph import DUPLICATE_IDS, PAIRWISE_SCORES
from dedup_assets.partitions import eps_partitions_def
from dedup_assets.settings import Settings
from dedup_assets.stages.duplicates import checked_eps, list_columns, list_duplicates
from dedup_assets.stages.missed import find_missed
from dedup_assets.store import layout, schemas

PAIRS_TABLE = dg.TableSchema(
    columns=[
        dg.TableColumn(schemas.ID, "string"),
        dg.TableColumn(schemas.MAX_ID, "string"),
        dg.TableColumn(schemas.SCORE, "float"),
    ]
)


def build_duplicate_ids(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_options(settings, DUPLICATE_IDS, {"parquet", "csv"}),
        partitions_def=eps_partitions_def(settings),
    )
    def duplicate_ids(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """The clips to remove at this eps, each with the clip it duplicates."""
        with stage(context, settings) as snapshot:
            eps = checked_eps(context.partition_key, settings.dataset)
            found = list_duplicates(snapshot, eps)
            missed = find_missed(snapshot)
        store = snapshot.store
        listed = list_columns(snapshot)
        examples = found.examples.with_columns(pl.col(schemas.ID, schemas.MAX_ID).cast(pl.String))
        return dg.MaterializeResult(
            metadata=described(
                store,
                layout.unique_ids(eps),
                found.removed,
                found.fingerprint,
                kept=found.kept,
                removed=found.removed,
                rejected=found.rejected,
                share_removed=round(found.removed / max(1, found.total), 6),
                least_similar_pairs=table(examples.to_dicts(), PAIRS_TABLE),
                summary=dg.MetadataValue.path(store.url(layout.summary(eps))),
                lists=settings.clustering.n_clusters,
                reused_clusters=found.reused,
                **({} if missed is None else {"missed_by_clustering": missed.describe(eps)}),
                **{
                    "dagster/column_schema": column_schema(listed),
                    "dagster/column_lineage": lineage(
                        settings, **{name: (PAIRWISE_SCORES, name) for name in listed.names}
                    ),
                },
            ),
            data_version=dg.DataVersion(found.fingerprint),
        )

    return duplicate_ids
