"""The graph: which assets there are, how they are partitioned, and what each of them reads."""

from typing import Literal

EMBEDDINGS = "embeddings"
CENTROIDS = "centroids"
CLUSTER_PARTITIONS = "cluster_partitions"
PAIRWISE_SCORES = "pairwise_scores"
MISSED_BY_CLUSTERING = "missed_by_clustering"
SIMILARITY_HISTOGRAM = "similarity_histogram"
DUPLICATE_IDS = "duplicate_ids"
CURATED_SHARDS = "curated_shards"

_SHUFFLED = (EMBEDDINGS, CENTROIDS, CLUSTER_PARTITIONS)

READS: dict[str, tuple[str, ...]] = {
    EMBEDDINGS: (),
    CENTROIDS: (EMBEDDINGS,),
    CLUSTER_PARTITIONS: (EMBEDDINGS, CENTROIDS),
    PAIRWISE_SCORES: _SHUFFLED,
    MISSED_BY_CLUSTERING: _SHUFFLED,
    SIMILARITY_HISTOGRAM: (*_SHUFFLED, PAIRWISE_SCORES, MISSED_BY_CLUSTERING),
    DUPLICATE_IDS: (*_SHUFFLED, PAIRWISE_SCORES, MISSED_BY_CLUSTERING),
    CURATED_SHARDS: (*_SHUFFLED, PAIRWISE_SCORES, DUPLICATE_IDS),
}
"""The assets whose files each one reads: its dependencies in Dagster, what may not be rewritten
while it runs, and what makes it stale. In an order in which they can be made."""

PARTITIONED: dict[str, Literal["clusters", "eps"]] = {
    CLUSTER_PARTITIONS: "clusters",
    PAIRWISE_SCORES: "clusters",
    DUPLICATE_IDS: "eps",
    CURATED_SHARDS: "eps",
}
"""By what an asset is partitioned; the others are not. Of an asset that is partitioned alike only
the keys are read that are written."""

TASKS = (CENTROIDS, CLUSTER_PARTITIONS, PAIRWISE_SCORES, MISSED_BY_CLUSTERING, CURATED_SHARDS)
"""The assets whose steps have tasks, which an engine does."""

SCORING = tuple(name for name in READS if PARTITIONED.get(name) != "eps")
"""The half of the graph that one run makes over all clusters; the other half is made at an eps."""

CURATION = tuple(name for name in READS if PARTITIONED.get(name) == "eps")
