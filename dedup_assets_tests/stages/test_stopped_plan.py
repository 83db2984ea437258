"""A plan sees what a stopped run has left: a run of what it names ends as one left alone does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_assets.settings import Settings
from dedup_assets.stages.plan import plan_work
from dedup_assets.store import layout
from dedup_assets_tests.conftest import bytes_of, make_settings, write_inputs
from dedup_assets_tests.stages.history.runs import (
    Acts,
    Killed,
    Watched,
    draw_quickly,
    run_all,
    run_planned,
    watch_acts,
)

EPS = "0.3"


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    watched = Watched()
    with monkeypatch.context() as patch:
        watch_acts(patch, watched)
        draw_quickly(patch)
        yield watched


def run_until(settings: Settings, watched: Watched, moment: str) -> None:
    """Run until a write or deletion whose name begins so."""
    watched.acts = Acts(deadly=moment, by_prefix=True)
    with pytest.raises(Killed):
        run_all(settings)
    watched.acts = Acts()


@pytest.mark.parametrize(
    ("change", "moment"),
    [
        ({"n_clusters": 2}, f"before deleting {layout.ID_HASHES}/"),
        ({"n_clusters": 2}, f"before deleting {layout.CLUSTERS}/"),
        ({"n_clusters": 2}, f"before deleting {layout.REJECTED}/"),
        ({"n_clusters": 2}, f"before deleting {layout.PARTITIONS}/"),
        ({"n_clusters": 2}, f"before deleting {layout.SCORES}/"),
        ({"n_clusters": 2}, f"before deleting {layout.SCORE_LEDGERS}/"),
        ({"n_clusters": 2}, f"before deleting {layout.shards(EPS)}/"),
        ({}, f"after writing {layout.partition_commit('0')}"),
    ],
)
def test_files_that_a_stopped_run_was_to_delete_are_deleted(
    tmp_path: Path,
    mixed: np.ndarray,
    names: list[str],
    watched: Watched,
    change: dict[str, Any],
    moment: str,
):
    mixed[0] = mixed[-1] = 0
    write_inputs(tmp_path / "in", names, mixed, files=3)
    (tmp_path / "clips").mkdir()
    for name in names:
        (tmp_path / "clips" / f"{name}.mp4").write_bytes(name.encode())
    before = make_settings(
        tmp_path,
        n_clusters=4,
        clusters_per_partition=1,
        files_per_partition=1,
        on_invalid="quarantine",
        eps_thresholds=[EPS],
        eps_to_extract=EPS,
        clips_path=str(tmp_path / "clips"),
    )
    run_all(before)
    alone = before.replace(output_path=str(tmp_path / "alone"))
    run_all(alone)
    (tmp_path / "in" / "000.parquet").unlink()
    run_all(alone.replace(**change))
    settings = before.replace(**change)
    run_until(settings, watched, moment)
    run_planned(settings)
    assert plan_work(settings, settings.storage.open_output()) == []
    assert bytes_of(settings.storage.output_path) == bytes_of(alone.storage.output_path)


@pytest.fixture
def pair(tmp_path: Path) -> Settings:
    """Two clips, one of which is removed; which one depends on the ranking; one has no media."""
    write_inputs(tmp_path / "in", ["a", "b"], np.float32([[1, 0], [1, 0.5]]))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"film")
    return make_settings(
        tmp_path,
        n_clusters=1,
        rank_by=["id:asc"],
        eps_thresholds=[EPS],
        eps_to_extract=EPS,
        clips_path=str(tmp_path / "clips"),
        missing_media="skip",
    )


@pytest.mark.parametrize(
    ("written", "stopped_before"),
    [
        (layout.scores(0), layout.score_ledger("0")),
        (layout.unique_ids_part(EPS, 0), layout.list_ledger(EPS)),
    ],
)
def test_what_a_stopped_change_has_written_in_the_same_size_does_not_stay(
    pair: Settings, watched: Watched, written: str, stopped_before: str
):
    run_all(pair)
    before = bytes_of(pair.storage.output_path)
    other = pair.replace(rank_by=["id:desc"])
    run_until(other, watched, f"before writing {stopped_before}")
    after = bytes_of(pair.storage.output_path)
    assert after[written] != before[written]
    assert len(after[written]) == len(before[written])
    run_planned(pair)
    assert bytes_of(pair.storage.output_path) == before
    assert plan_work(pair, pair.storage.open_output()) == []


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("export", ["shards", "media"])
def test_a_lost_or_cut_file_of_a_set_is_written_again(pair: Settings, export: str, cut: bool):
    settings = pair.replace(export=export)
    run_all(settings)
    before = bytes_of(pair.storage.output_path)
    suffix = ".tar" if export == "shards" else ".mp4"
    name = next(name for name in before if name.endswith(suffix))
    path = Path(pair.storage.output_path, name)
    path.unlink()
    if cut:
        path.write_bytes(before[name][:3])
    (work,) = run_planned(settings)
    lost = "1 of its shards are lost" if export == "shards" else "1 of its samples are lost"
    assert work.reason == lost
    assert bytes_of(pair.storage.output_path) == before


def test_list_of_missing_media_of_a_stopped_change_does_not_stay(pair: Settings, watched: Watched):
    eps = "0.01"
    settings = pair.replace(eps_thresholds=[eps], eps_to_extract=eps)
    run_all(settings)
    before = bytes_of(pair.storage.output_path)
    assert layout.missing_media(eps) in before
    more = Path(str(pair.source.clips_path), "b.mp4")
    more.write_bytes(b"another film")
    run_until(settings, watched, f"before writing {layout.shard_index(eps)}")
    assert layout.missing_media(eps) not in bytes_of(pair.storage.output_path)
    more.unlink()
    run_planned(settings)
    assert bytes_of(pair.storage.output_path) == before
