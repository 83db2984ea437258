import dagster as dg

from dedup_assets.assets.common import (
    asset_options,
    column_schema,
    described,
    gpu_pool,
    stage,
)
from dedup_assets.graph import CLUSTER_PARTITIONS
from dedup_assets.partitions import cluster_partitions_def
from dedup_assets.settings import Settings
from dedup_assets.stages.memory import process_peak_bytes
from dedup_assets.stages.partitioning import shuffle
from dedup_assets.store import layout, schemas
from dedup_assets.store.sizes import format_bytes


def build_cluster_partitions(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_options(settings, CLUSTER_PARTITIONS, {"parquet"}),
        partitions_def=cluster_partitions_def(settings),
        pool=gpu_pool(settings),
    )
    def cluster_partitions(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """The rows, normalised and validated, in one folder for each cluster."""
        with stage(context, settings) as snapshot:
            result = shuffle(snapshot, list(context.partition_keys))
        manifest = snapshot.manifest
        if result.obsolete:
            context.log.warning(
                f"deleted {len(result.obsolete)} obsolete partitions of another n_clusters: "
                f"{', '.join(result.obsolete[:5])}"
            )
        peak = process_peak_bytes()
        context.log.info(
            f"{result.groups - result.reused} of {result.groups} file groups shuffled, the others "
            f"were current; {result.fragments} fragments in these partitions; {result.rejected} "
            f"rows rejected; {result.removed} stale files deleted; "
            f"{format_bytes(result.spilled_bytes)} spilled; peak memory of this process so far: "
            f"{'unknown' if peak is None else format_bytes(peak)}"
        )
        schema = column_schema(schemas.fragment(manifest.id_type, manifest.metadata))
        for key, commit in result.commits.items():
            context.add_asset_metadata(
                described(
                    snapshot.store,
                    layout.CLUSTERS,
                    commit.rows,
                    result.base,
                    fragments=len(commit.fragments),
                    fragments_in_run=result.fragments,
                    spilled_bytes_in_run=result.spilled_bytes,
                    process_peak_bytes=peak,
                    groups=result.groups,
                    reused_groups=result.reused,
                    rows_read_in_run=result.rows_read,
                    bytes_read_in_run=result.bytes_read,
                    rejected_in_all=result.rejected,
                    **{"dagster/column_schema": schema},
                ),
                partition_key=key,
            )

        return dg.MaterializeResult(data_version=dg.DataVersion(result.fingerprint))

    return cluster_partitions
