import dagster as dg

from dedup_assets.assets.common import (
    asset_options,
    column_schema,
    described,
    gpu_pool,
    stage,
)
from dedup_assets.graph import CENTROIDS
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import FEWEST_ROWS_PER_CENTROID, fit_centroids
from dedup_assets.store import layout, schemas


class CentroidsConfig(dg.Config):
    """Launch configuration of `centroids`."""

    refit: bool = False


def build_centroids(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_options(settings, CENTROIDS, {"numpy"}),
        pool=gpu_pool(settings),
    )
    def centroids(
        context: dg.AssetExecutionContext, config: CentroidsConfig
    ) -> dg.MaterializeResult[None]:
        """Directions that the clusters form around: spherical k-means on a seeded sample.

        They stay when input is added. Launch with `refit: true` to fit them again.
        """
        with stage(context, settings) as snapshot:
            fitted = fit_centroids(
                snapshot.settings, snapshot.store, snapshot.manifest, refit=config.refit
            )
        per_centroid = fitted.info["sample_rows"] / settings.clustering.n_clusters
        if per_centroid < FEWEST_ROWS_PER_CENTROID:
            context.log.warning(
                f"k-means was fitted on {per_centroid:.0f} rows a centroid, fewer than "
                f"{FEWEST_ROWS_PER_CENTROID}; clusters this small hide duplicates from each "
                "other: consider a lower n_clusters"
            )
        dimension = int(fitted.values.shape[1])
        return dg.MaterializeResult(
            metadata=described(
                snapshot.store,
                layout.CENTROIDS,
                settings.clustering.n_clusters,
                fitted.content,
                dimension=dimension,
                sample_rows=fitted.info["sample_rows"],
                iterations=fitted.info["n_iter"],
                inertia=fitted.info["inertia"],
                reused=fitted.reused,
                **{"dagster/column_schema": column_schema(schemas.centroids(dimension))},
            ),
            data_version=dg.DataVersion(fitted.content),
        )

    return centroids
