"""Writing the mp4 of one clip: encoded in process, encoded by a command, or copied."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dedup_assets.video.audio import Sound
from dedup_assets.video.cut import SCRATCH, Cutting
from dedup_assets.video.encoders import Encoder
from dedup_assets.video.errors import ClipError

#: Without a limit on the wait for sound, which is written last, both are interleaved in the file.
MP4 = {"movflags": "faststart", "max_interleave_delta": "0"}
#: For what a command holds back at the end of a clip; below what `apart` waits for a frame, so that
#: the error names the command.
COMMAND_TIMEOUT_S = 100
#: What PyAV and a pipe raise when the command that reads has ended.
PIPE_ERRORS = (BrokenPipeError, FFmpegError)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """FFmpeg's errors inside become a ClipError of one line that names the clip."""
    try:
        yield
    except FFmpegError as error:
        raise ClipError(f"{path}: cannot be written: {error.strerror}") from error


@dataclass(frozen=True)
class Picture:
    """What an encoder must know of the frames to come. `clock`: seconds a tick."""

    width: int
    height: int
    fps: Fraction
    clock: Fraction
    bit_rate: int
    threads: int
    colours: dict[str, int]
    """Properties of the encoder by name, as far as the source states them."""

    @classmethod
    def of(cls, frame: VideoFrame, fps: Fraction, clock: Fraction, cutting: Cutting) -> "Picture":
        names = ("color_range", "color_primaries", "color_trc", "colorspace")
        stated = {name: int(getattr(frame, name)) for name in names}
        # 0 is reserved, and RGB as a matrix, which no 4:2:0 has; 2 is unspecified but for ranges.
        colours = {
            name: value
            for name, value in stated.items()
            if value and (value != 2 or name == "color_range")
        }
        return cls(
            *(frame.width, frame.height, fps, clock, cutting.bit_rate, cutting.threads), colours
        )


class Mp4:
    """An mp4 with one video stream and, if `sound` is given, one of audio."""

    def __init__(self, path: Path, sound: Sound | None) -> None:
        self.path = path
        self.container: OutputContainer = av.open(path, "w", format="mp4", options=MP4)
        self._sound = sound
        self._track: AudioStream | None = None
        self.video_bytes = 0

    def begin(self) -> None:
        """Take the sound's stream in, after the video's."""
        if self._sound is not None:
            self._track = self._sound.add_stream(self.container)

    def mux(self, packets: Sequence["Packet[Any]"]) -> None:
        self.video_bytes += sum(packet.size for packet in packets)
        self.container.mux(packets)

    def finish(self, begin_s: Fraction, end_s: Fraction) -> None:
        if self._sound is not None and self._track is not None:
            self._sound.write(self.container, self._track, begin_s, end_s)
        self.container.close()


class Encoding:
    """Encodes frames in process; time stamps in ticks of the picture's clock, from 0."""

    def __init__(self, mp4: Mp4, encoder: Encoder, picture: Picture) -> None:
        self._mp4, self._picture = mp4, picture
        self._stream = add_video(mp4.container, encoder.name, picture)
        self._stream.codec_context.options = encoder.options
        mp4.begin()

    def write(self, frame: VideoFrame) -> None:
        self._mp4.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._mp4.mux(self._stream.encode(None))

    def abandon(self) -> None:
        """Nothing runs beside this process."""


