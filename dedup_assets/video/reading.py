"""Opening a video file of unknown origin, its index, and its frames in order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dedup_assets.video.errors import ClipError
from dedup_assets.video.plan import Timeline

#: Containers that are read. A playlist, which can name files elsewhere, is none of them.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,nut,h264,hevc,ivf,mxf,gif"
)
#: What a header may claim: 16k x 8k pixels, and a week.
MOST_PIXELS = 16_384 * 8_192
LONGEST_S = 7 * 86_400
#: By how much frames may end before the stated end in a file that is whole.
MISSING_S = 0.5


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a file; FFmpeg's errors inside become a ClipError of one line that names it."""
    try:
        # The prefix keeps FFmpeg from taking a colon in the name for a protocol.
        with av.open(
            f"file:{path}",
            options={"protocol_whitelist": "file", "format_whitelist": FORMATS},
            metadata_errors="replace",
        ) as container:
            yield container
    except (FFmpegError, OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "out of memory"
        raise ClipError(f"{path}: cannot be decoded: {reason}") from error


def video_stream(path: Path, container: InputContainer) -> VideoStream:
    """The first video stream that is not a cover picture."""
    for stream in container.streams.video:
        if Disposition.attached_pic in stream.disposition:
            continue
        if stream.codec_context is None:
            raise ClipError(f"{path}: cannot be decoded: its codec is unknown")
        pixels = stream.codec_context.width * stream.codec_context.height
        if pixels > MOST_PIXELS:
            raise ClipError(f"{path}: claims {pixels} pixels a frame, more than {MOST_PIXELS}")
        return stream
    raise ClipError(f"{path}: has no video stream")


def decoding_stream(path: Path, container: InputContainer, threads: int) -> VideoStream:
    """`video_stream`, set up to be decoded in so many threads."""
    stream = video_stream(path, container)
    stream.codec_context.thread_count = threads
    stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
    return stream


def packets(container: InputContainer, stream: VideoStream) -> Iterator["Packet[VideoStream]"]:
    """Packets from the first key frame on, the empty one at the end included.

    What comes before it refers to frames that the file lacks. A stream without any mark of key
    frames is given whole.
    """
    early: list[Packet[VideoStream]] | None = []
    for packet in container.demux(stream):
        if early is not None:
            if packet.size and not packet.is_keyframe:
                early.append(packet)
                continue
            if not packet.size:
                yield from early
            early = None
        yield packet


def read_timeline(path: Path, on_packet: Callable[[], None]) -> Timeline:
    """Read a file's packets without decoding; ClipError if it is visibly damaged."""
    with opened(path) as container:
        stream = video_stream(path, container)
        tick = stream.time_base
        if not tick:
            raise ClipError(f"{path}: states no unit of time")
        times: list[int] = []
        keys: list[int] = []
        end: int | None = None
        for packet in packets(container, stream):
            on_packet()
            at = packet.dts if packet.pts is None else packet.pts
            if packet.is_corrupt:
                raise ClipError(f"{path}: is damaged: a packet is incomplete{_seconds(at, tick)}")
            if not packet.size or packet.is_discard or at is None:
                continue
            times.append(at)
            if packet.is_keyframe:
                keys.append(at)
            if end is None or at + (packet.duration or 0) > end:
                end = at + (packet.duration or 0)
        if end is None:
            raise ClipError(f"{path}: holds no frame with a time stamp")
        return _timeline(path, container, stream, times, keys, end)


def _timeline(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    times: list[int],
    keys: list[int],
    end: int,
) -> Timeline:
    tick = stream.time_base
    assert tick is not None
    pts = np.sort(np.array(times, np.int64))
    if keys:
        # Frames shown before the first key frame depend on what the file lacks.
        pts = pts[pts >= keys[0]]
    length = float((end - int(pts[0])) * tick)
    if length > LONGEST_S:
        raise ClipError(f"{path}: claims to last {length:.0f} s, more than {LONGEST_S}")
    fps = float(stream.average_rate or 0) or (len(pts) / length if length > 0 else 1.0)
    if end <= pts[-1]:
        end = int(pts[-1]) + max(1, round(1 / (fps * float(tick))))
    timeline = Timeline(pts, np.sort(np.array(keys, np.int64)), tick, end, None, fps)
    stated, own = _stated_s(container, stream)
    # The file's duration is that of its longest stream, which need not be this one.
    missing_s = max(MISSING_S, timeline.leeway_s)
    if stated is not None and own and timeline.measured_s < stated - missing_s:
        raise ClipError(
            f"{path}: is damaged: its frames end at {timeline.measured_s:.2f} s "
            f"of the {stated:.2f} s it states"
        )
    return Timeline(pts, timeline.keys, tick, end, stated, fps)


def frames(
    path: Path, source: Iterator["Packet[VideoStream]"], timeline: Timeline
) -> Iterator[VideoFrame]:
    """Decode packets to frames in order of presentation, each with a time stamp.

    ClipError at the first frame that the decoder marks as damaged, and if frames are missing at
    the end.
    """
    first, last = int(timeline.pts[0]), None
    step = max(1, round(1 / (timeline.fps * float(timeline.tick))))
    for packet in source:
        for frame in packet.decode():
            assert isinstance(frame, VideoFrame)
            if frame.is_corrupt:
                where = _seconds(frame.pts, timeline.tick)
                raise ClipError(f"{path}: is damaged: a frame is incomplete{where}")
            if frame.pts is None:
                frame.pts = first if last is None else last + step
            if frame.pts < first:
                continue
            last = frame.pts if last is None else max(last, frame.pts)
            yield frame
    if last is None:
        raise ClipError(f"{path}: holds no frame that can be decoded")
    missing = float((int(timeline.pts[-1]) - last) * timeline.tick)
    if missing > max(MISSING_S, timeline.leeway_s):
        raise ClipError(f"{path}: is damaged: the last {missing:.2f} s cannot be decoded")


def _stated_s(container: InputContainer, stream: VideoStream) -> tuple[float | None, bool]:
    """The duration that the header states, and whether it is that of this stream."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base), True
    if container.duration is not None:
        return container.duration / av.time_base, len(container.streams) == 1
    return None, False


def _seconds(at: int | None, tick: Fraction) -> str:
    return "" if at is None else f" at {float(at * tick):.2f} s"
