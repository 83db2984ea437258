"""What a step needs to know of an output, read once and passed on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dedup_assets.settings import Settings
from dedup_assets.state.centroids import Centroids, load_centroids
from dedup_assets.state.commits import (
    Commit,
    base_fingerprint,
    current_commit,
    read_commit,
    shuffle_fingerprint,
)
from dedup_assets.state.groups import Group
from dedup_assets.state.manifest import Manifest, groups_of, load_manifest
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.scores import (
    ScoreLedger,
    cluster_fingerprint,
    compared_by,
    read_ledger,
    refuse_lacking,
    scores_fingerprint,
)
from dedup_assets.state.seen import read_seen
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store


@dataclass(frozen=True)
class Snapshot:
    """An output as it is when a step begins. Each part is read when it is first asked for.

    Args:
        settings: of the dataset.
        store: its output.

    Raises:
        StaleError: a part that is asked for is missing, or was made from something else.
    """

    settings: Settings
    store: Store
    _commits: dict[str, Commit] = field(default_factory=dict, repr=False)
    _ledgers: dict[str, ScoreLedger | None] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process looks for itself: what was read may be large, a store is a connection."""
        return _of, (self.settings,)

    @cached_property
    def manifest(self) -> Manifest:
        """The input."""
        return load_manifest(self.settings, self.store)

    @cached_property
    def centroids(self) -> Centroids:
        """The centroids."""
        return load_centroids(self.settings, self.store, self.manifest.dim)

    @cached_property
    def groups(self) -> list[Group]:
        """The file groups of the input."""
        return groups_of(self.settings, self.manifest)

    @cached_property
    def ranges(self) -> dict[str, range]:
        """The clusters of each partition key."""
        return cluster_ranges(self.settings)

    @cached_property
    def base(self) -> str:
        """What all fragments have in common."""
        return base_fingerprint(self.manifest, self.centroids)

    @cached_property
    def shuffled(self) -> str:
        """What the fragments of every key are made from."""
        return shuffle_fingerprint(self.base, self.groups)

    @cached_property
    def scored(self) -> str:
        """What the scores of every key are made from."""
        return scores_fingerprint(self.settings, self.shuffled)

    @cached_property
    def compared_by(self) -> str:
        """What decides the scores of given rows."""
        return compared_by(self.settings, self.base)

    def commits(self, keys: Iterable[str] | None = None) -> Mapping[str, Commit]:
        """The ledgers of the shuffle for some keys, or all, complete and current."""
        wanted = list(self.ranges) if keys is None else list(keys)
        missing = [key for key in wanted if key not in self._commits]
        base, groups = self.base, self.groups
        for key, commit in self.found_commits(missing).items():
            self._commits[key] = current_commit(commit, key, base, groups)
        return {key: self._commits[key] for key in wanted}

    def found_commits(self, keys: Iterable[str]) -> dict[str, Commit | None]:
        """The ledgers of the shuffle for some keys as they are now, current or not."""
        folder, path = layout.PARTITIONS, layout.partition_commit
        return read_seen(self.store, folder, path, read_commit, keys)

    def keep_commit(self, key: str, commit: Commit) -> None:
        """Take over a ledger of the shuffle that was read and found to be complete and current."""
        self._commits[key] = commit

    def fragments(self, keys: Iterable[str] | None = None) -> dict[int, list[dict[str, Any]]]:
        """The fragments of each cluster of some keys, or all; an empty cluster has none."""
        return {
            cluster: fragments
            for key, commit in self.commits(keys).items()
            for cluster, fragments in commit.by_cluster(self.ranges[key]).items()
        }

    @cached_property
    def rows(self) -> int:
        """Rows of all clusters."""
        return sum(commit.rows for commit in self.commits().values())

    def expected(self, keys: Iterable[str] | None = None) -> dict[int, str]:
        """What the scores of each cluster of some keys, or all, are to be made from."""
        return {
            cluster: cluster_fingerprint(
                self.settings, self.base, [f["fragment"] for f in fragments]
            )
            for cluster, fragments in self.fragments(keys).items()
        }

    def found_ledgers(self, keys: Iterable[str]) -> dict[str, ScoreLedger | None]:
        """The ledgers of the scores for some keys, current or not."""
        wanted = list(keys)
        missing = [key for key in wanted if key not in self._ledgers]
        folder, path = layout.SCORE_LEDGERS, layout.score_ledger
        self._ledgers.update(read_seen(self.store, folder, path, read_ledger, missing))
        return {key: self._ledgers[key] for key in wanted}

    @cached_property
    def cluster_prints(self) -> list[str]:
        """What the scores of each cluster are to be made from, in order of the clusters."""
        expected = self.expected()
        return [expected[cluster] for cluster in range(self.settings.clustering.n_clusters)]

    @cached_property
    def ledgers(self) -> dict[str, ScoreLedger]:
        """The ledgers of the scores for all keys, all of them current."""
        prints = self.cluster_prints
        whole: dict[str, ScoreLedger] = {}
        lacking: dict[str, int] = {}
        for key, ledger in self.found_ledgers(self.ranges).items():
            clusters = self.ranges[key]
            current = ledger.current({c: prints[c] for c in clusters}) if ledger else set()
            if ledger is None or len(current) < len(clusters):
                lacking[key] = len(clusters) - len(current)
            else:
                whole[key] = ledger
        refuse_lacking(self.settings, lacking)
        return whole


def _of(settings: Settings) -> Snapshot:
    return Snapshot(settings, settings.storage.open_output())