class Piping:
    """Encodes frames by a command that reads them from a pipe, as raw video with time stamps."""

    def __init__(self, mp4: Mp4, encoder: Encoder, picture: Picture) -> None:
        assert encoder.command is not None
        self._mp4, self._name = mp4, encoder.name
        self._folder = tempfile.TemporaryDirectory(prefix=SCRATCH, dir=mp4.path.parent)
        self._video = Path(self._folder.name) / "video.mp4"
        self._log = Path(self._folder.name) / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                _command(encoder, picture, self._video),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        assert self._process.stdin is not None
        self._raw = av.open(self._process.stdin, "w", format="nut")
        self._stream = add_video(self._raw, "rawvideo", picture)

    def write(self, frame: VideoFrame) -> None:
        try:
            self._raw.mux(self._stream.encode(frame))
        except PIPE_ERRORS:
            raise self._failure() from None

    def finish(self) -> None:
        try:
            self._raw.mux(self._stream.encode(None))
            self._raw.close()
            assert self._process.stdin is not None
            self._process.stdin.close()
        except PIPE_ERRORS:
            raise self._failure() from None
        if self._status() != 0:
            raise self._failure()
        with av.open(self._video) as encoded:
            source = encoded.streams.video[0]
            stream = self._mp4.container.add_stream_from_template(source, opaque=True)
            self._mp4.begin()
            for packet in encoded.demux(source):
                if packet.size:
                    packet.stream = stream
                    self._mp4.mux([packet])
        self.abandon()

    def abandon(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        # What is still to be written has no reader any more.
        with suppress(*PIPE_ERRORS):
            self._raw.close()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._folder.cleanup()

    def _status(self) -> int:
        try:
            return self._process.wait(COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ClipError(
                f"ffmpeg with {self._name} took more than {COMMAND_TIMEOUT_S} s to end a clip"
            ) from None

    def _failure(self) -> ClipError:
        status = self._status()
        said = self._log.read_text(errors="replace").strip().splitlines()
        return ClipError(
            f"ffmpeg with {self._name} ended with status {status}: {said[-1] if said else ''}"
        )


class ClipFile:
    """A clip while it is written: under another name until it is whole, gone if it fails."""

    def __init__(self, path: Path, sound: Sound | None) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self.mp4 = Mp4(self._partial, sound)
        self.video: Encoding | Piping | None = None

    def encode(self, encoder: Encoder, picture: Picture) -> Encoding | Piping:
        kind = Encoding if encoder.command is None else Piping
        self.video = kind(self.mp4, encoder, picture)
        return self.video

    def copy(self, source: VideoStream) -> VideoStream:
        stream = self.mp4.container.add_stream_from_template(source, opaque=True)
        self.mp4.begin()
        return stream

    def finish(self, begin_s: Fraction, end_s: Fraction) -> int:
        """Complete the file; returns the bytes of its video packets."""
        if self.video is not None:
            self.video.finish()
        self.mp4.finish(begin_s, end_s)
        self._partial.replace(self.path)
        return self.mp4.video_bytes

    def discard(self) -> None:
        """Delete what is not whole; does nothing after `finish`."""
        self._partial.unlink(missing_ok=True)


def add_video(container: OutputContainer, codec: str, picture: Picture) -> VideoStream:
    stream = container.add_stream(codec, rate=picture.fps)
    assert isinstance(stream, VideoStream)  # what a video encoder's name gives
    context = stream.codec_context
    stream.width, stream.height = picture.width, picture.height
    stream.pix_fmt = "yuv420p"
    stream.time_base = context.time_base = picture.clock
    stream.bit_rate = picture.bit_rate
    context.thread_count = picture.threads
    context.flags |= Flags.frame_duration  # else the last frame's is guessed
    for name, value in picture.colours.items():
        setattr(context, name, value)
    return stream


def _command(encoder: Encoder, picture: Picture, target: Path) -> list[str]:
    assert encoder.command is not None
    options = [part for key, value in encoder.options.items() for part in (f"-{key}", value)]
    return [
        *(encoder.command, "-hide_banner", "-loglevel", "error", "-nostdin"),
        *("-f", "nut", "-i", "pipe:0", "-map", "0:v:0", "-fps_mode", "passthrough"),
        *("-enc_time_base", f"{picture.clock.numerator}/{picture.clock.denominator}"),
        *("-c:v", encoder.name, "-b:v", str(picture.bit_rate), "-threads", str(picture.threads)),
        *options,
        *("-pix_fmt", "yuv420p", "-y", str(target)),
    ]
