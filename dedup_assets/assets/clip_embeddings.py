import dagster as dg

from dedup_assets.assets.common import asset_options, column_schema, described, video_stage
from dedup_assets.graph import CLIP_EMBEDDINGS
from dedup_assets.partitions import videos_partitions_def
from dedup_assets.settings import Settings
from dedup_assets.stages.clip_embeddings import collect
from dedup_assets.stages.videos import load_list
from dedup_assets.store import processed
from dedup_assets.store.fingerprints import fingerprint


def build_clip_embeddings(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_options(settings, CLIP_EMBEDDINGS, {"parquet"}),
        partitions_def=videos_partitions_def(),
    )
    def clip_embeddings(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """The embeddings of the clips, with the video and the time that each clip is of.

        Clips of videos that are gone are deleted.
        """
        keys = {processed.KEY_NAMES[key]: key for key in context.partition_keys}
        with video_stage(context, settings) as common:
            listed = load_list(common)
            parts = collect(common, listed, keys)
        for number, key in keys.items():
            part = parts[number]
            context.add_asset_metadata(
                described(
                    common.store,
                    processed.part(common.folder, number),
                    part.clips,
                    part.fingerprint,
                    videos=part.videos,
                    videos_failed=part.failed,
                    reused=part.reused,
                    **{"dagster/column_schema": column_schema(processed.CLIP)},
                ),
                partition_key=key,
            )
        made_from = fingerprint(*(parts[number].fingerprint for number in sorted(parts)))
        return dg.MaterializeResult(data_version=dg.DataVersion(made_from))

    return clip_embeddings
