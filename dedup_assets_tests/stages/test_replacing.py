"""What a rerun may replace without being told to."""

from pathlib import Path
from typing import Any

import pytest

from dedup_assets.errors import InputError, SettingsError
from dedup_assets.settings import Settings
from dedup_assets.stages.shards import write_shards
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets_tests.conftest import Results, bytes_of, run_stages, write_inputs
from dedup_assets_tests.stages.test_shards import EPS, IDS, ROWS, media_of, prepare, read_back

FLAGS = ["--replace-shards", "replace_shards: true"]
KINDS: dict[str, dict[str, Any]] = {
    "shards": {"export": "shards"},
    "media": {"export": "media"},
    "index": {"clips_path": None},
}


def again(results: Results, replace: bool = False, **changes: Any) -> bool:
    """Write the shards of other settings; whether those that were there are current."""
    settings = results.settings.replace(**changes)
    return write_shards(Snapshot(settings, results.store), EPS, replace_shards=replace).reused


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [
        ("shards", "index", "give clips_path again"),
        ("media", "index", "give clips_path again"),
        ("shards", "media", "set export to shards"),
        ("media", "shards", "set export to media"),
    ],
)
def test_another_kind_of_export_is_refused_and_changes_nothing(
    tmp_path: Path, before: str, after: str, step: str
):
    config = prepare(tmp_path)
    config = config.replace(**KINDS[before])
    results = run_stages(config)
    files = bytes_of(config.storage.output_path)
    other = {"clips_path": str(tmp_path / "clips"), **KINDS[after]}
    with pytest.raises(SettingsError) as caught:
        again(results, **other)
    for part in (step, results.store.url(layout.shard_index(EPS)), *FLAGS):
        assert part in str(caught.value)
    assert bytes_of(config.storage.output_path) == files
    assert again(results)
    assert not again(results, True, **other)
    assert again(results, **other)


@pytest.mark.parametrize("after", ["shards", "media"])
def test_an_index_without_media_is_replaced_since_nothing_is_lost(tmp_path: Path, after: str):
    results = run_stages(prepare(tmp_path).replace(**KINDS["index"]))
    other = {"clips_path": str(tmp_path / "clips"), **KINDS[after]}
    assert not again(results, **other)
    assert again(results, **other)


def test_kept_clip_whose_media_are_gone_is_refused_by_name(tmp_path: Path):
    config = prepare(tmp_path, without=["v02"], missing_media="skip")
    results = run_stages(config)
    files = bytes_of(config.storage.output_path)
    for id_ in ("v01", "v04"):
        (tmp_path / "clips" / f"{id_}.mp4").unlink()
    says = r"^2 kept clips have media in .*index\.parquet, .* none below .*clips: 'v01', 'v04'; "
    with pytest.raises(InputError, match=says) as caught:
        again(results)
    assert all(flag in str(caught.value) for flag in FLAGS)
    assert bytes_of(config.storage.output_path) == files
    assert not again(results, True)
    assert [s["__key__"] for s in read_back(results)] == [
        i for i in IDS if i not in ("v01", "v02", "v04", "v09")
    ]
    assert again(results)


def test_clips_of_another_folder_that_has_none_of_them_are_refused(tmp_path: Path):
    results = run_stages(prepare(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "stranger.mp4").touch()
    with pytest.raises(InputError, match=r"^9 kept clips have media in"):
        again(results, clips_path=str(tmp_path / "other"), missing_media="skip")


def rerun(config: Settings) -> Results:
    """All stages again, on an output that has a set of shards."""
    assert Path(config.storage.output_path, layout.shard_index(EPS)).exists()
    return run_stages(config)


def test_fewer_kept_clips_are_no_loss(tmp_path: Path):
    config = prepare(tmp_path)
    run_stages(config)
    write_inputs(tmp_path / "in", IDS[:6], ROWS[:6])
    for id_ in IDS[6:]:
        (tmp_path / "clips" / f"{id_}.mp4").unlink()
    assert [s["__key__"] for s in read_back(rerun(config))] == IDS[:6]


def test_new_input_other_clips_and_other_shards_are_no_loss(tmp_path: Path):
    config = prepare(tmp_path, IDS[:8])
    run_stages(config)
    write_inputs(tmp_path / "in", IDS, ROWS)
    for id_ in ("v03", "v08"):
        (tmp_path / "clips" / f"{id_}.mp4").write_bytes(b"another take")
    changed = config.replace(samples_per_shard=2, eps_thresholds=["0.2", EPS])
    samples = read_back(rerun(changed))
    assert [s["__key__"] for s in samples] == IDS[:9]
    assert samples[3]["mp4"] == samples[8]["mp4"] == b"another take"


def test_clip_that_never_had_media_may_go_without(tmp_path: Path):
    config = prepare(tmp_path, without=["v02"], missing_media="skip")
    run_stages(config)
    (tmp_path / "clips" / "v03.mp4").write_bytes(media_of("another"))
    assert not rerun(config).curated[EPS].reused


def test_set_without_samples_is_of_no_kind(tmp_path: Path):
    config = prepare(tmp_path, without=IDS, missing_media="skip")
    (tmp_path / "clips" / "stranger.mp4").touch()
    results = run_stages(config)
    assert results.curated[EPS].index.num_rows == 0
    assert not again(results, clips_path=None)


def test_lost_tar_is_written_again_without_a_word(tmp_path: Path):
    results = run_stages(prepare(tmp_path))
    files = bytes_of(results.settings.storage.output_path)
    results.store.delete(f"{layout.shards(EPS)}/{results.curated[EPS].shards[0]}")
    assert not again(results)
    assert bytes_of(results.settings.storage.output_path) == files
