"""A table that another run rewrites while it is read is refused, not taken under its old name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_assets.errors import StaleError
from dedup_assets.settings import Settings
from dedup_assets.stages import duplicates, histogram, shards
from dedup_assets.stages.ranges import cluster_ranges
from dedup_assets.stages.scores import score
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets_tests.conftest import make_settings, run_stages, write_inputs


@pytest.mark.parametrize(
    ("module", "check", "read"),
    [
        (duplicates, "current_scores", lambda s, o: duplicates.list_duplicates(s, o, "0.01")),
        (histogram, "current_scores", histogram.build_histogram),
        (shards, "current_duplicates", lambda s, o: shards.write_shards(s, o, "0.01")),
    ],
)
def test_rewritten_after_the_check(
    tmp_path: Path,
    mixed: np.ndarray,
    names: list[str],
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    check: str,
    read: Callable[[Settings, Store], Any],
):
    write_inputs(tmp_path / "in", names, mixed, files=2)
    hard = make_settings(tmp_path, n_clusters=3, eps_thresholds=["0.01"])
    run_stages(hard)
    store = Store(hard.output_path)
    for stale in (layout.HISTOGRAM, layout.shard_index("0.01")):
        store.delete(stale)
    for name in store.list(layout.unique_ids("0.01")) if module is duplicates else ():
        store.delete(f"{layout.unique_ids('0.01')}/{name}")
    real = getattr(module, check)

    def then_rewritten(*arguments: Any) -> Any:
        clusters = real(*arguments)
        easy = hard.model_copy(update={"which_to_keep": "easy"})
        score(easy, store, list(cluster_ranges(easy)))
        return clusters

    monkeypatch.setattr(module, check, then_rewritten)
    with pytest.raises(StaleError, match="rewritten by another run meanwhile"):
        read(hard, store)
