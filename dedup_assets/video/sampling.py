"""Which frames of a clip are looked at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip an embedder wants.

    Attributes:
        count: number of frames.
        fps: None takes `count` frames, those on screen at the middles of equal time spans of the
            clip. A rate takes frames as cosmos-curate and NeMo Curator feed their models: those
            nearest to a grid of `fps` a second, from the first frame to the last; the rate is
            doubled, up to `most_fps`, until there are `count`; of n frames every (n // count)-th
            is taken from the first on, `count` in all. So up to half of the clip's end may go
            unseen. A clip too short even then, which the peers give up, has frames repeated.
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
