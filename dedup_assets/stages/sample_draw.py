"""Which rows are sampled: those of lowest hash, found from an earlier sample where it suffices."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from dedup_assets.engine import Common, run_tasks
from dedup_assets.progress import Advance, track
from dedup_assets.settings import Settings
from dedup_assets.stages.machine import engine_of
from dedup_assets.stages.memory import cut
from dedup_assets.stages.sample_rows import Fragment, count, read_fragments
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import schemas
from dedup_assets.store.arrow import hash_ids

SEED_OFFSET = 0x6D697373656421
"""Added to ``random_state``. The hash of ``random_state`` itself chose the rows that k-means was
fitted on, and these lie closer to their centroids than others do."""

NO_GROUP = -1
"""The group of a partner where there is none."""

_ID_ROWS = 1 << 18
_ROWS_OF_A_TASK = 1 << 22


@dataclass(frozen=True)
class Former:
    """What an earlier comparison says of the groups that are still there.

    Attributes:
        groups: their numbers.
        table: its rows that lie in them: those of `schemas.missed`, and ``group``,
            ``within_group`` and ``across_group``, the number of the group of the row and of each
            partner: `NO_GROUP` if there is none, null if it is gone.
        last: hash and id of the last row of its sample; None if it held all rows.
    """

    groups: frozenset[int]
    table: pa.Table
    last: tuple[int, Any] | None

    def sample(self, settings: Settings) -> pa.Table:
        """The rows as `draw` handles them."""
        ids = self.table[schemas.ID]
        return _candidates(
            hash_ids(ids, _seed(settings)),
            ids.combine_chunks(),
            self.table["cluster"].to_numpy(),
            self.table["group"].to_numpy(),
        )

    def bounds(self, sample: pa.Table, size: int) -> bool:
        """Whether no row of its groups outside ``table`` belongs to a sample that has others."""
        if self.last is None:
            return True
        if len(sample) < size:
            return False
        return (sample["hash"][-1].as_py(), sample["id"][-1].as_py()) <= self.last


def _seed(settings: Settings) -> int:
    return settings.clustering.random_state + SEED_OFFSET


def last_in_order(settings: Settings, ids: pa.ChunkedArray) -> tuple[int, Any]:
    """Hash and id of the row that is drawn last of some."""
    hashes = hash_ids(ids, _seed(settings)).tolist()
    return max(zip(hashes, ids.to_pylist(), strict=True))


def draw(snapshot: Snapshot, fragments: list[Fragment], size: int, former: Former) -> pa.Table:
    """The ``size`` rows whose hash is lowest, or all if fewer, by cluster and id.

    Columns ``id``, ``cluster`` and ``group``. The ids of kept groups are read only where a row
    that was not in the earlier sample may have come into it.
    """
    new = [f for f in fragments if f.group not in former.groups]
    drawn = _lowest_of(snapshot, new, size)
    sample = _lowest([former.sample(snapshot.settings), drawn], size)
    if not former.bounds(sample, size):
        kept = [f for f in fragments if f.group in former.groups]
        sample = _lowest([_lowest_of(snapshot, kept, size), drawn], size)
    order = [("cluster", "ascending"), ("id", "ascending")]
    return sample.sort_by(order).select(["id", "cluster", "group"]).combine_chunks()


def _lowest_of(snapshot: Snapshot, fragments: Sequence[Fragment], size: int) -> pa.Table:
    nothing = pa.array([], snapshot.manifest.id_type)
    drawn = [_candidates(np.empty(0, dtype=np.uint64), nothing, 0, 0)]
    with track("sampling", count(fragments), "rows") as advance:
        for found in run_tasks(
            engine_of(snapshot.settings),
            _draw_from,
            _Drawing(snapshot, size),
            cut(fragments, _ROWS_OF_A_TASK),
            advance,
            weight=count,
            computes=False,
        ):
            drawn = [_lowest([*drawn, *found], size)]
    return drawn[0]


@dataclass(frozen=True)
class _Drawing(Common):
    """What the tasks of drawing have in common."""

    snapshot: Snapshot
    size: int


def _draw_from(
    common: _Drawing, tasks: Iterable[list[Fragment]], advance: Advance
) -> Iterator[pa.Table]:
    """Of each task the rows of its fragments that may be among those of lowest hash."""
    snapshot, size = common.snapshot, common.size
    seed, budget = _seed(snapshot.settings), snapshot.settings.compute.memory_budget // 8
    limit = np.uint64(2**64 - 1)
    for fragments in tasks:
        drawn: list[pa.Table] = []
        held = 0
        read = read_fragments(snapshot.store, fragments, [schemas.ID], _ID_ROWS, budget)
        for fragment, batches in zip(fragments, read, strict=True):
            for batch in batches:
                ids = batch.column(0)
                hashes = hash_ids(ids, seed)
                low = np.flatnonzero(hashes <= limit)
                chosen = ids.take(pa.array(low))
                drawn.append(_candidates(hashes[low], chosen, fragment.cluster, fragment.group))
                held += len(low)
                if held > 2 * size:
                    drawn, held = [_lowest(drawn, size)], size
                    limit = drawn[0]["hash"].to_numpy()[-1]
                advance(len(ids))
        yield _lowest(drawn, size)


def _candidates(hashes: np.ndarray, ids: pa.Array, cluster: Any, group: Any) -> pa.Table:
    """Rows that may be drawn; cluster and group are those of each, or of all."""
    places = {"cluster": cluster, "group": group}
    numbers = {name: np.full(len(ids), of, dtype=np.int64) for name, of in places.items()}
    return pa.table({"hash": hashes, "id": ids, **numbers})


def _lowest(parts: list[pa.Table], size: int) -> pa.Table:
    # Two ids will hardly share a hash, but nothing may depend on the order of the files.
    order = [("hash", "ascending"), ("id", "ascending")]
    return pa.concat_tables(parts).sort_by(order).slice(0, size).combine_chunks()
