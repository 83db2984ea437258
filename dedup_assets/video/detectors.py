"""What finds scenes in the frames of a video: by a choice of two, and what each needs."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dedup_assets.video.scenes import Scene, SceneRules


@dataclass(frozen=True)
class Look:
    """How a detector wants to see frames: size in pixels, order of colours, filter of scaling."""

    width: int
    height: int
    colours: Literal["rgb24", "bgr24"]
    scaling: Literal["BICUBIC", "BILINEAR"]


class Detection(Protocol):
    """The search for the scenes of one video."""

    def push(self, picture: NDArray[np.uint8]) -> None:
        """Take the next frame, of shape (height, width, 3)."""

    def scenes(self) -> list[Scene]:
        """The scenes, by start, in frames counted as pushed; call it once, after the last frame."""


class Detector(Protocol):
    """Finds scenes. Picklable, and small: a model is loaded where it is used."""

    def look(self, width: int, height: int) -> Look:
        """What is to be pushed of a video of upright frames of this size."""

    def check(self) -> None:
        """SceneError if a package or the model is missing or does not fit."""

    def start(self, fps: float) -> Detection:
        """Begin with a video of this average rate."""


@dataclass(frozen=True)
class SceneCuts:
    """Clips of scenes: what finds the scenes, and what becomes of each."""

    detector: Detector
    rules: SceneRules = field(default_factory=SceneRules)
