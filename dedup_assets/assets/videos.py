import dagster as dg

from dedup_assets.assets.common import asset_options, column_schema, described, video_stage
from dedup_assets.graph import VIDEOS
from dedup_assets.settings import Settings
from dedup_assets.stages.videos import found_list, list_videos, write_list
from dedup_assets.store import processed


def build_videos(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(**asset_options(settings, VIDEOS, {"video"}))
    def videos(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """The video files: listed, with what tells that one has changed."""
        with video_stage(context, settings) as common:
            before = found_list(common)
            listed = list_videos(common)
            write_list(common, listed)
        earlier = {} if before is None else before.versions
        return dg.MaterializeResult(
            metadata=described(
                common.store,
                processed.VIDEOS,
                len(listed.videos),
                listed.fingerprint,
                bytes=listed.bytes,
                videos_added=len(listed.versions.keys() - earlier.keys()),
                videos_changed=sum(
                    version != listed.versions.get(name, version)
                    for name, version in earlier.items()
                ),
                videos_removed=len(earlier.keys() - listed.versions.keys()),
                **{"dagster/column_schema": column_schema(processed.VIDEO)},
            ),
            data_version=dg.DataVersion(listed.fingerprint),
        )

    return videos
