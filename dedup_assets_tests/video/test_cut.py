"""Clips of real files, frame by frame."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dedup_assets.video.cut import Clip, Cutting, SplitVideo, split_video
from dedup_assets.video.errors import ClipError
from dedup_assets.video.sampling import Sampling
from dedup_assets.video.spans import FixedStride
from dedup_assets_tests.video.movies import number_of, regular, shown, write_video

NTSC = Fraction(24_000, 1001)
SECOND = FixedStride(1, None, 0.3)


def shape(frames: np.ndarray) -> np.ndarray:
    return np.array(frames.shape)


def _split(path: Path, tmp_path: Path, cutting: Cutting | None = None) -> SplitVideo:
    return split_video(path, tmp_path / "clips", cutting or Cutting(SECOND))


def _check(split: SplitVideo, times: list[Fraction]) -> None:
    """Each frame of the source is in the clip of its time, at its time, and in no other."""
    seen: list[int] = []
    for clip in split.clips:
        numbers, at = shown(clip.file)
        expected = [k for k, t in enumerate(times) if clip.span.start_s <= t < clip.span.end_s]
        if clip is split.clips[-1]:
            expected = list(range(expected[0], len(times)))
        assert numbers == expected
        assert (clip.start_frame, clip.end_frame) == (numbers[0], numbers[-1] + 1)
        assert clip.frames == len(numbers)
        true = [float(times[k] - times[numbers[0]]) for k in numbers]
        np.testing.assert_allclose(at, true, atol=1e-4)
        _check_facts(clip)
        seen += numbers
    assert seen == list(range(len(times)))


def _check_facts(clip: Clip) -> None:
    with av.open(clip.file) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height) == (clip.width, clip.height)
        assert float(stream.duration * stream.time_base) == pytest.approx(clip.duration_s, abs=0.04)
        assert stream.codec_context.codec.canonical_name == clip.codec
    assert clip.bytes == clip.file.stat().st_size


@pytest.mark.parametrize("rate", [NTSC, Fraction(30), Fraction(60)], ids=["23.976", "30", "60"])
@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "mpeg4"])
def test_constant_rates(tmp_path: Path, codec: str, rate: Fraction):
    frames = int(2.5 * rate)
    path = regular(tmp_path / "a.mp4", frames, rate, codec=codec)
    split = _split(path, tmp_path)
    assert len(split.clips) == 3
    assert split.source.fps == pytest.approx(float(rate))
    assert split.source.frames == frames
    _check(split, [k / rate for k in range(frames)])


@pytest.mark.parametrize("bf", ["0", "3"])
def test_variable_rate_keeps_its_time_stamps(tmp_path: Path, bf: str):
    ticks = np.cumsum(np.random.default_rng(3).integers(1, 90, 60)).tolist()
    path = write_video(tmp_path / "a.mp4", ticks, Fraction(1, 600), options={"bf": bf})
    split = _split(path, tmp_path, Cutting(FixedStride(1, None, 0)))
    _check(split, [Fraction(t - ticks[0], 600) for t in ticks])


def test_b_frames_come_in_order(tmp_path: Path):
    path = regular(tmp_path / "a.mp4", 75, options={"bf": "3", "b_strategy": "0"})
    _check(_split(path, tmp_path), [Fraction(k, 30) for k in range(75)])


@pytest.mark.parametrize("suffix", ["mkv", "ts", "avi", "mov"])
def test_other_containers(tmp_path: Path, suffix: str):
    path = regular(tmp_path / f"a.{suffix}", 75, options={"bf": "0"})
    split = _split(path, tmp_path)
    assert [shown(clip.file)[0] for clip in split.clips] == [
        list(range(30)),
        list(range(30, 60)),
        list(range(60, 75)),
    ]


def test_file_without_duration(tmp_path: Path):
    """A live recording of Matroska states none."""
    path = regular(tmp_path / "a.mkv", 75, container={"live": "1"}, options={"bf": "0"})
    with av.open(path) as file:
        assert file.duration is None
    _check(_split(path, tmp_path), [Fraction(round(1000 * k / 30), 1000) for k in range(75)])


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotated_video_stands_upright_without_a_flag(tmp_path: Path, turns: int):
    path = regular(tmp_path / "a.mp4", 40, turns=turns)
    split = _split(path, tmp_path)
    assert split.source.rotation == 90 * turns
    assert (split.source.width, split.source.height) == (64, 48)
    _check(split, [Fraction(k, 30) for k in range(40)])
    with av.open(split.clips[0].file) as file:
        assert next(file.decode(video=0)).rotation == 0


def test_odd_sides_lose_a_pixel(tmp_path: Path):
    split = _split(regular(tmp_path / "a.mp4", 40, size=(65, 49)), tmp_path)
    assert (split.source.width, split.source.height) == (65, 49)
    assert (split.clips[0].width, split.clips[0].height) == (64, 48)
    _check(split, [Fraction(k, 30) for k in range(40)])


def test_one_frame(tmp_path: Path):
    path = regular(tmp_path / "a.mp4", 1)
    split = _split(path, tmp_path, Cutting(FixedStride(1, None, 0), sampling=Sampling(3, 2)))
    (clip,) = split.clips
    assert shown(clip.file)[0] == [0]
    assert clip.prepared.shape == (3, 48, 64, 3)


def test_short_video_has_no_clip(tmp_path: Path):
    split = _split(regular(tmp_path / "a.mp4", 5), tmp_path)
    assert split.clips == ()
    assert split.source.frames == 5


def test_overlapping_and_spaced_strides(tmp_path: Path):
    path = regular(tmp_path / "a.mp4", 90)
    split = _split(path, tmp_path, Cutting(FixedStride(2, 0.5, 1)))
    assert [(c.start_frame, c.end_frame) for c in split.clips] == [
        (0, 60),
        (15, 75),
        (30, 90),
        (45, 90),
        (60, 90),
    ]
    for clip in split.clips:
        assert shown(clip.file)[0] == list(range(clip.start_frame, clip.end_frame))
    split = _split(path, tmp_path, Cutting(FixedStride(0.5, 1, 0)))
    assert [(c.start_frame, c.end_frame) for c in split.clips] == [(0, 15), (30, 45), (60, 75)]


def test_edit_list_is_honoured(tmp_path: Path):
    """An mp4 that begins inside a group of pictures hides the frames before."""
    whole = regular(tmp_path / "whole.mp4", 60, options={"bf": "0", "g": "60"})
    path = tmp_path / "a.mp4"
    with av.open(whole) as source, av.open(path, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts -= 10 * packet.duration
                packet.dts -= 10 * packet.duration
                packet.stream = stream
                target.mux(packet)
    assert shown(path)[0] == list(range(10, 60))
    split = _split(path, tmp_path)
    assert [shown(clip.file)[0] for clip in split.clips] == [
        list(range(10, 40)),
        list(range(40, 60)),
    ]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("audio", ["aac", "pcm_s16le"])
@pytest.mark.parametrize("copy", [False, True])
def test_sound_goes_with_its_clip(tmp_path: Path, suffix: str, audio: str, copy: bool):
    path = regular(tmp_path / f"a.{suffix}", 75, audio=audio, options={"g": "15", "bf": "0"})
    split = _split(path, tmp_path, Cutting(SECOND, copy=copy))
    assert split.source.audio
    for clip in split.clips:
        with av.open(clip.file) as file:
            (stream,) = file.streams.audio
            assert stream.codec_context.name == "aac"
            assert float(stream.duration * stream.time_base) == pytest.approx(
                clip.duration_s, abs=0.08
            )
            assert sum(frame.samples for frame in file.decode(stream)) > 0


def test_sound_is_left_out_when_asked(tmp_path: Path):
    path = regular(tmp_path / "a.mp4", 75, audio="aac")
    for clip in _split(path, tmp_path, Cutting(SECOND, audio=False)).clips:
        with av.open(clip.file) as file:
            assert not file.streams.audio


@pytest.mark.parametrize("sampled", [None, Sampling(3)])
def test_copies_are_cut_at_key_frames(tmp_path: Path, sampled: Sampling | None):
    path = regular(tmp_path / "a.mp4", 75, options={"g": "20", "bf": "2", "sc_threshold": "0"})
    split = _split(path, tmp_path, Cutting(SECOND, copy=True, sampling=sampled))
    assert [shown(clip.file)[0] for clip in split.clips] == [
        list(range(40)),
        list(range(40, 60)),
        list(range(60, 75)),
    ]
    for clip in split.clips:
        assert clip.frames == clip.end_frame - clip.start_frame
        assert clip.frames == len(shown(clip.file)[0])
        if sampled is not None:
            numbers = [number_of(frame) for frame in clip.prepared]
            width = clip.frames / 3
            assert numbers == [clip.start_frame + int((k + 0.5) * width) for k in range(3)]


@pytest.mark.parametrize("codec", ["libvpx-vp9", "mpeg4", "libx265"])
def test_copies_keep_their_codec(tmp_path: Path, codec: str):
    options = {"g": "15", "x265-params": "log-level=none:keyint=15:bframes=0"}
    path = regular(tmp_path / "a.mp4", 60, codec=codec, options=options)
    split = _split(path, tmp_path, Cutting(SECOND, copy=True))
    assert {clip.codec for clip in split.clips} == {split.source.codec}
    seen = [number for clip in split.clips for number in shown(clip.file)[0]]
    assert seen == list(range(60))


def test_samples_are_the_frames_asked_for(tmp_path: Path):
    path = regular(tmp_path / "a.mp4", 90)
    split = _split(path, tmp_path, Cutting(FixedStride(2, None, 1), sampling=Sampling(4, 2)))
    assert [[number_of(f) for f in clip.prepared] for clip in split.clips] == [
        [0, 15, 30, 45],
        [60, 67, 75, 82],
    ]


def test_prepare_takes_the_place_of_frames(tmp_path: Path):
    path = regular(tmp_path / "a.mp4", 30)
    cutting = Cutting(SECOND, sampling=Sampling(3), prepare=shape)
    assert tuple(_split(path, tmp_path, cutting).clips[0].prepared) == (3, 48, 64, 3)


def test_bytes_repeat(tmp_path: Path):
    path = regular(tmp_path / "a.mp4", 75, audio="aac")
    digests = []
    for name in ("one", "two"):
        split = split_video(path, tmp_path / name, Cutting(SECOND, threads=2))
        digests.append([hashlib.sha256(c.file.read_bytes()).digest() for c in split.clips])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("where", ["end", "index_first"])
def test_file_cut_short_fails_as_a_whole(tmp_path: Path, where: str):
    flags = {"movflags": "faststart"} if where == "index_first" else {}
    path = regular(tmp_path / "a.mp4", 90, container=flags)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ClipError, match=r"a\.mp4: (is damaged|cannot be decoded)") as caught:
        _split(path, tmp_path)
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "clips").iterdir()) == []


def test_damage_in_the_middle_leaves_no_clip(tmp_path: Path):
    path = regular(tmp_path / "a.mp4", 90, options={"g": "30"})
    data = bytearray(path.read_bytes())
    middle = len(data) * 2 // 3
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    with pytest.raises(ClipError, match=r"a\.mp4: "):
        _split(path, tmp_path)
    assert list((tmp_path / "clips").iterdir()) == []


def test_file_without_video_is_named(tmp_path: Path):
    path = tmp_path / "a.wav"
    with av.open(path, "w") as target:
        track = target.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.rate = 8000
        target.mux(track.encode(frame))
    path = path.rename(tmp_path / "a.mp4")
    with pytest.raises(ClipError, match=r"a\.mp4: "):
        _split(path, tmp_path)


def test_playlist_is_not_followed(tmp_path: Path):
    """A playlist in the place of a video could name any file of the machine."""
    regular(tmp_path / "secret.ts", 30)
    path = tmp_path / "a.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(ClipError, match="cannot be decoded"):
        _split(path, tmp_path)


def test_colon_in_the_name_is_no_protocol(tmp_path: Path):
    path = regular(tmp_path / "plain.mp4", 30).rename(tmp_path / "http:a#b?.mp4")
    assert len(_split(path, tmp_path).clips) == 1


def test_wrong_cutting_is_refused():
    with pytest.raises(ValueError, match="bit_rate=0 should be >= 1"):
        Cutting(SECOND, bit_rate=0)
    with pytest.raises(ValueError, match="prepare needs sampling"):
        Cutting(SECOND, prepare=shape)
