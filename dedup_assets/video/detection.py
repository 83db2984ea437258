"""The pass over a video that shows its frames, made small, to a detector of scenes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from dedup_assets.video import reading
from dedup_assets.video.detectors import Detector, Look
from dedup_assets.video.plan import Timeline
from dedup_assets.video.scenes import Scene


def find_scenes(
    path: Path,
    timeline: Timeline,
    detector: Detector,
    threads: int,
    on_frame: Callable[[], None],
) -> list[Scene]:
    """The scenes of a video, by start, in frames of its timeline; ClipError if it is damaged.

    Memory: what the detector holds, and 8 bytes for each frame's time.
    """
    detection = detector.start(timeline.fps)
    small = _Small(detector)
    times = []
    with reading.opened(path) as container:
        stream = reading.decoding_stream(path, container, threads)
        source = reading.packets(container, stream)
        for frame in reading.frames(path, source, timeline):
            detection.push(small(frame))
            times.append(frame.pts)
            on_frame()
    # A decoder may give fewer frames than there are packets.
    numbers = [*np.searchsorted(timeline.pts, np.array(times, np.int64)), len(timeline.pts)]
    scenes = ((int(numbers[first]), int(numbers[last])) for first, last in detection.scenes())
    return [(first, last) for first, last in scenes if first < last]


class _Small:
    """Makes frames upright and as small as a detector wants them."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._look: Look | None = None
        # One for all frames: it keeps what it has set up.
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        turns = round(frame.rotation / 90) % 4
        if self._look is None:
            size = (frame.width, frame.height)[:: -1 if turns % 2 else 1]
            self._look = self._detector.look(*size)
        look = self._look
        width, height = (look.width, look.height)[:: -1 if turns % 2 else 1]
        picture = self._reformatter.reformat(
            frame, width, height, look.colours, interpolation=Interpolation[look.scaling]
        )
        upright = np.rot90(picture.to_ndarray(), turns)
        return np.ascontiguousarray(upright, np.uint8)
