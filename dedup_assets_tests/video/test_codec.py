"""Reading and writing files: what is refused, and that a failed write leaves nothing."""

from pathlib import Path

import av
import numpy as np
import pytest

from dedup_assets.video import codec
from dedup_assets.video.codec import sample_frames, write_clip
from dedup_assets.video.errors import ClipError

GREYS = [np.full((32, 48, 3), 20 * k, np.uint8) for k in range(10)]


def _write(path: Path, frames: list[np.ndarray] = GREYS) -> None:
    write_clip(path, frames, fps=10, size=(48, 32), bit_rate=500_000)


def test_samples_lie_at_the_middles_of_equal_spans(tmp_path: Path):
    """Ten frames of 0.1 s, five samples: at 0.1, 0.3, ... s the frames 1, 3, ... are on screen."""
    _write(tmp_path / "a.mp4")
    clip = sample_frames(tmp_path / "a.mp4", 5)
    assert clip.duration_s == pytest.approx(1.0)
    np.testing.assert_allclose(clip.frames.mean(axis=(1, 2, 3)), [20, 60, 100, 140, 180], atol=4)


def test_clip_shorter_than_the_samples_repeats_frames(tmp_path: Path):
    _write(tmp_path / "a.mp4", GREYS[:2])
    clip = sample_frames(tmp_path / "a.mp4", 4)
    np.testing.assert_allclose(clip.frames.mean(axis=(1, 2, 3)), [0, 0, 20, 20], atol=4)


def test_file_that_is_no_video_is_named(tmp_path: Path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"not a video" * 100)
    with pytest.raises(ClipError, match=r"broken\.mp4: cannot be decoded: ") as caught:
        sample_frames(path, 4)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ClipError, match=r"absent\.mp4: cannot be decoded: "):
        sample_frames(tmp_path / "absent.mp4", 4)


def test_file_cut_short_is_named(tmp_path: Path):
    path = tmp_path / "cut.mp4"
    _write(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ClipError, match=r"cut\.mp4: "):
        sample_frames(path, 4)


def test_frames_that_end_early_are_damage_not_a_long_last_frame(tmp_path: Path):
    """With the index in front, a file cut in the middle opens and claims its full duration."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 48, 3), np.uint8)
    _write(whole, list(noise))
    with (
        av.open(whole) as source,
        av.open(cut, "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with pytest.raises(ClipError, match=r"cut\.mp4: (is damaged|cannot be decoded)"):
        sample_frames(cut, 4)


def test_failed_write_leaves_no_file(tmp_path: Path):
    def frames():
        for _ in range(20):  # enough for the encoder to have written something
            yield from GREYS
        raise RuntimeError("drawing failed")

    with pytest.raises(RuntimeError, match="drawing failed"):
        write_clip(tmp_path / "a.mp4", frames(), fps=10, size=(48, 32), bit_rate=500_000)
    assert list(tmp_path.iterdir()) == []


def test_write_into_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(ClipError, match=r"a\.mp4: cannot be written with "):
        _write(tmp_path / "absent" / "a.mp4")


def test_odd_size_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="size=33x20 should be even"):
        write_clip(tmp_path / "a.mp4", GREYS, fps=10, size=(33, 20), bit_rate=500_000)


def test_other_encoder_is_used_where_the_first_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(codec, "ENCODERS", {"no-such-encoder": {}, "mpeg4": {}})
    assert codec.pick_encoder() == "mpeg4"
    _write(tmp_path / "a.mp4")
    assert sample_frames(tmp_path / "a.mp4", 4).frames.shape == (4, 32, 48, 3)


def test_build_without_encoders_says_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(codec, "ENCODERS", {"no-such-encoder": {}})
    with pytest.raises(ClipError, match="none of the encoders no-such-encoder"):
        codec.pick_encoder()
