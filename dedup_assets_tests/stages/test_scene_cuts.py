"""Videos that are cut between scenes: what is written, what is done again, what is refused."""

import uuid
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from dedup_assets.settings.videos import Videos
from dedup_assets.stages.splitting import check_cutting, plan
from dedup_assets.stages.videos import list_videos
from dedup_assets.video.errors import SceneError
from dedup_assets_tests.stages.video_folders import Done, Folders, names_to_do
from dedup_assets_tests.video.movies import coloured, regular
from dedup_assets_tests.video.networks import write_network

RATE = Fraction(10)
SHORT = {"transnetv2_min_length_frames": 0, "transnetv2_crop_s": 0.2}


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def add(folders: Folders, name: str, frames: int, cuts: list[int]) -> Path:
    return regular(folders.videos / name, frames, RATE, paint=coloured(cuts))


def settings(folders: Folders, algorithm: str) -> dict[str, Any]:
    if algorithm == "content":
        pytest.importorskip("scenedetect", reason="needs scenedetect: pip install '.[scenes]'")
        return {"splitting_algorithm": algorithm, **SHORT}
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install '.[transnetv2]'")
    model = write_network(folders.out.parent / "network")
    return {"splitting_algorithm": algorithm, "splitting_model_dir": str(model), **SHORT}


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [("content", [(2, 28), (32, 58)]), ("transnetv2", [(2, 28), (33, 57)])],
)
def test_clips_of_scenes_are_named_after_their_frames(
    folders: Folders, algorithm: str, expected: list[tuple[int, int]]
):
    path = add(folders, "a.mp4", 60, [30])
    how = settings(folders, algorithm)
    assert folders.split(**how) == Done(1, 1, 2, {})
    rows = sorted(folders.rows(), key=lambda row: row["span_start"])
    ids = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"{path}_{a}_{b}")) for a, b in expected]
    assert [row["id"] for row in rows] == ids
    assert [(row["span_start"], row["span_end"]) for row in rows] == [
        (first / 10, last / 10) for first, last in expected
    ]
    assert all((folders.out / f"clips/{id_}.mp4").exists() for id_ in ids)
    assert folders.split(**how) == Done(1, 0, 2, {})


def test_a_video_without_a_long_scene_is_done_and_has_no_clip(folders: Folders):
    how = settings(folders, "content")
    add(folders, "short.mp4", 10, [])
    add(folders, "one.mp4", 1, [])
    add(folders, "long.mp4", 40, [])
    assert folders.split(**how) == Done(3, 3, 1, {})
    assert folders.split(**how) == Done(3, 0, 1, {})


def test_nothing_is_written_without_weights(folders: Folders):
    add(folders, "a.mp4", 40, [])
    common = folders.common(splitting_algorithm="transnetv2")
    with pytest.raises(SceneError, match="--splitting-model-dir"):
        check_cutting(common, plan(common, list_videos(common)).todo)
    assert not folders.out.exists()


def test_settings_of_another_algorithm_have_nothing_done_again(folders: Folders):
    how = settings(folders, "content")
    add(folders, "a.mp4", 60, [30])
    folders.split(**how)
    other = {"fixed_stride_split_duration": 3.0, "transnetv2_threshold": 0.9}
    assert names_to_do(folders.common(**how, **other)) == []
    assert names_to_do(folders.common(**how, content_threshold=20.0)) == ["a.mp4"]
    assert names_to_do(folders.common(**how, transnetv2_max_length_s=20.0)) == ["a.mp4"]
    assert names_to_do(folders.common()) == ["a.mp4"]


@pytest.mark.parametrize(
    ("algorithm", "counted"),
    [
        ("fixed_stride", {"fixed_stride_split_duration"}),
        ("content", {"content_threshold", "transnetv2_crop_s"}),
        ("transnetv2", {"transnetv2_threshold", "transnetv2_crop_s", "splitting_model_dir"}),
    ],
)
def test_what_decides_a_clip_counts(algorithm: str, counted: set[str]):
    changed: dict[str, Any] = {
        "fixed_stride_split_duration": 9.0,
        "content_threshold": 9.0,
        "transnetv2_crop_s": 0.1,
        "transnetv2_threshold": 0.9,
        "splitting_model_dir": "/m",
    }
    plain = Videos(splitting_algorithm=algorithm).how  # type: ignore[arg-type]
    for name, value in changed.items():
        how = Videos(splitting_algorithm=algorithm, **{name: value}).how  # type: ignore[arg-type]
        assert (how != plain) == (name in counted), name
