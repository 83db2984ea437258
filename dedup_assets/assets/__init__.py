"""The assets of one dataset, one module each. They are thin: call a stage, report."""

import dagster as dg

from dedup_assets.assets.centroids import build_centroids
from dedup_assets.assets.clip_embeddings import build_clip_embeddings
from dedup_assets.assets.clips import build_clips
from dedup_assets.assets.cluster_partitions import build_cluster_partitions
from dedup_assets.assets.curated_shards import build_curated_shards
from dedup_assets.assets.duplicate_ids import build_duplicate_ids
from dedup_assets.assets.embeddings import build_embeddings
from dedup_assets.assets.missed_by_clustering import build_missed_by_clustering
from dedup_assets.assets.pairwise_scores import build_pairwise_scores
from dedup_assets.assets.similarity_histogram import build_similarity_histogram
from dedup_assets.assets.videos import build_videos
from dedup_assets.settings import Settings

_OF_VIDEOS = (build_videos, build_clips, build_clip_embeddings)
_BUILDERS = (
    build_embeddings,
    build_centroids,
    build_cluster_partitions,
    build_pairwise_scores,
    build_missed_by_clustering,
    build_similarity_histogram,
    build_duplicate_ids,
    build_curated_shards,
)


def build_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    builders = (*_OF_VIDEOS, *_BUILDERS) if settings.begins_with_videos else _BUILDERS
    return [build(settings) for build in builders]
