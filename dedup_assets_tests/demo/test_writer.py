"""Writing videos: what is refused, and that a failed write leaves nothing."""

from pathlib import Path

import av
import numpy as np
import pytest

from dedup_assets.demo import writer
from dedup_assets.demo.writer import open_video
from dedup_assets.video.errors import ClipError

GREYS = [np.full((32, 48, 3), 20 * k, np.uint8) for k in range(10)]


def _write(path: Path, size: tuple[int, int] = (48, 32)) -> None:
    with open_video(path, fps=10, size=size, bit_rate=500_000) as write:
        for frame in GREYS:
            write(frame)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    _write(tmp_path / "a.mp4", (96, 64))
    with av.open(tmp_path / "a.mp4") as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert {frame.shape for frame in frames} == {(64, 96, 3)}
    np.testing.assert_allclose([f.mean() for f in frames], range(0, 200, 20), atol=4)


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="drawing failed"),
        open_video(tmp_path / "a.mp4", fps=10, size=(48, 32), bit_rate=500_000) as write,
    ):
        for _ in range(20):  # enough for the encoder to have written something
            for frame in GREYS:
                write(frame)
        raise RuntimeError("drawing failed")
    assert list(tmp_path.iterdir()) == []


def test_write_into_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"a\.mp4: cannot be written with "):
        _write(tmp_path / "absent" / "a.mp4")


def test_odd_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="size=33x20 should be even"):
        _write(tmp_path / "a.mp4", (33, 20))


def test_build_without_the_encoder_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ENCODER", "no-such-encoder")
    with pytest.raises(ClipError, match="lacks no-such-encoder; install the wheel"):
        _write(tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []
