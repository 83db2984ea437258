"""Every path under the output root, relative to it. Nothing else spells a path."""

MANIFEST = "embeddings/manifest.parquet"
CENTROIDS = "clustering_results/kmeans_centroids.npy"
CENTROIDS_INFO = "clustering_results/kmeans_centroids.json"
CLUSTERS = "clustering_results/embs_by_nearest_center"
PARTITIONS = "clustering_results/partitions"
REJECTED = "rejected"
SCORES = "extraction/semdedup_pruning_tables"
HISTOGRAM = "extraction/similarity_histogram.parquet"
HISTOGRAM_PLOT = "extraction/similarity_histogram.png"
MISSED = "extraction/missed_by_clustering.parquet"
EXTRACTION = "extraction"
SHARDS = "shards"
DEFS = "defs.yaml"
INSTANCE = ".dagster"


def partition_commit(key: str) -> str:
    """What `cluster_partitions` finished for one partition key."""
    return f"{PARTITIONS}/{key}.parquet"


def cluster_folder(cluster: int) -> str:
    return f"{CLUSTERS}/nearest_cent={cluster}"


def fragment(cluster: int, name: str) -> str:
    return f"{cluster_folder(cluster)}/{name}.parquet"


def rejected(group: str) -> str:
    return f"{REJECTED}/{group}.parquet"


def scores(cluster: int) -> str:
    return f"{SCORES}/cluster_{cluster}.parquet"


def unique_ids(eps: str) -> str:
    """Folder of the ids to remove at ``eps``, named as the systems that read it expect."""
    return f"{EXTRACTION}/unique_ids_{eps}.parquet"


def unique_ids_part(eps: str, cluster: int) -> str:
    return f"{unique_ids(eps)}/part.{cluster}.parquet"


def summary(eps: str) -> str:
    return f"{EXTRACTION}/dedup_summary_{eps}.csv"


def eps_of_summary(name: str) -> str | None:
    """The eps of a file of the extraction folder, if it is a summary."""
    prefix, suffix = "dedup_summary_", ".csv"
    is_summary = name.startswith(prefix) and name.endswith(suffix)
    return name.removeprefix(prefix).removesuffix(suffix) if is_summary else None


def shards(eps: str) -> str:
    return f"{SHARDS}/eps={eps}"


def shard_index(eps: str) -> str:
    return f"{shards(eps)}/index.parquet"


def missing_media(eps: str) -> str:
    return f"{shards(eps)}/missing.parquet"


def shard(fingerprint: str, number: int) -> str:
    """A tar, relative to `shards`; this is how the index names it."""
    return f"{fingerprint}/{number:05d}.tar"


def media_folder(fingerprint: str) -> str:
    """The folder of plain media files, relative to `shards`."""
    return f"{fingerprint}/media"
