"""Scenes by PySceneDetect's content detector: cuts where colours and brightness jump."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup_assets.errors import first_line
from dedup_assets.video.detectors import Look
from dedup_assets.video.errors import SceneError
from dedup_assets.video.scenes import Scene, scenes_at_cuts

#: Wider frames are reduced to this width, as PySceneDetect does.
WIDTH = 256


@dataclass(frozen=True)
class ContentCuts:
    """Cuts where the mean change of hue, saturation and brightness is `threshold` (of 255) or more.

    Cuts less than 15 frames apart are merged, which is PySceneDetect's default.
    """

    threshold: float = 27.0

    def look(self, width: int, height: int) -> Look:
        factor = max(1.0, width / WIDTH)
        return Look(
            max(1, round(width / factor)), max(1, round(height / factor)), "bgr24", "BILINEAR"
        )

    def check(self) -> None:
        _library()

    def start(self, fps: float) -> "_ContentDetection":
        return _ContentDetection(self.threshold, fps)


class _ContentDetection:
    def __init__(self, threshold: float, fps: float) -> None:
        self._library = _library()
        self._detector = self._library.ContentDetector(threshold=threshold)
        self._fps = fps
        self._frames = 0
        self._cuts: list[int] = []

    def push(self, picture: NDArray[np.uint8]) -> None:
        # Of the time only the number counts, by which cuts are merged.
        number = self._library.FrameTimecode(self._frames, fps=self._fps)
        cuts = self._detector.process_frame(number, picture)
        self._cuts += [cut.frame_num for cut in cuts]
        self._frames += 1

    def scenes(self) -> list[Scene]:
        return scenes_at_cuts(self._cuts, self._frames)


def _library() -> Any:
    try:
        import cv2
        import scenedetect
    except ImportError as error:
        raise SceneError(
            "splitting_algorithm content needs scenedetect, which cannot be imported here "
            f"({first_line(error)}): pip install 'dedup-assets[scenes]'"
        ) from error
    # Workers are as many as there are cores.
    cv2.setNumThreads(1)
    return scenedetect
