import dagster as dg

from dedup_assets.assets.common import asset_options, column_schema, described, stage
from dedup_assets.graph import EMBEDDINGS
from dedup_assets.settings import Settings
from dedup_assets.stages.embeddings import delivery, list_embeddings
from dedup_assets.state.manifest import found_manifest
from dedup_assets.store import layout, schemas


def build_embeddings(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(**asset_options(settings, EMBEDDINGS, {"parquet"}))
    def embeddings(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """The input files: listed, their schemas and dimensions compared, their ids unique."""
        with stage(context, settings) as snapshot:
            before = found_manifest(snapshot.store)
            manifest = list_embeddings(snapshot.settings, snapshot.store)
        delivered = delivery(before, manifest)
        return dg.MaterializeResult(
            metadata=described(
                snapshot.store,
                layout.MANIFEST,
                manifest.rows,
                manifest.fingerprint,
                files=len(manifest.files),
                bytes=manifest.bytes,
                files_added=delivered.files_added,
                files_removed=delivered.files_removed,
                rows_added=delivered.rows_added,
                rows_removed=delivered.rows_removed,
                bytes_added=delivered.bytes_added,
                dimension=manifest.dim,
                id_type=str(manifest.id_type),
                **{"dagster/column_schema": column_schema(schemas.MANIFEST)},
            ),
            data_version=dg.DataVersion(manifest.fingerprint),
        )

    return embeddings
