"""How long a process takes to load the code location of a dataset of some number of clusters.

Each measurement needs a process of its own: a run's process loads the location once, with nothing
in memory from an earlier time. So the imports are in the function, between its clocks.
"""

import time
from typing import Any


def load(clusters: int, clusters_per_partition: int | None) -> dict[str, Any]:
    """Seconds for imports, for definitions up to the repository, and for what is sent of it."""
    began = time.perf_counter()
    import dagster as dg

    imported = time.perf_counter()
    from dagster._core.remote_representation.external_data import RepositorySnap
    from dagster_shared.serdes import serialize_value

    from dedup_assets.component import build_definitions
    from dedup_assets.partitions import cluster_partitions_def
    from dedup_assets.settings import Settings

    ready = time.perf_counter()
    settings = Settings.of(
        input_embeddings_path="/input",
        output_path="/output",
        n_clusters=clusters,
        clusters_per_partition=clusters_per_partition,
        eps_thresholds=[0.01],
    )
    executor = dg.Definitions(executor=dg.in_process_executor)
    definitions = dg.Definitions.merge(build_definitions(settings), executor)
    repository = definitions.get_repository_def()
    loaded = time.perf_counter()
    sent = serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True))
    return {
        "import_dagster_s": imported - began,
        "import_rest_s": ready - imported,
        "load_s": loaded - ready,
        "send_s": time.perf_counter() - loaded,
        "sent_mib": len(sent) / 2**20,
        "keys": len(cluster_partitions_def(settings).get_partition_keys()),
    }
