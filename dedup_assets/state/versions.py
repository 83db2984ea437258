"""The code version of each asset: an edit of a setting that decides its files makes it Unsynced."""

from collections.abc import Callable

from dedup_assets.graph import (
    CENTROIDS,
    CLIP_EMBEDDINGS,
    CLIPS,
    CLUSTER_PARTITIONS,
    CURATED_SHARDS,
    DUPLICATE_IDS,
    EMBEDDINGS,
    MISSED_BY_CLUSTERING,
    PAIRWISE_SCORES,
    SIMILARITY_HISTOGRAM,
    VIDEOS,
)
from dedup_assets.settings import Settings
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.scores import precision, ranking
from dedup_assets.store.fingerprints import fingerprint


def code_version(settings: Settings, asset: str) -> str:
    """A digest of the settings that decide what an asset is, those of what it reads aside."""
    return fingerprint("settings", asset, *_DECIDING[asset](settings))


def _embeddings(settings: Settings) -> list[object]:
    source = settings.source
    return [
        *(settings.input_path, source.input_filetype, source.id_field),
        *(source.embedding_field, source.embedding_dim, settings.carried_columns),
    ]


def _centroids(settings: Settings) -> list[object]:
    clustering = settings.clustering
    return [
        *(clustering.n_clusters, clustering.random_state, clustering.max_iter, clustering.tol),
        *(clustering.fit_data_fraction, clustering.kmeans, settings.source.embedding_field),
    ]


def _shards(settings: Settings) -> list[object]:
    shards, source = settings.shards, settings.source
    return [
        *(shards.export, shards.samples_per_shard, shards.missing_media),
        *(shards.bucket_by, settings.sample_columns, source.clips_path),
    ]


def _clips(settings: Settings) -> list[object]:
    return [settings.split_path, settings.videos.how]


_DECIDING: dict[str, Callable[[Settings], list[object]]] = {
    VIDEOS: lambda s: [s.videos.video_dir],
    CLIPS: _clips,
    CLIP_EMBEDDINGS: _clips,
    EMBEDDINGS: _embeddings,
    CENTROIDS: _centroids,
    CLUSTER_PARTITIONS: lambda s: [s.source.on_invalid, list(cluster_ranges(s))],
    PAIRWISE_SCORES: lambda s: [ranking(s), precision(s), list(cluster_ranges(s))],
    MISSED_BY_CLUSTERING: lambda s: [s.clustering.missed_sample, s.clustering.random_state],
    SIMILARITY_HISTOGRAM: lambda s: [],
    DUPLICATE_IDS: lambda s: [],
    CURATED_SHARDS: _shards,
}
