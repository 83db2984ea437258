"""Which encoders are taken, which are refused, and the way through a command."""

import os
import shutil
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from dedup_assets.video import encoders
from dedup_assets.video.apart import Splitter
from dedup_assets.video.cut import Cutting, split_video
from dedup_assets.video.encoders import Encoder, check_encoder
from dedup_assets.video.errors import ClipError
from dedup_assets.video.sampling import Sampling
from dedup_assets.video.spans import FixedStride
from dedup_assets_tests.video.movies import regular, shown

STRIDE = FixedStride(1, None, 0.3)
#: A command with ffmpeg's options that this package uses, made of PyAV.
FAKE = """#!{python}
import sys
import av
arguments = sys.argv[1:]
if "-encoders" in arguments:
    print(" V....D libopenh264    stands in for it")
    sys.exit()
if {status}:
    sys.exit("Conversion failed!")
with av.open(sys.stdin.buffer, format="nut") as source, av.open(arguments[-1], "w") as target:
    stream = None
    for frame in source.decode(video=0):
        if stream is None:
            stream = target.add_stream("libx264", rate=30, options={{"bf": "0"}})
            stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            stream.time_base = stream.codec_context.time_base = frame.time_base
        target.mux(stream.encode(frame))
    target.mux(stream.encode(None))
"""


def _fake(folder: Path, monkeypatch: pytest.MonkeyPatch, status: int = 0) -> None:
    command = folder / "bin" / "ffmpeg"
    command.parent.mkdir()
    command.write_text(FAKE.format(python=sys.executable, status=status))
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(command.parent))


def test_default_is_in_process_whatever_is_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _fake(tmp_path, monkeypatch)
    assert check_encoder(Cutting(STRIDE).encoder) == Encoder("libx264", None)


def test_absent_encoder_is_refused_with_those_present(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ClipError, match=r"'libopenh264' is absent.*present: libx264, ") as caught:
        check_encoder("libopenh264")
    assert "libopenh264" not in str(caught.value).partition("present: ")[2]


def test_unknown_encoder_is_refused():
    with pytest.raises(ClipError, match=r"'h265' is not one of libx264, .*; present: libx264, "):
        check_encoder("h265")


def test_encoder_that_cannot_be_opened_is_refused(monkeypatch: pytest.MonkeyPatch):
    """The wheel has NVENC everywhere; only a machine with the driver can open it."""
    monkeypatch.setattr(encoders, "_in_process", lambda name: name == "h264_nvenc")
    monkeypatch.setattr(encoders, "_refusal", lambda name: "Cannot load libcuda.so.1")
    with pytest.raises(ClipError, match=r"cannot be opened here: Cannot load libcuda\.so\.1"):
        check_encoder("h264_nvenc")


def test_frames_go_through_a_command_with_their_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _fake(tmp_path, monkeypatch)
    path = regular(tmp_path / "a.mp4", 75, audio="aac")
    split = split_video(path, tmp_path / "clips", Cutting(STRIDE, encoder="libopenh264"))
    for clip, first in zip(split.clips, (0, 30, 60), strict=True):
        numbers, times = shown(clip.file)
        assert numbers == list(range(first, min(first + 30, 75)))
        assert times == pytest.approx([k / 30 for k in range(len(numbers))], abs=1e-4)


def test_failure_of_the_command_is_told_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _fake(tmp_path, monkeypatch, status=1)
    path = regular(tmp_path / "a.mp4", 75)
    with pytest.raises(ClipError, match="libopenh264 ended with status 1: Conversion failed!"):
        split_video(path, tmp_path / "clips", Cutting(STRIDE, encoder="libopenh264"))
    assert list((tmp_path / "clips").iterdir()) == []


def test_a_command_ends_with_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It waits for the rest of the clip, beside files that nobody else would delete."""
    _fake(tmp_path, monkeypatch)
    path = regular(tmp_path / "a.mp4", 75)
    cutting = Cutting(STRIDE, encoder="libopenh264", sampling=Sampling(2), prepare=hang)
    with Splitter(1, timeout_s=3) as splitter, pytest.raises(ClipError, match="no progress for 3"):
        splitter.split(path, tmp_path / "clips", cutting)
    assert list((tmp_path / "clips").iterdir()) == []
    assert _commands(tmp_path) == []


def hang(frames: np.ndarray) -> np.ndarray:
    assert len(_commands(Path(os.environ["PATH"]).parent)) == 1
    time.sleep(60)
    return frames


def _commands(folder: Path) -> list[bytes]:
    """Command lines of processes that write below a folder."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            lines.append(process.read_bytes())
    return [line for line in lines if bytes(folder / "clips" / ".ffmpeg-") in line]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg on PATH")
def test_real_ffmpeg_encodes_openh264(tmp_path: Path):
    path = regular(tmp_path / "a.mp4", 75)
    split = split_video(path, tmp_path / "clips", Cutting(STRIDE, encoder="libopenh264"))
    assert [len(shown(clip.file)[0]) for clip in split.clips] == [30, 30, 15]
