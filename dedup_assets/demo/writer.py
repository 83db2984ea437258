"""Writing the demo's videos by PyAV, frame by frame."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.error
import numpy as np
from av.codec.codec import UnknownCodecError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dedup_assets.video.errors import ClipError

ENCODER = "libx264"
#: They trade size for speed, and keep the bytes repeatable.
OPTIONS = {"preset": "superfast", "threads": "1"}

Write = Callable[[NDArray[np.uint8]], None]


@contextmanager
def open_video(path: Path, *, fps: int, size: tuple[int, int], bit_rate: int) -> Iterator[Write]:
    """Yields what encodes one RGB frame, of shape (h, w, 3), to an mp4 of `size` (width, height).

    Frames of another size are scaled. `bit_rate` is the aim in bits per second. The file appears
    under its name when the block ends, and only if it is whole.
    """
    width, height = size
    if width % 2 or height % 2:
        raise ValueError(f"size={width}x{height} should be even: 4:2:0 halves both sides.")
    partial = path.with_name(f".{path.name}.partial")
    try:
        with av.open(partial, "w", format="mp4") as container:
            stream = container.add_stream(ENCODER, rate=fps, options=OPTIONS)
            assert isinstance(stream, VideoStream)  # what a video encoder's name gives
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p"
            stream.bit_rate = bit_rate

            def write(pixels: NDArray[np.uint8]) -> None:
                frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                # Area averaging has no ringing and no aliasing when a frame shrinks.
                frame = frame.reformat(width, height, "yuv420p", interpolation=Interpolation.AREA)
                container.mux(stream.encode(frame))

            yield write
            container.mux(stream.encode(None))
        partial.replace(path)
    except UnknownCodecError:
        raise ClipError(
            f"this build of PyAV lacks {ENCODER}; install the wheel from PyPI: pip install av"
        ) from None
    except (av.error.FFmpegError, OSError) as error:
        raise ClipError(f"{path}: cannot be written with {ENCODER}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
