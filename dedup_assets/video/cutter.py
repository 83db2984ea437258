"""The one pass over a video that feeds the encoders and the samples of its clips."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NoReturn

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dedup_assets.video import reading
from dedup_assets.video.audio import Sound
from dedup_assets.video.cut import Clip, Cutting, SplitVideo, VideoFacts, prepared_file
from dedup_assets.video.detection import find_scenes
from dedup_assets.video.encoders import Encoder, check_encoder
from dedup_assets.video.errors import ClipError
from dedup_assets.video.open_clip import OpenClip
from dedup_assets.video.pictures import Upright
from dedup_assets.video.plan import ClipPlan, Timeline, plan_clips
from dedup_assets.video.scenes import spans_of
from dedup_assets.video.spans import FixedStride, Span

#: Video codecs that an mp4 can take over unchanged.
COPIED = ("h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mjpeg")


class Cutter:
    """Cuts one video; see `cut.split_video`."""

    def __init__(
        self, path: Path, folder: Path, cutting: Cutting, on_frame: Callable[[], None]
    ) -> None:
        self._path, self._folder = path, folder
        self._cutting, self._on_frame = cutting, on_frame
        self._upright = Upright()
        self._rotation: int | None = None
        self._open: list[OpenClip] = []
        self._done: list[Clip] = []

    def split(self) -> SplitVideo:
        cutting = self._cutting
        encoder = None if cutting.copy else check_encoder(cutting.encoder)
        timeline = reading.read_timeline(self._path, self._on_frame)
        spans = self._spans(timeline)
        plans = plan_clips(timeline, spans, cutting.sampling, on_keys=cutting.copy)
        try:
            with reading.opened(self._path) as container, ExitStack() as files:
                self._run(container, files, timeline, plans, encoder)
        except BaseException:
            for number in range(len(plans)):
                for file in (self._file(number), prepared_file(self._file(number))):
                    file.unlink(missing_ok=True)
            raise
        return SplitVideo(self._facts(timeline), tuple(self._done))

    def _spans(self, timeline: Timeline) -> list[Span]:
        splitting = self._cutting.splitting
        if isinstance(splitting, FixedStride):
            return splitting.spans(timeline.duration_s)
        scenes = find_scenes(
            self._path, timeline, splitting.detector, self._cutting.threads, self._on_frame
        )
        return spans_of(scenes, timeline, splitting.rules)

    def _run(
        self,
        container: InputContainer,
        files: ExitStack,
        timeline: Timeline,
        plans: list[ClipPlan],
        encoder: Encoder | None,
    ) -> None:
        stream = self._stream(container)
        sound = self._sound(files)
        waiting = deque(
            OpenClip(self._file(number), plan, timeline, self._cutting, sound)
            for number, plan in enumerate(plans)
        )
        source = reading.packets(container, stream)
        try:
            if encoder is None:
                self._copy(source, stream, files, timeline, waiting)
            elif plans:
                self._encode(source, files, timeline, waiting, encoder)
        finally:
            # Before the partial files go, so that nothing writes to them any more.
            for clip in self._open:
                clip.abandon()

    def _encode(
        self,
        source: Iterator["Packet[VideoStream]"],
        files: ExitStack,
        timeline: Timeline,
        waiting: deque[OpenClip],
        encoder: Encoder,
    ) -> None:
        for number, frame in enumerate(self._frames(source, timeline)):
            assert frame.pts is not None  # see reading.frames
            at = frame.pts
            self._close_before(at)
            while waiting and waiting[0].plan.begin <= at:
                self._open.append(files.enter_context(waiting.popleft()))
            if self._open:
                picture = self._upright(frame)
                for clip in self._open:
                    clip.encode(picture, at, number, encoder)
        self._close_all(waiting)

    def _copy(
        self,
        source: Iterator["Packet[VideoStream]"],
        stream: VideoStream,
        files: ExitStack,
        timeline: Timeline,
        waiting: deque[OpenClip],
    ) -> None:
        codec = stream.codec_context.name
        if codec not in COPIED:
            raise ClipError(f"{self._path}: {codec} cannot be copied to an mp4; re-encode it")
        copied = self._copied(source, stream, files, waiting)
        if self._cutting.sampling is None:
            for packet in copied:
                if packet.is_keyframe and packet.pts is not None:
                    self._close_before(packet.pts)
        else:
            for frame in self._frames(copied, timeline):
                assert frame.pts is not None  # see reading.frames
                at = frame.pts
                self._close_before(at)
                for clip in self._open:
                    clip.sample(partial(self._upright, frame), at)
        self._close_all(waiting)

    def _copied(
        self,
        source: Iterator["Packet[VideoStream]"],
        stream: VideoStream,
        files: ExitStack,
        waiting: deque[OpenClip],
    ) -> Iterator["Packet[VideoStream]"]:
        """Hand packets on after a copy went to each clip that holds their group of pictures."""
        key: int | None = None
        for packet in source:
            if packet.size:
                if key is None or packet.is_keyframe:
                    key = packet.pts if packet.pts is not None else packet.dts
                while waiting and key is not None and waiting[0].plan.begin <= key:
                    self._open.append(files.enter_context(waiting.popleft()))
                for clip in self._open:
                    if key is not None and clip.plan.begin <= key < clip.plan.end:
                        clip.copy(packet, stream)
                self._on_frame()
            yield packet

    def _frames(
        self, source: Iterator["Packet[VideoStream]"], timeline: Timeline
    ) -> Iterator[VideoFrame]:
        for frame in reading.frames(self._path, source, timeline):
            self._on_frame()
            if self._rotation is None:
                self._rotation = round(frame.rotation / 90) % 4 * 90
            yield frame

    def _close_before(self, at: int) -> None:
        while self._open and self._open[0].plan.end <= at:
            self._done.append(self._open.pop(0).finish())

    def _close_all(self, waiting: deque[OpenClip]) -> None:
        if waiting:
            self._damaged(f"no frame of {waiting[0].plan.span.start_s} s and later decodes")
        while self._open:
            self._done.append(self._open.pop(0).finish())

    def _damaged(self, reason: str) -> NoReturn:
        raise ClipError(f"{self._path}: is damaged: {reason}")

    def _stream(self, container: InputContainer) -> VideoStream:
        return reading.decoding_stream(self._path, container, self._cutting.threads)

    def _sound(self, files: ExitStack) -> Sound | None:
        if not self._cutting.audio:
            return None
        container = files.enter_context(reading.opened(self._path))
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        if stream.codec_context is None:
            raise ClipError(f"{self._path}: cannot be decoded: the codec of its sound is unknown")
        return Sound(container, stream)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number:06d}.mp4"

    def _facts(self, timeline: Timeline) -> VideoFacts:
        with reading.opened(self._path) as container:
            stream = self._stream(container)
            if self._rotation is None:  # nothing was decoded for the clips
                next(self._frames(reading.packets(container, stream), timeline))
            size = stream.codec_context.width, stream.codec_context.height
            bytes_ = self._path.stat().st_size
            duration = timeline.duration_s
            rate = stream.codec_context.bit_rate or container.bit_rate
            return VideoFacts(
                duration_s=duration,
                width=size[1] if self._rotation in (90, 270) else size[0],
                height=size[0] if self._rotation in (90, 270) else size[1],
                fps=timeline.fps,
                frames=len(timeline.pts),
                codec=stream.codec_context.codec.canonical_name,
                bit_rate=rate or round(8 * bytes_ / duration),
                rotation=self._rotation or 0,
                audio=bool(container.streams.audio),
                bytes=bytes_,
            )
