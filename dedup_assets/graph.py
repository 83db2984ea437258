"""The graph: which assets there are, how they are partitioned, and what each of them reads."""

from typing import Literal

VIDEOS = "videos"
CLIPS = "clips"
CLIP_EMBEDDINGS = "clip_embeddings"
EMBEDDINGS = "embeddings"
CENTROIDS = "centroids"
CLUSTER_PARTITIONS = "cluster_partitions"
PAIRWISE_SCORES = "pairwise_scores"
MISSED_BY_CLUSTERING = "missed_by_clustering"
SIMILARITY_HISTOGRAM = "similarity_histogram"
DUPLICATE_IDS = "duplicate_ids"
CURATED_SHARDS = "curated_shards"

_INPUT = (CLIP_EMBEDDINGS, EMBEDDINGS)
_SHUFFLED = (EMBEDDINGS, CENTROIDS, CLUSTER_PARTITIONS)

READS: dict[str, tuple[str, ...]] = {
    VIDEOS: (),
    CLIPS: (VIDEOS,),
    CLIP_EMBEDDINGS: (VIDEOS, CLIPS),
    EMBEDDINGS: (CLIP_EMBEDDINGS,),
    CENTROIDS: _INPUT,
    CLUSTER_PARTITIONS: (*_INPUT, CENTROIDS),
    PAIRWISE_SCORES: _SHUFFLED,
    MISSED_BY_CLUSTERING: _SHUFFLED,
    SIMILARITY_HISTOGRAM: (*_SHUFFLED, PAIRWISE_SCORES, MISSED_BY_CLUSTERING),
    DUPLICATE_IDS: (*_SHUFFLED, PAIRWISE_SCORES, MISSED_BY_CLUSTERING),
    CURATED_SHARDS: (CLIPS, *_SHUFFLED, PAIRWISE_SCORES, DUPLICATE_IDS),
}
"""The assets whose files each one reads: its dependencies in Dagster, what may not be rewritten
while it runs, and what makes it stale. In an order in which they can be made. Of a dataset that
brings its own embeddings, the first three are absent."""

PARTITIONED: dict[str, Literal["videos", "clusters", "eps"]] = {
    CLIPS: "videos",
    CLIP_EMBEDDINGS: "videos",
    CLUSTER_PARTITIONS: "clusters",
    PAIRWISE_SCORES: "clusters",
    DUPLICATE_IDS: "eps",
    CURATED_SHARDS: "eps",
}
"""By what an asset is partitioned; the others are not. Of an asset that is partitioned alike only
the keys are read that are written."""

TASKS = (
    *(CLIPS, CENTROIDS, CLUSTER_PARTITIONS, PAIRWISE_SCORES, MISSED_BY_CLUSTERING, CURATED_SHARDS),
)
"""The assets whose steps have tasks, which an engine does."""

SPLITTING = (VIDEOS, CLIPS, CLIP_EMBEDDINGS)
"""The part of the graph that makes embeddings of videos, in one run over all of them."""

SCORING = tuple(n for n in READS if n not in SPLITTING and PARTITIONED.get(n) != "eps")
"""The part of the graph that one run makes over all clusters; the rest is made at an eps."""

CURATION = tuple(name for name in READS if PARTITIONED.get(name) == "eps")


def assets_of(*, videos: bool) -> list[str]:
    """The assets of a dataset, in the order of `READS`; ``videos`` says whether it begins there."""
    return [name for name in READS if videos or name not in SPLITTING]


def reads_of(name: str, *, videos: bool) -> tuple[str, ...]:
    """What an asset reads, of the assets that the dataset has."""
    return tuple(read for read in READS[name] if videos or read not in SPLITTING)
