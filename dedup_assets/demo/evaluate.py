"""How well a deduplication of the demo's clips agrees with the truth about them."""

from collections import defaultdict
from dataclasses import dataclass

import pyarrow as pa

from dedup_assets.demo.truth import DUPLICATE_KINDS, KINDS, LOOKALIKE

TOTAL = "total"


@dataclass(frozen=True)
class KindResult:
    """Counts for the clips of one kind, or for all (`kind == TOTAL`)."""

    kind: str
    n: int
    """Clips of this kind."""
    n_duplicates: int
    """Those that are near-duplicates and ought to be found: all or none, except in the total."""
    found: int
    """Near-duplicates found."""
    removed: int
    """Clips of this kind that were removed."""
    removed_correctly: int
    """Of those, the ones that matched a clip of their own group."""

    @property
    def removed_wrongly(self) -> int:
        return self.removed - self.removed_correctly

    @property
    def recall(self) -> float | None:
        """found / n_duplicates; None where there is nothing to find."""
        return self.found / self.n_duplicates if self.n_duplicates else None

    @property
    def precision(self) -> float | None:
        """removed_correctly / removed; None where nothing was removed."""
        return self.removed_correctly / self.removed if self.removed else None


def recall_and_precision(truth: pa.Table, removed_pairs: pa.Table) -> list[KindResult]:
    """Judge removals: one result per kind in the order of `KINDS`, then the total.

    `truth` is in `TRUTH_SCHEMA`. `removed_pairs` has the columns `id`, `max_id` and
    `cosine_sim_score`: a clip to remove and the clip it matched, once per removed clip.

    - A **group** is an original with its near-duplicates; every look-alike is a group of its own.
      The ideal result keeps exactly one clip of each group.
    - A **removal is correct** iff `id` and `max_id` belong to one group. Precision is the share of
      correct removals among those whose `id` is of the kind.
    - A **near-duplicate is found** iff correct removals, taken as undirected edges id - max_id,
      connect it to its group's original, over one edge or several. The direction does not count,
      because the ranking, and not the likeness, decides which side of a pair is kept: it may well
      be the original that goes. Recall is the share found among the kind's near-duplicates.
      Near-duplicates that match only one another are correct removals but not found, since the
      original and one of them both stay.

    Originals and look-alikes have no recall. A removed look-alike is always a false removal; a
    clip removed for a look-alike is a false removal of its own kind.
    """
    groups = _groups(truth)
    kinds: dict[str, str] = dict(
        zip(truth["id"].to_pylist(), truth["kind"].to_pylist(), strict=True)
    )
    pairs: list[tuple[str, str]] = list(
        zip(removed_pairs["id"].to_pylist(), removed_pairs["max_id"].to_pylist(), strict=True)
    )
    _check_pairs(pairs, groups)
    correct = [(a, b) for a, b in pairs if a != b and groups[a] == groups[b]]
    reached = _connected(correct, set(groups.values()))
    found = {i for i, kind in kinds.items() if kind in DUPLICATE_KINDS and i in reached}
    removed_ids, correct_ids = {a for a, _ in pairs}, {a for a, _ in correct}

    def result(name: str, members: set[str]) -> KindResult:
        return KindResult(
            kind=name,
            n=len(members),
            n_duplicates=sum(kinds[i] in DUPLICATE_KINDS for i in members),
            found=len(members & found),
            removed=len(members & removed_ids),
            removed_correctly=len(members & correct_ids),
        )

    by_kind = [result(name, {i for i, kind in kinds.items() if kind == name}) for name in KINDS]
    return [*by_kind, result(TOTAL, set(kinds))]


def _groups(truth: pa.Table) -> dict[str, str]:
    """The group of each id, named by its original, or by itself for a look-alike."""
    columns = (truth[name].to_pylist() for name in ("id", "kind", "source_id"))
    return {i: i if kind == LOOKALIKE else source for i, kind, source in zip(*columns, strict=True)}


def _check_pairs(pairs: list[tuple[str, str]], known: dict[str, str]) -> None:
    seen: set[str] = set()
    for removed, match in pairs:
        for name in (removed, match):
            if name not in known:
                raise ValueError(f"removed_pairs: id {name!r} is not in the truth table.")
        if removed in seen:
            raise ValueError(f"removed_pairs: id {removed!r} should occur once, occurs again.")
        seen.add(removed)


def _connected(edges: list[tuple[str, str]], starts: set[str]) -> set[str]:
    """The ids that undirected `edges` connect to any of `starts`, which are included."""
    neighbours: dict[str, list[str]] = defaultdict(list)
    for a, b in edges:
        neighbours[a].append(b)
        neighbours[b].append(a)
    reached, open_ = set(starts), list(starts)
    while open_:
        fresh = [i for i in neighbours[open_.pop()] if i not in reached]
        reached.update(fresh)
        open_.extend(fresh)
    return reached
