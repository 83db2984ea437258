"""Reading and writing clips by PyAV."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import numpy as np
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dedup_assets.video.errors import ClipError

#: Encoders in order of preference; the options trade size for speed and keep the bytes repeatable.
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "superfast", "threads": "1"},
    "libopenh264": {},
    "mpeg4": {},
}


@dataclass(frozen=True)
class SampledClip:
    """Frames spread evenly over a clip, and facts about its file."""

    frames: NDArray[np.uint8]
    """RGB, of shape (count, height, width, 3)."""
    duration_s: float
    width: int
    height: int


def write_clip(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    fps: int,
    size: tuple[int, int],
    bit_rate: int,
) -> None:
    """Encode RGB frames, each of shape (h, w, 3), to an mp4 of `size` (width, height) pixels.

    Frames of another size are scaled. `bit_rate` is the aim in bits per second. The file appears
    under its name only when it is whole.
    """
    width, height = size
    if width % 2 or height % 2:
        raise ValueError(f"size={width}x{height} should be even: 4:2:0 halves both sides.")
    encoder = pick_encoder()
    partial = path.with_name(f".{path.name}.partial")
    try:
        with av.open(partial, "w", format="mp4") as container:
            stream = container.add_stream(encoder, rate=fps, options=ENCODERS[encoder])
            assert isinstance(stream, VideoStream)  # what a video encoder's name gives
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p"
            stream.bit_rate = bit_rate
            for pixels in frames:
                frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                # Area averaging has no ringing and no aliasing when a frame shrinks.
                frame = frame.reformat(width, height, "yuv420p", interpolation=Interpolation.AREA)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        partial.replace(path)
    except (av.error.FFmpegError, OSError) as error:
        raise ClipError(f"{path}: cannot be written with {encoder}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def pick_encoder() -> str:
    """The first of `ENCODERS` that this build of FFmpeg has."""
    for name in ENCODERS:
        try:
            Codec(name, "w")
        except UnknownCodecError:
            continue
        return name
    raise ClipError(
        f"this build of PyAV has none of the encoders {', '.join(ENCODERS)}; "
        "install the wheel from PyPI: pip install av"
    )


def sample_frames(path: Path, count: int) -> SampledClip:
    """Decode the first video stream and keep `count` frames at the middles of equal time spans.

    A frame may be kept more than once where a clip has fewer than `count`. Memory: the kept frames
    at the clip's own size, 3 bytes a pixel.
    """
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise ClipError(f"{path}: has no video stream")
            return _sample(path, container, count)
    except (av.error.FFmpegError, OSError) as error:
        raise ClipError(f"{path}: cannot be decoded: {error.strerror}") from error


def _sample(path: Path, container: InputContainer, count: int) -> SampledClip:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    duration = _duration_s(container, stream)
    if duration <= 0:
        raise ClipError(f"{path}: states no duration, so frames cannot be spread over it")
    wanted = [(k + 0.5) * duration / count for k in range(count)]
    kept: list[NDArray[np.uint8]] = []
    start = pending = None
    for frame in container.decode(stream):
        time = frame.time or 0.0
        start = time if start is None else start
        # A frame is on screen until the next one begins, so the one before a later time is meant.
        while pending is not None and len(kept) < count and wanted[len(kept)] < time - start:
            kept.append(_rgb(pending))
        pending = frame
        if len(kept) == count:
            break
    if pending is None:
        raise ClipError(f"{path}: holds no frame that can be decoded")
    # What is still wanted is the last frame, if it stays on screen so long, give or take one span.
    end = (pending.time or 0.0) - (start or 0.0) + _shown_s(pending)
    if len(kept) < count and end + duration / count < wanted[-1]:
        raise ClipError(
            f"{path}: is damaged: its frames end at {end:.2f} s of the {duration:.2f} s it states"
        )
    kept += [_rgb(pending)] * (count - len(kept))
    height, width = kept[0].shape[:2]
    return SampledClip(np.stack(kept), duration, width, height)


def _rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _shown_s(frame: VideoFrame) -> float:
    """How long a frame stays on screen, 0 where the file does not say."""
    return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.0


def _duration_s(container: InputContainer, stream: VideoStream) -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base
