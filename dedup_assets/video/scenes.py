"""Where scenes are cut, from what a detector says of each frame: rules without any decoding."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dedup_assets.video.plan import Ticks, Timeline
from dedup_assets.video.spans import Span

#: First frame of a scene, and one past its last.
Scene = tuple[int, int]
LengthMode = Literal["stride", "truncate"]


@dataclass(frozen=True)
class SceneRules:
    """What becomes of a scene, in the order of cosmos-curate's TransNetV2 stage.

    A scene longer than `maximum_s` gives pieces of that length (`stride`), or only the first
    (`truncate`). Each piece loses `crop_s` at either end. What then lasts less than `minimum_s`, or
    `minimum_frames` at the video's average rate, is dropped.
    """

    minimum_s: float = 2.0
    minimum_frames: int = 48
    maximum_s: float = 60.0
    mode: LengthMode = "stride"
    crop_s: float = 0.5

    def __post_init__(self) -> None:
        for name in ("minimum_s", "minimum_frames", "crop_s"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name}={getattr(self, name)} should be >= 0 and finite.")
        if not 0 < self.maximum_s < np.inf:
            raise ValueError(f"maximum_s={self.maximum_s} should be > 0 and finite.")

    def pieces(self, begin: int, end: int, fps: float) -> Iterator[Scene]:
        """Pieces of a scene from `begin` up to `end`, all in frames at a constant rate `fps`."""
        longest, crop = ceil(self.maximum_s * fps), int(self.crop_s * fps)
        least = max(ceil(self.minimum_s * fps), self.minimum_frames, 1)
        starts = range(begin, end, longest) if self.mode == "stride" else (begin,)
        for start in starts:
            first, last = start + crop, min(start + longest, end) - crop
            if last - first >= least:
                yield first, last


def scenes_at_cuts(cuts: Iterable[int], frames: int) -> list[Scene]:
    """Scenes of a video of `frames` frames whose `cuts` are the first frames of new scenes."""
    borders = [0, *sorted({cut for cut in cuts if 0 < cut < frames}), frames]
    return [(first, last) for first, last in pairwise(borders) if first < last]


def scenes_between(transition: NDArray[np.bool_]) -> list[Scene]:
    """Scenes between transitions, whose frames belong to none.

    `transition`, of shape (frames,), marks the frames of transitions. As in both peers, whose ids
    hold these numbers: the last of several scenes ends before the video's last frame, and a video
    in which no transition begins after the first frame is one scene, as a whole.
    """
    change = np.diff(transition.astype(np.int8))
    begins, ends = np.flatnonzero(change > 0) + 1, np.flatnonzero(change < 0) + 1
    if not len(begins):
        return [(0, len(transition))] if len(transition) else []
    firsts = [int(first) for first in ends]
    lasts = [int(last) for last in begins]
    if not transition[0]:
        firsts.insert(0, 0)
    if not transition[-1]:
        lasts.append(len(transition) - 1)
    return [(first, last) for first, last in zip(firsts, lasts, strict=True) if first < last]


def spans_of(scenes: Iterable[Scene], timeline: Timeline, rules: SceneRules) -> list[Span]:
    """The spans of clips, by start; borders are the times of frames, whatever the rate.

    Lengths are measured in presentation time, as frames of the average rate: with a constant rate
    they are the peers' numbers of frames. No span reaches into another scene.
    """
    places = _places(timeline)
    spans = []
    for first, last in scenes:
        begin = int(places[first])
        end = max(int(places[last]), begin + 1)
        # Several frames may share a place where the rate varies; the scene's own borders are exact.
        exact = {begin: first, end: last}
        for piece in rules.pieces(begin, end, timeline.fps):
            frames = [
                exact.get(place, int(np.clip(np.searchsorted(places, place), first, last)))
                for place in piece
            ]
            if frames[0] < frames[1]:
                spans.append(_span(frames[0], frames[1], timeline))
    return spans


def _places(timeline: Timeline) -> Ticks:
    """Times of frames and of the video's end, of shape (frames + 1,), in frames at the mean rate.

    Rounded, so that containers that round times to milliseconds give whole numbers too.
    """
    ticks = np.append(timeline.pts, timeline.end) - timeline.pts[0]
    return np.rint(ticks * (float(timeline.tick) * timeline.fps)).astype(np.int64)


def _span(begin: int, end: int, timeline: Timeline) -> Span:
    ticks = np.append(timeline.pts, timeline.end) - timeline.pts[0]
    start_s, end_s = (float(int(ticks[frame]) * timeline.tick) for frame in (begin, end))
    return Span(start_s, end_s, (begin, end))
