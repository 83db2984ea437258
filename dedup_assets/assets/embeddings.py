import dagster as dg

from dedup_assets.assets.common import asset_options, column_schema, described, stage
from dedup_assets.graph import EMBEDDINGS
from dedup_assets.settings import Settings
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.store import layout, schemas
from dedup_assets.store.sizes import format_bytes


def build_embeddings(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(**asset_options(settings, EMBEDDINGS, {"parquet"}))
    def embeddings(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """The input files: listed, their schemas and dimensions compared, their ids unique."""
        with stage(context, settings) as snapshot:
            manifest = list_embeddings(snapshot.settings, snapshot.store)
        return dg.MaterializeResult(
            metadata=described(
                snapshot.store,
                layout.MANIFEST,
                manifest.rows,
                manifest.fingerprint,
                files=len(manifest.files),
                size=format_bytes(manifest.bytes),
                dimension=manifest.dim,
                id_type=str(manifest.id_type),
                **{"dagster/column_schema": column_schema(schemas.MANIFEST)},
            ),
            data_version=dg.DataVersion(manifest.fingerprint),
        )

    return embeddings
