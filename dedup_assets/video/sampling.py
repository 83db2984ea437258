"""Which frames of a clip are looked at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip an embedder wants.

    Attributes:
        count: number of frames.
        fps: None takes `count` frames at the middles of equal time spans. A rate in frames per
            second samples at it, doubled up to `most_fps` until there are at least `count` frames,
            and takes `count` of them spread evenly.
        most_fps: the highest rate, in frames per second.
    """

    count: int
    fps: float | None = None
    most_fps: float = 20.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count={self.count} should be >= 1.")
        if self.fps is not None and not 0 < self.fps <= self.most_fps:
            raise ValueError(f"fps={self.fps} should be > 0 and <= most_fps={self.most_fps}.")
