"""Frames made ready for a model, in the process that decodes them: NumPy and Pillow, no torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

#: Pillow's code of the triangle filter; model folders use the same codes.
BILINEAR = 2


@dataclass(frozen=True)
class Geometry:
    """How a frame becomes the model's input.

    Attributes:
        resize: (height, width) stretches; a number is the length of the shorter side and keeps the
            aspect ratio.
        crop: (height, width) cut from the middle after that; None only where `resize` stretches.
        resample: Pillow's code of the filter.
    """

    resize: tuple[int, int] | int
    crop: tuple[int, int] | None
    resample: int

    def __post_init__(self) -> None:
        least = self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)
        if self.crop is None and not isinstance(self.resize, tuple):
            raise ValueError(f"resize={self.resize} gives frames of several shapes without a crop.")
        if self.crop is not None and (self.crop[0] > least[0] or self.crop[1] > least[1]):
            raise ValueError(f"crop={self.crop} should be within resize={self.resize}.")


def fit_frames(frames: Frames, *, geometry: Geometry) -> Frames:
    """Resize and crop RGB frames of shape (t, h, w, 3); same shape and dtype, other h and w."""
    check_frames(frames)
    height, width = frames.shape[1:3]
    resized = _resized(frames, _target(geometry.resize, height, width), geometry.resample)
    return resized if geometry.crop is None else _middle(resized, geometry.crop)


def shrink_frames(frames: Frames, *, shorter_side: int) -> Frames:
    """Scale RGB frames of shape (t, h, w, 3) down to a shorter side; never up.

    Keeps the aspect ratio, for models whose own code resizes: it is then cheap, and the same
    whether that code stretches or crops.
    """
    check_frames(frames)
    height, width = frames.shape[1:3]
    if min(height, width) <= shorter_side:
        return frames
    return _resized(frames, _target(shorter_side, height, width), BILINEAR)


def interpolate_frames(frames: Frames, *, size: tuple[int, int]) -> Frames:
    """Stretch RGB frames of shape (t, h, w, 3) to `size` (height, width) from 2 x 2 neighbours.

    Without smoothing, as OpenCV's default does, within rounding: a model whose publisher resized
    so gives the publisher's vectors only for such pixels.
    """
    check_frames(frames)
    top, bottom, down = _neighbours(frames.shape[1], size[0])
    left, right, across = _neighbours(frames.shape[2], size[1])
    across = across[:, None]
    out = np.empty((len(frames), *size, 3), np.uint8)
    for frame, target in zip(frames, out, strict=True):
        rows = frame[top] * (1 - down)[:, None, None] + frame[bottom] * down[:, None, None]
        target[...] = np.rint(rows[:, left] * (1 - across) + rows[:, right] * across)
    return out


def check_frames(frames: Frames) -> None:
    """Refuse what is not RGB frames of shape (t, h, w, 3), uint8, with none of them 0."""
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(
            f"frames of shape {frames.shape}, {frames.dtype}, should be (t, h, w, 3), uint8."
        )


def _target(resize: tuple[int, int] | int, height: int, width: int) -> tuple[int, int]:
    if isinstance(resize, tuple):
        return resize
    # Rounded down, as the processors of transformers do.
    if height <= width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


def _resized(frames: Frames, size: tuple[int, int], resample: int) -> Frames:
    from PIL import Image

    if frames.shape[1:3] == size:
        return frames
    height, width = size
    out = np.empty((len(frames), height, width, 3), np.uint8)
    for frame, target in zip(frames, out, strict=True):
        image = Image.fromarray(np.ascontiguousarray(frame))
        target[...] = np.asarray(image.resize((width, height), Image.Resampling(resample)))
    return out


def _middle(frames: Frames, crop: tuple[int, int]) -> Frames:
    top, left = ((have - want) // 2 for want, have in zip(crop, frames.shape[1:3], strict=True))
    return np.ascontiguousarray(frames[:, top : top + crop[0], left : left + crop[1]])


def _neighbours(
    have: int, want: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """For each of `want` pixel centres: the pixels before and after it, and its way to the next."""
    at = np.clip((np.arange(want) + 0.5) * (have / want) - 0.5, 0, have - 1)
    before = np.floor(at).astype(np.intp)
    return before, np.minimum(before + 1, have - 1), at - before
