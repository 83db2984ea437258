"""A ledger that another run rewrites while it is read is refused, not taken under its old name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_assets.errors import StaleError
from dedup_assets.stages import duplicates, histogram, shards
from dedup_assets.stages.scores import score
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets_tests.conftest import make_settings, run_stages, write_inputs


@pytest.mark.parametrize(
    "read",
    [
        lambda snapshot: duplicates.list_duplicates(snapshot, "0.01"),
        histogram.build_histogram,
        lambda snapshot: shards.write_shards(snapshot, "0.01"),
    ],
)
def test_rewritten_after_the_check(
    tmp_path: Path, mixed: np.ndarray, names: list[str], read: Callable[[Snapshot], Any]
):
    write_inputs(tmp_path / "in", names, mixed, files=2)
    hard = make_settings(tmp_path, n_clusters=3, eps_thresholds=["0.01"])
    store = run_stages(hard).store
    for stale in (layout.HISTOGRAM, layout.shard_index("0.01")):
        store.delete(stale)
    snapshot = Snapshot(hard, store)
    assert len(snapshot.ledgers) == 3
    easy = hard.replace(which_to_keep="easy")
    score(Snapshot(easy, store), list(cluster_ranges(easy)))
    with pytest.raises(StaleError, match="rewritten by another run meanwhile"):
        read(snapshot)
