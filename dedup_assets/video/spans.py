"""Where a video is cut: spans of time, and the rules that choose them."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """The time from `start_s` up to, not including, `end_s`, in seconds from the first frame."""

    start_s: float
    end_s: float
    frames: tuple[int, int] | None = None
    """Of a span that was chosen by frames: the first, counted from 0 in order of presentation, and
    one past the last."""

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < self.end_s < math.inf:
            raise ValueError(
                f"start_s={self.start_s}, end_s={self.end_s} should be 0 <= start_s < end_s."
            )
        if self.frames is not None and not 0 <= self.frames[0] < self.frames[1]:
            raise ValueError(f"frames={self.frames} should be 0 <= first < one past the last.")


@dataclass(frozen=True)
class FixedStride:
    """Clips of `length_s` seconds that start every `stride_s` seconds.

    `stride_s` None means `length_s`: each clip starts where the one before ends. A smaller stride
    makes clips overlap, a larger one leaves gaps. A piece at the end of the video that is shorter
    than `length_s` is kept if it lasts `minimum_s` or more.
    """

    length_s: float = 10.0
    stride_s: float | None = None
    minimum_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("length_s", "stride_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value} should be > 0 and finite.")
        if not 0 <= self.minimum_s < math.inf:
            raise ValueError(f"minimum_s={self.minimum_s} should be >= 0 and finite.")

    def spans(self, duration_s: float) -> list[Span]:
        """The spans of a video of `duration_s` seconds, by start.

        Starts are summed up stride by stride in double precision, as NeMo Curator and
        cosmos-curate do: their clip ids hold these numbers digit by digit.
        """
        if not 0 <= duration_s < math.inf:
            raise ValueError(f"duration_s={duration_s} should be >= 0 and finite.")
        stride = self.length_s if self.stride_s is None else self.stride_s
        spans = []
        start = 0.0
        while start < duration_s:
            end = min(start + self.length_s, duration_s)
            # Rounding must not make a whole piece too short for a minimum of its own length.
            whole = end == start + self.length_s and self.length_s >= self.minimum_s
            if (whole or end - start >= self.minimum_s) and end > start:
                spans.append(Span(start, end))
            if start + stride == start:
                raise ValueError(f"stride_s={stride} is too small to be added to {start} s.")
            start += stride
        return spans
