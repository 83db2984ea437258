"""Clip ids as NVIDIA's two curation pipelines form them, so that ids agree with their corpora.

Both are version 5 UUIDs in the URL namespace; they differ in the name that is hashed:

| recipe | name | whose |
|---|---|---|
| `frames` | `{video}_{first}_{last}`, whole numbers: span times frame rate, cut off | NeMo Curator's fixed stride; its and cosmos-curate's TransNetV2 scenes |
| `seconds` | `{video}_{start_s}_{end_s}`, doubles as Python prints them (`0.0`, `10.0`) | cosmos-curate's fixed stride |

`video` is the path or URL as it was given to the pipeline; cosmos-curate calls it the session,
which is the path for a single camera and the folder's name for several. The end of the last span
is the duration, for which both take `nominal_duration_s`. Scenes are found by frame, and their ids
are of the recipe `frames` at both peers, so they are here whatever the recipe is.
"""  # noqa: E501

import uuid
from typing import Literal, get_args

from dedup_assets.video.spans import Span

Recipe = Literal["frames", "seconds"]


def clip_id(recipe: Recipe, video: str, span: Span, fps: float) -> str:
    """The id of the clip that `span` cuts from `video`.

    `video`: the path or URL, character by character as the peer was given it. `fps`: the average
    frame rate of the source, which only `frames` uses.
    """
    if recipe not in get_args(Recipe):
        raise ValueError(f"recipe={recipe!r} should be one of {', '.join(get_args(Recipe))}.")
    if recipe == "frames" or span.frames is not None:
        first, last = frame_numbers(span, fps)
        name = f"{video}_{first}_{last}"
    else:
        name = f"{video}_{float(span.start_s)}_{float(span.end_s)}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def frame_numbers(span: Span, fps: float) -> tuple[int, int]:
    """The frames at which a span starts and ends: its own, else as the peers count them.

    The peers' follow from times and average rate, fractions cut off, so with a variable rate they
    are not the frames that the clip holds.
    """
    if span.frames is not None:
        return span.frames
    return int(span.start_s * fps), int(span.end_s * fps)


def nominal_duration_s(stated_s: float, fps: float) -> float:
    """A video's duration as the peers take it: whole frames of its stated duration, in seconds.

    `stated_s` is read from ffprobe's text, which has six decimals; the number of frames is the
    product with the average frame rate, cut off.
    """
    return int(float(f"{stated_s:.6f}") * fps) / fps
