"""Damaged files by seed: each is either split as a whole or refused in one line."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dedup_assets.video.apart import Splitter
from dedup_assets.video.cut import Cutting, prepared_file
from dedup_assets.video.detectors import SceneCuts
from dedup_assets.video.errors import ClipError
from dedup_assets.video.sampling import Sampling
from dedup_assets.video.scenes import SceneRules
from dedup_assets.video.spans import FixedStride
from dedup_assets_tests.video.movies import regular
from dedup_assets_tests.video.networks import content_cuts, transnet

STRIDE = FixedStride(0.3, None, 0.1)
RULES = SceneRules(minimum_s=0, minimum_frames=0, crop_s=0)


def _boxes(data: bytes) -> list[bytes]:
    """The top-level boxes of an mp4."""
    boxes, at = [], 0
    while at + 8 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        boxes.append(data[at : at + size])
        at += size
    return boxes


def _damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(whole)
    match rng.integers(4):
        case 0:  # anywhere
            for _ in range(rng.integers(1, 20)):
                data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        case 1:  # in the index, where lengths and counts are
            start = whole.index(b"moov")
            for _ in range(rng.integers(1, 8)):
                data[rng.integers(start, len(data))] = rng.integers(256)
        case 2:
            del data[rng.integers(len(data)) :]
        case _:
            boxes = _boxes(whole)
            data = bytearray(b"".join(boxes[k] for k in rng.permutation(len(boxes))))
            data[rng.integers(len(data))] ^= 255
    return bytes(data)


def _wholes(folder: Path) -> Iterator[bytes]:
    for name, options in {
        "h264": {"codec": "libx264", "options": {"bf": "2", "g": "6"}},
        "sound": {"codec": "libx264", "audio": "aac"},
        "mpeg4": {"codec": "mpeg4"},
        "vp9": {"codec": "libvpx-vp9"},
    }.items():
        yield regular(folder / f"{name}.mp4", 16, **options).read_bytes()  # type: ignore[arg-type]


def _try_all(
    folder: Path, count: int, splitting: FixedStride | SceneCuts = STRIDE
) -> tuple[int, int]:
    """How many of so many damaged files were split, and how many refused."""
    cutting = Cutting(splitting, sampling=Sampling(2, 2))
    wholes = list(_wholes(folder))
    path, clips = folder / "damaged.mp4", folder / "clips"
    fine = 0
    with Splitter(1, timeout_s=20) as splitter:
        for seed in range(count):
            path.write_bytes(_damaged(wholes[seed % len(wholes)], np.random.default_rng(seed)))
            try:
                split = splitter.split(path, clips, cutting)
            except ClipError as error:
                assert str(error).startswith(f"{path}: "), (seed, str(error))
                assert "\n" not in str(error), seed
                assert not list(clips.glob("*")), seed
                continue
            fine += 1
            assert sorted(clips.glob("*.mp4")) == [clip.file for clip in split.clips], seed
            for clip in split.clips:
                assert clip.frames > 0 and clip.prepared.shape[0] == 2, seed
                clip.file.unlink()
                prepared_file(clip.file).unlink()
            assert not list(clips.iterdir()), seed
    return fine, count - fine


def test_damaged_files_are_split_or_refused(tmp_path: Path):
    fine, refused = _try_all(tmp_path, 60)
    assert fine and refused


@pytest.mark.parametrize("algorithm", ["content", "transnetv2"])
def test_scenes_of_damaged_files_are_found_or_refused(tmp_path: Path, algorithm: str):
    detector = content_cuts() if algorithm == "content" else transnet(tmp_path)
    fine, refused = _try_all(tmp_path, 60, SceneCuts(detector, RULES))
    assert fine and refused


@pytest.mark.slow
def test_a_thousand_damaged_files(tmp_path: Path):
    fine, refused = _try_all(tmp_path, 1000)
    assert fine and refused
