import dagster as dg

from dedup_assets.assets.common import asset_options, gpu_pool, video_stage
from dedup_assets.graph import CLIPS
from dedup_assets.partitions import videos_partitions_def
from dedup_assets.settings import Settings
from dedup_assets.stages.machine import engine_of
from dedup_assets.stages.splitting import check_cutting, plan, split
from dedup_assets.stages.videos import load_list
from dedup_assets.store import processed


def build_clips(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_options(settings, CLIPS, {"mp4"}),
        partitions_def=videos_partitions_def(),
        pool=gpu_pool(settings),
    )
    def clips(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        """The clips of the videos, each with what is known of it and its embedding.

        A video is in the partition that a hash of its path says. One that could not be split is
        tried again each time.
        """
        keys = {processed.KEY_NAMES[key]: key for key in context.partition_keys}
        with video_stage(context, settings) as common:
            listed = load_list(common)
            todo = plan(common, listed, keys).todo
            check_cutting(common, todo)
            done = {outcome.video: outcome for outcome in split(common, engine_of(settings), todo)}
        failed = sum(outcome.reason is not None for outcome in done.values())
        context.log.info(
            f"{len(todo) - failed:,} videos split, {failed:,} failed, the others were current"
        )
        for number, key in keys.items():
            videos = [video for video in listed.videos if video.record.key == number]
            outcomes = [done[video.name] for video in videos if video.name in done]
            context.add_asset_metadata(
                {
                    "dagster/uri": common.store.url(processed.CLIPS),
                    "videos": len(videos),
                    "videos_split": sum(outcome.reason is None for outcome in outcomes),
                    "videos_failed": sum(outcome.reason is not None for outcome in outcomes),
                    "clips_written": sum(outcome.clips for outcome in outcomes),
                },
                partition_key=key,
            )
        return dg.MaterializeResult(data_version=dg.DataVersion(listed.fingerprint))

    return clips
