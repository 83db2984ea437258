"""Every path under the output root, relative to it. Nothing else spells a path.

The functions and constants here are the names that the product uses throughout. On disk they are
spelled by a `Layout`, which only the store knows.
"""

import re
from dataclasses import dataclass
from functools import cached_property

MANIFEST = "embeddings/manifest.parquet"
ID_HASHES = "embeddings/ids"
CENTROIDS = "clustering_results/kmeans_centroids.npy"
CENTROIDS_INFO = "clustering_results/kmeans_centroids.json"
CLUSTERS = "clustering_results/embs_by_nearest_center"
PARTITIONS = "clustering_results/partitions"
REJECTED = "rejected"
SCORES = "extraction/semdedup_pruning_tables"
SCORE_LEDGERS = "extraction/scores"
LIST_LEDGERS = "extraction/duplicates"
HISTOGRAM = "extraction/similarity_histogram.parquet"
HISTOGRAM_PLOT = "extraction/similarity_histogram.png"
MISSED = "extraction/missed_by_clustering.parquet"
EXTRACTION = "extraction"
UNFINISHED = ".unfinished"
SHARDS = "shards"
SETTINGS = "settings.json"
INSTANCE = ".dagster"

COSMOS_CURATE, NEMO = "cosmos-curate", "nemo"


@dataclass(frozen=True)
class Layout:
    """How the files are named on disk.

    Attributes:
        name: the value of the setting.
        renamed: a name of this module and the one on disk, each with the same placeholders; the
            first that fits counts, for the file or folder itself and for all below it.
        owned: how the paths on disk start that only this layout has.
        ids_only: whether the lists of ids to remove have no other column.
    """

    name: str
    renamed: tuple[tuple[str, str], ...]
    owned: tuple[str, ...]
    ids_only: bool

    def on_disk(self, name: str) -> str:
        """What a name of this module is called on disk."""
        return _rename(name, self._ways_out)

    @property
    def cluster_column(self) -> str:
        """The column that readers make from the folders of the clusters."""
        return self.on_disk(cluster_folder(0)).rpartition("/")[2].partition("=")[0]

    def inside(self, folder: str, path: str) -> str:
        """The name, relative to ``folder``, of what lies at ``path`` below it on disk."""
        if not self.renamed:
            return path
        whole = f"{self.on_disk(folder)}/{path}".lstrip("/")
        return _rename(whole, self._ways_back).removeprefix(f"{folder}/")

    @cached_property
    def _ways_out(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(ours), theirs) for ours, theirs in self.renamed]

    @cached_property
    def _ways_back(self) -> list[tuple[re.Pattern[str], str]]:
        return [(_pattern(theirs), ours) for ours, theirs in self.renamed]


def _pattern(template: str) -> re.Pattern[str]:
    texts = re.split(r"\{(\w+)\}", template)
    parts = [f"(?P<{t}>[^/]+)" if i % 2 else re.escape(t) for i, t in enumerate(texts)]
    return re.compile("".join(parts) + "(?=/|$)")


def _rename(name: str, ways: list[tuple[re.Pattern[str], str]]) -> str:
    for pattern, template in ways:
        if found := pattern.match(name):
            return template.format(**found.groupdict()) + name[found.end() :]
    return name


LAYOUTS = {
    COSMOS_CURATE: Layout(
        COSMOS_CURATE,
        renamed=(),
        owned=(f"{CLUSTERS}/nearest_cent=", f"{SCORES}/cluster_", f"{EXTRACTION}/unique_ids_"),
        ids_only=False,
    ),
    NEMO: Layout(
        NEMO,
        renamed=(
            (f"{CLUSTERS}/nearest_cent={{cluster}}", "kmeans/centroid={cluster}"),
            (CLUSTERS, "kmeans"),
            (SCORES, "pairwise"),
            # No key=value, from which readers would make a second column.
            (f"{EXTRACTION}/unique_ids_{{eps}}.parquet", "duplicates/eps_{eps}"),
        ),
        owned=("kmeans/centroid=", "pairwise/cluster_", "duplicates/eps_"),
        ids_only=True,
    ),
}
"""The values of the setting ``layout``. What NeMo Curator has no place for is the same in both."""


def id_hashes(group: str) -> str:
    """Hashes of the ids of a file group."""
    return f"{ID_HASHES}/{group}.parquet"


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


def score_ledger(key: str) -> str:
    """The scores of all clusters of a partition key."""
    return f"{SCORE_LEDGERS}/{key}.parquet"


def unfinished_scores(key: str) -> str:
    """A mark that the pruning tables of a partition key are being changed."""
    return f"{SCORE_LEDGERS}/{key}{UNFINISHED}"


def list_ledger(eps: str) -> str:
    """What was listed at ``eps``."""
    return f"{LIST_LEDGERS}/{eps}.parquet"


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


def number_in(name: str, before: str, after: str = "") -> int | None:
    """The number of a cluster in a name, if it has one; digits of other scripts are none."""
    number = re.fullmatch(f"{re.escape(before)}([0-9]{{1,9}}){re.escape(after)}", name)
    return int(number[1]) if number else None


def shards(eps: str) -> str:
    return f"{SHARDS}/eps={eps}"


def shard_index(eps: str) -> str:
    return f"{shards(eps)}/index.parquet"


def missing_media(eps: str) -> str:
    return f"{shards(eps)}/missing.parquet"


def shard(fingerprint: str, number: int, folder: str = "") -> str:
    """A tar, relative to `shards`; this is how the index names it."""
    return "/".join(filter(None, (fingerprint, folder, f"{number:05d}.tar")))


def media_folder(fingerprint: str, folder: str = "") -> str:
    """A folder of plain media files, relative to `shards`."""
    return "/".join(filter(None, (fingerprint, "media", folder)))
