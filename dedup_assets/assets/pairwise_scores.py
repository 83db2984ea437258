import dagster as dg

from dedup_assets.assets.common import (
    asset_options,
    column_schema,
    described,
    gpu_pool,
    lineage,
    stage,
)
from dedup_assets.graph import CLUSTER_PARTITIONS, PAIRWISE_SCORES
from dedup_assets.partitions import cluster_partitions_def
from dedup_assets.settings import Settings
from dedup_assets.stages.scores import score, warn_of_size
from dedup_assets.store import layout, schemas


def build_pairwise_scores(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_options(settings, PAIRWISE_SCORES, {"parquet"}),
        partitions_def=cluster_partitions_def(settings),
        pool=gpu_pool(settings),
    )
    def pairwise_scores(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """For each row, the most similar row of its cluster that is ranked before it."""
        with stage(context, settings) as snapshot:
            keys = score(snapshot, list(context.partition_keys))
        manifest = snapshot.manifest
        clusters = sum(k.clusters for k in keys.values())
        reused = sum(k.reused for k in keys.values())
        updated = sum(k.updated for k in keys.values())
        searched = sum(k.searched for k in keys.values())
        context.log.info(
            f"{clusters - reused} of {clusters} clusters compared, {updated} of them by their new "
            f"rows alone; {searched:,} rows compared with all of their cluster"
        )
        largest = max(k.largest for k in keys.values())
        if warning := warn_of_size(settings, largest, manifest.dim):
            context.log.warning(warning)
        columns = {
            "dagster/column_schema": column_schema(schemas.pairs(manifest.id_type)),
            "dagster/column_lineage": lineage(
                settings,
                **dict.fromkeys((schemas.ID, schemas.MAX_ID), (CLUSTER_PARTITIONS, schemas.ID)),
                **{schemas.SCORE: (CLUSTER_PARTITIONS, schemas.EMBEDDING)},
            ),
        }
        for key, scores in keys.items():
            context.add_asset_metadata(
                described(
                    snapshot.store,
                    layout.SCORES,
                    scores.rows,
                    scores.fingerprint,
                    clusters=scores.clusters,
                    reused_clusters=scores.reused,
                    updated_clusters=scores.updated,
                    rows_compared=scores.searched,
                    largest_cluster=scores.largest,
                    precision=settings.compute.precision,
                    **columns,
                ),
                partition_key=key,
            )

        return dg.MaterializeResult(data_version=dg.DataVersion(snapshot.scored))

    return pairwise_scores
