"""One clip while it is cut: its file, its sampled frames, its counts."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dedup_assets.video.audio import Sound
from dedup_assets.video.cut import Clip, Cutting, prepared_file
from dedup_assets.video.encoders import Encoder
from dedup_assets.video.errors import ClipError
from dedup_assets.video.plan import ClipPlan, Timeline
from dedup_assets.video.writing import ClipFile, Encoding, Picture, Piping, written


class OpenClip:
    """Takes the frames or packets of one clip; nothing is on disk before it is entered."""

    def __init__(
        self, path: Path, plan: ClipPlan, timeline: Timeline, cutting: Cutting, sound: Sound | None
    ) -> None:
        self.plan = plan
        self._path, self._timeline, self._cutting, self._sound = path, timeline, cutting, sound
        self._file: ClipFile | None = None
        self._video: Encoding | Piping | None = None
        self._copy: VideoStream | None = None
        self._samples: list[NDArray[np.uint8]] = []
        self._size = (0, 0)
        self._codec = ""
        self._clock = timeline.tick
        self._first = self._until = plan.begin
        self._frames = 0
        self._start_frame = 0
        self._last_stamp = -1

    def __enter__(self) -> Self:
        self._file = ClipFile(self._path, self._sound)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.discard()

    def encode(self, frame: VideoFrame, at: int, number: int, encoder: Encoder) -> None:
        """Add a picture that is shown at tick `at` and is the source's frame `number`."""
        if self._video is None:
            self._begin(frame, at, number, encoder)
        assert self._video is not None
        self.sample(lambda: frame, at)
        self._until = self._shown_until(at)
        scale = self._timeline.tick / self._clock
        # Two frames of one time, in damaged or rounded clocks, are kept a tick apart.
        stamp = max(round((at - self._first) * scale), self._last_stamp + 1)
        frame.pts, frame.time_base = stamp, self._clock
        frame.duration = max(1, round((self._until - at) * scale))
        frame.pict_type = PictureType.NONE  # the encoder is to choose, not to repeat the source
        with written(self._path):
            self._video.write(frame)
        self._last_stamp = stamp
        self._frames += 1

    def sample(self, picture: Callable[[], VideoFrame], at: int) -> None:
        """Keep the picture of tick `at` as often as it is wanted, or one that is missing was."""
        wanted = self.plan.wanted
        if wanted is None or not self.plan.begin <= at < self.plan.end:
            return
        due = int(np.searchsorted(wanted, at, side="right")) - len(self._samples)
        if due > 0:
            pixels = picture().to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            self._samples += [pixels] * due

    def copy(self, packet: "Packet[VideoStream]", source: VideoStream) -> None:
        """Add a copy of a packet; the first must be that of a key frame."""
        assert self._file is not None
        if self._copy is None:
            self._copy = self._file.copy(source)
            context = source.codec_context
            self._size = context.width, context.height
            self._codec = context.codec.canonical_name
        if packet.pts is not None and packet.pts < self.plan.begin:
            return  # refers to frames of the clip before
        copied = Packet(bytes(packet))
        copied.time_base, copied.duration = packet.time_base, packet.duration
        copied.pts = None if packet.pts is None else packet.pts - self.plan.begin
        copied.dts = None if packet.dts is None else packet.dts - self.plan.begin
        copied.is_keyframe = packet.is_keyframe
        copied.stream = self._copy
        with written(self._path):
            self._file.mp4.mux([copied])
        if not packet.is_discard:
            self._frames += 1

    def finish(self) -> Clip:
        """Complete the file and hand out what it is."""
        assert self._file is not None
        if not self._frames:
            raise ClipError(f"{self._path}: no frame of {self.plan.span} decodes")
        if self._copy is not None:
            self._until = min(self.plan.end, self._timeline.end)
            self._start_frame = int(np.searchsorted(self._timeline.pts, self.plan.begin))
        self._prepare()
        tick = self._timeline.tick
        duration = float((self._until - self._first) * tick)
        if duration <= 0:
            raise ClipError(f"{self._path}: is damaged: frames of {self.plan.span} run backwards")
        with written(self._path):
            video_bytes = self._file.finish(self._first * tick, self._until * tick)
        # An encoder holds megabytes, and this object lives as long as its video.
        self._file = self._video = self._copy = None
        return Clip(
            file=self._path,
            span=self.plan.span,
            start_frame=self._start_frame,
            end_frame=self._start_frame + self._frames,
            width=self._size[0],
            height=self._size[1],
            fps=self._frames / duration,
            frames=self._frames,
            duration_s=duration,
            codec=self._codec,
            bit_rate=round(8 * video_bytes / duration),
            bytes=self._path.stat().st_size,
        )

    def abandon(self) -> None:
        if self._video is not None:
            self._video.abandon()

    def _begin(self, frame: VideoFrame, at: int, number: int, encoder: Encoder) -> None:
        assert self._file is not None
        if self._timeline.tick.denominator > encoder.finest_clock:
            self._clock = Fraction(1, encoder.finest_clock)
        self._first, self._start_frame = at, number
        self._size = frame.width, frame.height
        self._codec = encoder.codec
        picture = Picture.of(
            frame, Fraction(self._timeline.fps).limit_denominator(1001), self._clock, self._cutting
        )
        with written(self._path):
            self._video = self._file.encode(encoder, picture)

    def _shown_until(self, at: int) -> int:
        """The tick at which the next frame of the source begins."""
        pts = self._timeline.pts
        index = np.searchsorted(pts, at, side="right")
        return max(at + 1, int(pts[index]) if index < len(pts) else self._timeline.end)

    def _prepare(self) -> None:
        if self.plan.wanted is None:
            return
        if not self._samples:
            raise ClipError(f"{self._path}: no frame of {self.plan.span} decodes")
        missing = len(self.plan.wanted) - len(self._samples)
        frames = np.stack(self._samples + self._samples[-1:] * missing)
        self._samples.clear()
        prepare = self._cutting.prepare
        # To a file, since a long video has thousands of clips, and a model wants megabytes of each.
        np.save(prepared_file(self._path), frames if prepare is None else prepare(frames))
