"""Which frames go into which clip, decided from a video's index before anything is decoded."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import NDArray

from dedup_assets.video.ids import nominal_duration_s
from dedup_assets.video.sampling import Sampling
from dedup_assets.video.spans import Span

Ticks = NDArray[np.int64]
#: Single precision, as in the peers: it decides which of two frames is nearer to a time between.
Seconds = NDArray[np.float32]
#: Far above the rounding of summed doubles, far below the time between two frames.
ROUNDING_S = Fraction(1, 10_000_000)


@dataclass(frozen=True)
class Timeline:
    """The frames of a video stream as its packets state them.

    Times are presentation times in ticks of `tick` seconds.
    """

    pts: Ticks
    """Of shape (frames,), ascending."""
    keys: Ticks
    """Those of key frames, ascending."""
    tick: Fraction
    end: int
    """When the last frame leaves the screen."""
    stated_s: float | None
    """The duration that the header states."""
    fps: float
    """The average rate."""

    @property
    def measured_s(self) -> float:
        return float((self.end - int(self.pts[0])) * self.tick)

    @property
    def leeway_s(self) -> float:
        """By how much headers may differ from packets in files that are whole."""
        return max(0.1, 2 / self.fps)

    @property
    def duration_s(self) -> float:
        """The peers' duration where the packets bear it out, else what the packets say."""
        if self.stated_s is not None and abs(self.stated_s - self.measured_s) <= self.leeway_s:
            nominal = nominal_duration_s(self.stated_s, self.fps)
            if nominal > 0:
                return nominal
        return self.measured_s

    def at(self, seconds: float) -> int:
        """The first tick at or after a time from the first frame.

        A tick up to `ROUNDING_S` earlier counts too: a tenth of a second has no exact double, and
        sums of it would now and then move a border to the next frame.
        """
        return int(self.pts[0]) + ceil((Fraction(seconds) - ROUNDING_S) / self.tick)


@dataclass(frozen=True)
class ClipPlan:
    """One clip: its frames are those with `begin` <= pts < `end`."""

    span: Span
    begin: int
    end: int
    wanted: Ticks | None
    """Times of the frames to sample, of shape (count,), ascending; one may occur repeatedly."""


def plan_clips(
    timeline: Timeline, spans: Iterable[Span], sampling: Sampling | None, *, on_keys: bool
) -> list[ClipPlan]:
    """The clips of a video's spans, by start; a span in which no frame begins gives none.

    `on_keys`: clips begin and end at the first key frame at or after the border of their span.
    """
    plans = []
    for span in spans:
        begin, end = _ticks(timeline, span)
        if on_keys:
            begin, end = _next_key(timeline, begin), _next_key(timeline, end)
        first, last = np.searchsorted(timeline.pts, (begin, end))
        if first == last:
            continue
        wanted = None
        if sampling is not None:
            shown_until = int(timeline.pts[last]) if last < len(timeline.pts) else timeline.end
            wanted = sample_times(timeline.pts[first:last], shown_until, timeline.tick, sampling)
        plans.append(ClipPlan(span, begin, end, wanted))
    return plans


def _ticks(timeline: Timeline, span: Span) -> tuple[int, int]:
    """When a span begins and ends."""
    if span.frames is None:
        # Headers round, so the last frame may begin at the stated end.
        whole = span.end_s >= timeline.duration_s
        return timeline.at(span.start_s), timeline.end + 1 if whole else timeline.at(span.end_s)
    first, last = span.frames
    whole = last >= len(timeline.pts)
    return int(timeline.pts[first]), timeline.end + 1 if whole else int(timeline.pts[last])


def sample_times(pts: Ticks, end: int, tick: Fraction, sampling: Sampling) -> Ticks:
    """Times of the frames that `sampling` chooses from a clip's `pts`, of shape (count,).

    `end` is the tick at which the clip's last frame leaves the screen.
    """
    count = sampling.count
    k = np.arange(count)
    if sampling.fps is None:
        middles = pts[0] + (k + 0.5) * (end - int(pts[0])) / count
        return pts[np.searchsorted(pts, middles, side="right") - 1]
    seconds = ((pts - pts[0]) * float(tick)).astype(np.float32)
    rate = sampling.fps
    while len(grid := _grid(seconds[-1], rate)) < count and 2 * rate <= sampling.most_fps:
        rate *= 2
    nearest = _nearest(seconds, grid)
    n = len(nearest)
    return pts[nearest[k * (n // count) if n >= count else k * n // count]]


def _grid(last_s: np.float32, rate: float) -> Seconds:
    """Times of `rate` a second, up to half a step past the last frame."""
    return np.arange(0, last_s + 0.5 / rate, 1 / rate, dtype=np.float32)


def _nearest(times: Seconds, wanted: Seconds) -> NDArray[np.int64]:
    """Indices into ascending `times` of the values nearest to `wanted`, the earlier on a tie."""
    right = np.clip(np.searchsorted(times, wanted), 0, len(times) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(times[left] - wanted) <= np.abs(times[right] - wanted), left, right)


def _next_key(timeline: Timeline, at: int) -> int:
    """The first key frame at or after a tick, else the end of the video."""
    index = np.searchsorted(timeline.keys, at)
    return int(timeline.keys[index]) if index < len(timeline.keys) else timeline.end + 1
