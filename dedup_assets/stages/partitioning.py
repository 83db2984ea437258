"""The shuffle: one pass over the input that leaves each row in a fragment of its cluster."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from dedup_assets.compute.threads import in_threads
from dedup_assets.engine import run_tasks
from dedup_assets.progress import track
from dedup_assets.stages.machine import engine_of
from dedup_assets.stages.shuffle_groups import Shuffling, Task, shuffle_groups
from dedup_assets.state.commits import (
    Commit,
    count_rejected,
    fragment_name,
    resumed_commit,
    write_commit,
)
from dedup_assets.state.ranges import clusters_of
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout

_COMMITS_AT_ONCE = 2


@dataclass(frozen=True)
class Shuffled:
    """What a shuffle did.

    Attributes:
        commits: the state of each asked key.
        groups: groups of the input; ``reused``: how many of them nothing had to be done for.
        rows_read: rows of the other groups; ``bytes_read``: of their files.
        rejected: invalid rows of the whole input.
        spilled_bytes: rows that went through scratch files.
        removed: stale files deleted; ``obsolete``: partition keys no longer in use.
        base: what all fragments have in common; ``fingerprint``: that, and the groups.
    """

    commits: dict[str, Commit]
    groups: int
    reused: int
    rows_read: int
    bytes_read: int
    rejected: int
    spilled_bytes: int
    removed: int
    obsolete: list[str]
    base: str
    fingerprint: str

    @property
    def fragments(self) -> int:
        """Fragments of the asked keys, whichever run wrote them."""
        return sum(len(commit.fragments) for commit in self.commits.values())


def shuffle(snapshot: Snapshot, keys: list[str], *, background: bool = True) -> Shuffled:
    """Write the fragments of the clusters of ``keys``, group by group.

    Each finished group is recorded in the commit of each key, so a run that was stopped goes on
    after the last finished group, and only new groups are read when input is added.

    Args:
        snapshot: what is written goes to its store.
        keys: partition keys.
        background: whether threads read ahead and write behind; it changes nothing written.

    Raises:
        InputError: an invalid row (unless quarantined).
        StaleError: centroids or manifest are missing or stale, or a file changed.
    """
    settings, store = snapshot.settings, snapshot.store
    clusters_of(settings, keys)
    manifest, groups = snapshot.manifest, snapshot.groups
    _ = snapshot.centroids  # or each worker would say that they are missing
    there = set(store.list(layout.CLUSTERS))
    aside = set(store.list(layout.REJECTED))
    found = snapshot.found_commits(keys)
    commits = {
        key: resumed_commit(settings, commit, snapshot.base, groups, there, aside)
        for key, commit in found.items()
    }
    todo = [g for g in groups if any(g.name not in c.groups for c in commits.values())]
    for key, commit in commits.items():
        if commit != found[key] and len(commit.groups) == len(groups):  # some only went
            write_commit(store, key, commit)
    tasks = [Task(g, [k for k, c in commits.items() if g.name not in c.groups]) for g in todo]
    spilled = 0
    with track("partitioning", manifest.rows, "rows") as advance:
        advance(manifest.rows - sum(group.rows for group in todo))
        for finished in run_tasks(
            engine_of(settings),
            shuffle_groups,
            Shuffling(snapshot, background),
            tasks,
            advance,
            weight=lambda task: task.group.rows,
        ):
            changed = [key for done in finished for key in done.fragments]
            for done in finished:
                done.enter(commits)
                spilled += done.spilled_bytes
            in_threads(
                lambda key: write_commit(store, key, commits[key]),
                sorted(set(changed)),
                store.threads(_COMMITS_AT_ONCE),
                lambda key, nothing: None,
            )
    stale = left_over(snapshot, commits)
    for name in stale:
        store.delete(name)
    return Shuffled(
        commits=commits,
        groups=len(groups),
        reused=len(groups) - len(todo),
        rows_read=sum(group.rows for group in todo),
        bytes_read=sum(group.bytes for group in todo),
        rejected=count_rejected(store, groups),
        spilled_bytes=spilled,
        removed=len(stale),
        obsolete=[
            name.removeprefix(f"{layout.PARTITIONS}/").removesuffix(".parquet")
            for name in stale
            if name.startswith(f"{layout.PARTITIONS}/")
        ],
        base=snapshot.base,
        fingerprint=snapshot.shuffled,
    )


def left_over(
    snapshot: Snapshot, commits: dict[str, Commit], fragments: Iterable[str] | None = None
) -> list[str]:
    """Files of earlier runs that nothing names any more; deleted after the commits are written.

    Args:
        snapshot: of the output.
        commits: of some keys; fragments of the clusters of other keys are left alone.
        fragments: what lies below `layout.CLUSTERS`, if that was listed already.
    """
    store = snapshot.store
    stale = [
        layout.partition_commit(key)
        for name in store.list(layout.PARTITIONS)
        if (key := name.removesuffix(".parquet")) not in snapshot.ranges
    ]
    there = store.list(layout.CLUSTERS) if fragments is None else fragments
    stale += _stale_fragments(snapshot, commits, there)
    current = {f"{group.name}.parquet" for group in snapshot.groups}
    aside = store.list(layout.REJECTED)
    return stale + [f"{layout.REJECTED}/{name}" for name in aside if name not in current]


def _stale_fragments(
    snapshot: Snapshot, commits: dict[str, Commit], fragments: Iterable[str]
) -> Iterator[str]:
    settings = snapshot.settings
    named = {fragment_name(f) for commit in commits.values() for f in commit.fragments}
    ours = np.zeros(settings.clustering.n_clusters, dtype=bool)
    for key in commits:
        ours[snapshot.ranges[key]] = True
    for name in fragments:
        cluster = layout.number_in(name.split("/")[0], "nearest_cent=")
        if cluster is None or name in named:
            continue
        if cluster >= settings.clustering.n_clusters or ours[cluster]:
            yield f"{layout.CLUSTERS}/{name}"
