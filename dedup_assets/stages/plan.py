"""What has to be made, and why: decided from listings and ledgers, before anything runs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from dedup_assets.errors import StaleError
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
from dedup_assets.stages.clip_embeddings import lacking_keys
from dedup_assets.stages.duplicates import lists_lacking
from dedup_assets.stages.embeddings import input_files
from dedup_assets.stages.histogram import found_histogram
from dedup_assets.stages.missed import missed_lacking
from dedup_assets.stages.partitioning import left_over
from dedup_assets.stages.score_keys import table_name
from dedup_assets.stages.scores import scores_left_over
from dedup_assets.stages.shards import shards_lacking
from dedup_assets.stages.splitting import unsplit_keys
from dedup_assets.stages.videos import Splitting, found_list, list_videos
from dedup_assets.state.commits import resumed_commit
from dedup_assets.state.ids import ids_lacking
from dedup_assets.state.manifest import found_manifest, groups_of, manifest_fingerprint
from dedup_assets.state.scores import unfinished_keys
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout, processed
from dedup_assets.store.filesystem import Store, size_of


@dataclass(frozen=True)
class Work:
    """An asset to make.

    Attributes:
        asset: its name.
        keys: the partition keys to make; none where it is not partitioned.
        of: how many keys it has.
        reason: why.
    """

    asset: str
    reason: str
    keys: tuple[str, ...] = ()
    of: int = 0

    def __str__(self) -> str:
        keys = ", ".join(self.keys) if self.of <= 1 else f"{len(self.keys)} of {self.of} keys"
        return f"{self.asset}{f' ({keys})' if self.keys else ''}: {self.reason}"


@dataclass
class _Plan:
    """Work in the order of the graph."""

    snapshot: Snapshot
    work: dict[str, list[Work]] = field(default_factory=dict)

    def add(self, asset: str, reason: str, keys: tuple[str, ...] = (), of: int = 0) -> None:
        self.work.setdefault(asset, []).append(Work(asset, reason, keys, of))

    def in_order(self) -> list[Work]:
        made = self.snapshot.settings.assets_made
        return [work for asset in made for work in self.work.get(asset, ())]

    def before(self, asset: str) -> str | None:
        """The first asset that ``asset`` reads and that is to be made."""
        reads = self.snapshot.settings.reads(asset)
        return next((read for read in reads if read in self.work), None)


def plan_work(settings: Settings, store: Store, *, refit: bool = False) -> list[Work]:
    """What a run has to make; what is current is not in it.

    Where an asset is to be made, so is all that reads it: which of it changes is known only then,
    and what does not change is found to be current.

    Args:
        settings: of the dataset.
        store: its output; nothing is written.
        refit: whether the centroids are to be fitted again.

    Raises:
        InputError: the input cannot be listed.
    """
    plan = _Plan(Snapshot(settings, store))
    if settings.begins_with_videos:
        _plan_splitting(plan)
    earlier = plan.before(EMBEDDINGS)
    if earlier is not None:
        plan.add(EMBEDDINGS, f"follows {earlier}")
    elif changed := input_changes(settings, store):
        plan.add(EMBEDDINGS, changed)
    _plan_centroids(plan, refit)
    _plan_clusters(plan)
    _plan_unpartitioned(plan)
    for eps in settings.thresholds.eps_thresholds:
        _plan_eps(plan, eps, shards=eps == settings.thresholds.eps_to_extract)
    return plan.in_order()


def plan_splitting(settings: Settings, store: Store) -> list[Work]:
    """What a run has to make of the videos before anything else.

    Raises:
        InputError: there is no video.
    """
    plan = _Plan(Snapshot(settings, store))
    _plan_splitting(plan)
    return plan.in_order()


def plan_backfill(settings: Settings, store: Store, *, shards: bool) -> list[Work]:
    """What of the configured eps has to be made from the scores that are there.

    Args:
        settings: of the dataset, with the eps to make.
        store: its output; nothing is written.
        shards: whether shards are made at each eps, or only lists.

    Raises:
        StaleError: the scores of a cluster are missing or stale.
    """
    plan = _Plan(Snapshot(settings, store))
    for eps in settings.thresholds.eps_thresholds:
        _plan_eps(plan, eps, shards=shards)
    return plan.in_order()


def _plan_splitting(plan: _Plan) -> None:
    common, keys = Splitting(plan.snapshot.settings), tuple(processed.KEY_NAMES)
    listed = list_videos(common)
    before = found_list(common)
    if before is None:
        there = common.store.exists(processed.VIDEOS)
        plan.add(VIDEOS, "the list is of another folder" if there else "not listed yet")
    elif why := changes("video files", before.versions, listed.versions):
        plan.add(VIDEOS, why)
    if earlier := plan.before(CLIPS):
        plan.add(CLIPS, f"follows {earlier}", keys, len(keys))
    elif unsplit := unsplit_keys(listed, processed.records(common.store)):
        reason = f"{sum(unsplit.values()):,} videos are to be split"
        plan.add(CLIPS, reason, _named(unsplit), len(keys))
    if earlier := plan.before(CLIP_EMBEDDINGS):
        plan.add(CLIP_EMBEDDINGS, f"follows {earlier}", keys, len(keys))
    elif lacking := lacking_keys(common, listed):
        plan.add(CLIP_EMBEDDINGS, "missing or stale", _named(lacking), len(keys))


def _named(keys: Collection[int]) -> tuple[str, ...]:
    return tuple(name for name, key in processed.KEY_NAMES.items() if key in keys)


def changes(what: str, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """How files differ from those before, each with its version; empty if they do not."""
    counts = {
        "new": len(now.keys() - before.keys()),
        "changed": sum(now[name] != before[name] for name in now.keys() & before.keys()),
        "gone": len(before.keys() - now.keys()),
    }
    listed = [f"{count:,} {what}" for what, count in counts.items() if count]
    return f"{what}: {', '.join(listed)}" if listed else ""


def input_changes(settings: Settings, store: Store) -> str:
    """How the input differs from the manifest; empty if it does not."""
    files = input_files(settings)
    names = files.names()
    manifest = found_manifest(store)
    if manifest is None:
        return "not listed yet"
    prints = [file["fingerprint"] for file in manifest.files]
    if manifest.fingerprint != manifest_fingerprint(settings, manifest.dim, prints):
        return "listed with other id_field, embedding_field or metadata_fields"
    if manifest.group_of is None:
        return "listed by an earlier version"
    if settings.source.embedding_dim not in (None, manifest.dim):
        return "listed with another embedding_dim"
    if settings.clustering.n_clusters > manifest.rows:
        return "n_clusters is more than the rows that were listed"
    before = {file["file"]: file["fingerprint"] for file in manifest.files}
    now = dict(zip(names, files.store.map(files.fingerprint, names), strict=True))
    return changes("input files", before, now) or ids_lacking(store, groups_of(settings, manifest))


def _plan_centroids(plan: _Plan, refit: bool) -> None:
    snapshot = plan.snapshot
    if not snapshot.store.exists(layout.CENTROIDS):
        plan.add(CENTROIDS, "not fitted yet")
        return
    if refit:
        plan.add(CENTROIDS, "refit was asked for")
        return
    if stale := _stale_centroids(snapshot):
        plan.add(CENTROIDS, stale)
    elif plan.before(CENTROIDS):  # the dimension is known only when the input is listed
        plan.add(CENTROIDS, f"follows {EMBEDDINGS}; current ones stay")


def _stale_centroids(snapshot: Snapshot) -> str:
    """Why the centroids that are there are not current, as far as the manifest tells."""
    try:
        _ = snapshot.manifest
    except StaleError:
        return ""
    try:
        _ = snapshot.centroids
    except StaleError as error:
        why = str(error).removeprefix(snapshot.store.url(layout.CENTROIDS))
        return why.partition(";")[0].partition(" (")[0].strip()
    return ""


def _plan_clusters(plan: _Plan) -> None:
    keys = tuple(plan.snapshot.ranges)
    for asset, lacking in (
        (CLUSTER_PARTITIONS, _unshuffled_keys),
        (PAIRWISE_SCORES, _unscored_keys),
    ):
        earlier = plan.before(asset)
        if earlier is not None:
            plan.add(asset, f"follows {earlier}", keys, len(keys))
            continue
        found, left = lacking(plan.snapshot)
        if found or left:
            reason = "missing or stale" if found else "files of earlier runs are to be deleted"
            plan.add(asset, reason, keys if left else tuple(found), len(keys))


def _unshuffled_keys(snapshot: Snapshot) -> tuple[list[str], list[str]]:
    """Keys that lack fragments, and files that are to be deleted: of all keys that are whole."""
    settings, store, groups = snapshot.settings, snapshot.store, snapshot.groups
    there = set(store.list(layout.CLUSTERS))
    lacking, current = [], {}
    aside = set(store.list(layout.REJECTED))
    for key, commit in snapshot.found_commits(snapshot.ranges).items():
        whole = resumed_commit(settings, commit, snapshot.base, groups, there, aside)
        if len(whole.groups) < len(groups) or whole != commit:
            lacking.append(key)
        else:
            snapshot.keep_commit(key, whole)
            current[key] = whole
    return lacking, left_over(snapshot, current, there)


def _unscored_keys(snapshot: Snapshot) -> tuple[list[str], list[str]]:
    """Keys that lack scores, and files that are to be deleted."""
    listed = snapshot.store.list_versions(layout.SCORES)
    sizes = {name: size_of(version) for name, version in listed.items()}
    unfinished = unfinished_keys(snapshot.store)
    lacking = []
    for key, ledger in snapshot.found_ledgers(snapshot.ranges).items():
        expected = snapshot.expected([key])
        whole = ledger is not None and all(
            sizes.get(table_name(cluster)) == entry.bytes
            for cluster, entry in ledger.clusters.items()
        )
        current = ledger is not None and len(ledger.current(expected)) == len(expected)
        if not (current and whole) or key in unfinished:
            lacking.append(key)
    return lacking, scores_left_over(snapshot, sizes)


def _plan_unpartitioned(plan: _Plan) -> None:
    for asset, lacking in (
        (MISSED_BY_CLUSTERING, missed_lacking),
        (SIMILARITY_HISTOGRAM, lambda s: "" if found_histogram(s) else "missing or stale"),
    ):
        earlier = plan.before(asset)
        reason = f"follows {earlier}" if earlier is not None else lacking(plan.snapshot)
        if reason:
            plan.add(asset, reason)


def _plan_eps(plan: _Plan, eps: str, *, shards: bool) -> None:
    for asset, lacking in ((DUPLICATE_IDS, lists_lacking), (CURATED_SHARDS, shards_lacking)):
        if asset == CURATED_SHARDS and not shards:
            continue
        reads = plan.snapshot.settings.reads(asset)
        same = {work.keys for work in plan.work.get(DUPLICATE_IDS, ())}
        earlier = next(
            (a for a in reads if a in plan.work and (a != DUPLICATE_IDS or (eps,) in same)),
            None,
        )
        reason = f"follows {earlier}" if earlier is not None else lacking(plan.snapshot, eps)
        if reason:
            plan.add(asset, reason, (eps,), 1)
