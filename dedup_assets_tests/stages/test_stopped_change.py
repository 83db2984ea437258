"""A run with other settings is stopped half-way; then the first settings are run again.

What the first run has left is still there and its fingerprint is current, so what belongs to it
must not be that of the stopped run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_assets.settings import Settings
from dedup_assets.stages.histogram import build_histogram
from dedup_assets.stages.shards import write_shards
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets_tests.conftest import bytes_of, make_settings, run_stages, write_inputs

EPS = "0.01"


@pytest.fixture
def settings(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> Settings:
    """Every other clip has no media file."""
    write_inputs(tmp_path / "in", names, mixed)
    (tmp_path / "clips").mkdir()
    for name in names[::2]:
        (tmp_path / "clips" / f"{name}.mp4").write_bytes(name.encode())
    return make_settings(
        tmp_path,
        n_clusters=2,
        eps_thresholds=[EPS],
        clips_path=str(tmp_path / "clips"),
        missing_media="skip",
    )


def stop_before(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Store.write

    def stopping(store: Store, written: str) -> Any:
        if written == name:
            raise KeyboardInterrupt
        return write(store, written)

    monkeypatch.setattr(Store, "write", stopping)


@pytest.mark.parametrize(
    ("step", "stopped_before"),
    [
        (lambda s, store: build_histogram(Snapshot(s, store)), layout.HISTOGRAM),
        (lambda s, store: write_shards(Snapshot(s, store), EPS), layout.shard_index(EPS)),
    ],
    ids=["histogram", "shards"],
)
def test_what_a_stopped_change_has_written_does_not_stay(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    step: Callable[[Settings, Store], Any],
    stopped_before: str,
):
    store = run_stages(settings).store
    build_histogram(Snapshot(settings, store))
    before = bytes_of(store.root)
    assert layout.missing_media(EPS) in before
    other = settings.replace(which_to_keep="easy", n_clusters=3)
    run_stages(other, curate=False)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_before(stopped_before, patch)
        step(other, store)
    run_stages(settings)
    build_histogram(Snapshot(settings, store))
    assert bytes_of(store.root) == before
