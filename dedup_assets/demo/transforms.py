"""How a near-duplicate differs from its original: another encoding, size, light, cut or side."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_assets.demo.drawing import HEIGHT, WIDTH
from dedup_assets.demo.truth import DUPLICATE_KINDS

Frames = NDArray[np.uint8]
BIT_RATE = 800_000  # bits per second, as all below
LOW_BIT_RATES = (50_000, 130_000)
SIZES = ((160, 90), (240, 136), (426, 240), (480, 270))
CUT_FRAMES = (4, 18)  # of a trimmed video's start


def _same(frames: Frames) -> Frames:
    return frames


@dataclass(frozen=True)
class Encoding:
    """What becomes of a video's frames before and in the encoder.

    `change` takes frames of shape (t, h, w, 3), any number of them, and gives as many, a view where
    that suffices. `head` frames at the start of the video are left out.
    """

    change: Callable[[Frames], Frames] = _same
    size: tuple[int, int] = (WIDTH, HEIGHT)
    bit_rate: int = BIT_RATE
    head: int = 0


def _bitrate(rng: np.random.Generator) -> Encoding:
    return Encoding(bit_rate=int(rng.integers(*LOW_BIT_RATES)))


def _resolution(rng: np.random.Generator) -> Encoding:
    return Encoding(size=SIZES[int(rng.integers(len(SIZES)))])


def _brightness_contrast(rng: np.random.Generator) -> Encoding:
    """Contrast around middle grey times 0.75 to 1.3, brightness shifted by up to 30 levels."""
    gain, shift = rng.uniform(0.75, 1.3), rng.uniform(-30, 30)
    levels = np.clip((np.arange(256) - 128) * gain + 128 + shift, 0, 255).astype(np.uint8)
    return Encoding(lambda frames: levels[frames])


def _crop(rng: np.random.Generator) -> Encoding:
    """85 to 95 % of each side, anywhere; the encoder scales it back to the full size."""
    h, w = (int(rng.uniform(0.85, 0.95) * side) for side in (HEIGHT, WIDTH))
    top, left = int(rng.integers(HEIGHT - h + 1)), int(rng.integers(WIDTH - w + 1))
    return Encoding(lambda frames: frames[:, top : top + h, left : left + w])


def _trim(rng: np.random.Generator) -> Encoding:
    """The start is cut off, so that every clip of the video begins a little late."""
    return Encoding(head=int(rng.integers(*CUT_FRAMES)))


def _flip(rng: np.random.Generator) -> Encoding:
    """The mirror image; nothing about it is random."""
    del rng
    return Encoding(lambda frames: frames[:, :, ::-1])


TRANSFORMS: dict[str, Callable[[np.random.Generator], Encoding]] = dict(
    zip(
        DUPLICATE_KINDS,
        (_bitrate, _resolution, _brightness_contrast, _crop, _trim, _flip),
        strict=True,
    )
)
