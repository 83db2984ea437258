import dagster as dg

from dedup_assets.assets.common import (
    asset_key,
    asset_options,
    column_schema,
    described,
    lineage,
    stage,
)
from dedup_assets.graph import CURATED_SHARDS, PAIRWISE_SCORES, SCORING
from dedup_assets.partitions import eps_partitions_def
from dedup_assets.settings import Settings
from dedup_assets.stages.duplicates import checked_eps
from dedup_assets.stages.shards import write_shards
from dedup_assets.store import layout, schemas

NO_MEDIA = "none: clips_path is not set, so only the index of kept ids was written"


class CuratedShardsConfig(dg.Config):
    """Launch configuration of `curated_shards`."""

    replace_shards: bool = False


BACKFILL = "dagster/backfill"
"""Tag of the runs of a backfill: its id."""


def not_asked(eps: str) -> str:
    return (
        f"no shards were asked for at eps {eps}, which is not eps_to_extract; materialize "
        "curated_shards alone to have them"
    )


def is_wanted(
    context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, settings: Settings, eps: str
) -> bool:
    """Whether shards at ``eps`` were asked for: configured, or chosen without all the rest.

    "Materialize all" covers every eps that was ever registered, and shards may be terabytes.
    """
    if eps == settings.thresholds.eps_to_extract:
        return True
    backfill = context.instance.get_backfill(context.run.tags.get(BACKFILL, ""))
    chosen = context.run.asset_selection if backfill is None else backfill.asset_selection
    return not {asset_key(settings, name) for name in SCORING} & set(chosen or ())


def build_curated_shards(settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_options(settings, CURATED_SHARDS, {"webdataset"}),
        partitions_def=eps_partitions_def(settings),
    )
    def curated_shards(
        context: dg.AssetExecutionContext, config: CuratedShardsConfig
    ) -> dg.MaterializeResult[None]:
        """The clips kept at this eps, as WebDataset shards to train on.

        Refused if a kept clip would lose media that it has now, or tars and plain files would
        replace each other. Launch with `replace_shards: true` to replace what is there.
        """
        eps = context.partition_key
        if not is_wanted(context, settings, eps):
            return dg.MaterializeResult(metadata={"written": False, "reason": not_asked(eps)})
        with stage(context, settings) as snapshot:
            eps = checked_eps(eps, settings.dataset)
            curated = write_shards(snapshot, eps, replace_shards=config.replace_shards)
        store = snapshot.store
        media = f"from {curated.clips}"
        if curated.clips is None:
            media = NO_MEDIA
            context.log.warning(media)
        elif curated.missing:
            context.log.warning(
                f"{curated.missing} kept clips have no media file; "
                f"they are listed in {store.url(layout.missing_media(eps))}"
            )
        return dg.MaterializeResult(
            metadata=described(
                store,
                layout.shard_index(eps),
                curated.index.num_rows,
                curated.fingerprint,
                kept=curated.kept,
                missing_media=curated.missing,
                shards=len(curated.shards),
                bytes=curated.bytes,
                media=media,
                reused=curated.reused,
                **{
                    "dagster/column_schema": column_schema(curated.index.schema),
                    "dagster/column_lineage": lineage(settings, id=(PAIRWISE_SCORES, schemas.ID)),
                },
            ),
            data_version=dg.DataVersion(curated.fingerprint),
        )

    return curated_shards
