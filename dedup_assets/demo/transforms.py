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


@dataclass(frozen=True)
class Encoding:
    """What the encoder is given. `frames` of shape (t, h, w, 3), a view where that suffices."""

    frames: Frames
    size: tuple[int, int] = (WIDTH, HEIGHT)
    bit_rate: int = BIT_RATE


def _bitrate(frames: Frames, rng: np.random.Generator) -> Encoding:
    return Encoding(frames, bit_rate=int(rng.integers(*LOW_BIT_RATES)))


def _resolution(frames: Frames, rng: np.random.Generator) -> Encoding:
    return Encoding(frames, size=SIZES[int(rng.integers(len(SIZES)))])


def _brightness_contrast(frames: Frames, rng: np.random.Generator) -> Encoding:
    """Contrast around middle grey times 0.75 to 1.3, brightness shifted by up to 30 levels."""
    gain, shift = rng.uniform(0.75, 1.3), rng.uniform(-30, 30)
    levels = np.clip((np.arange(256) - 128) * gain + 128 + shift, 0, 255).astype(np.uint8)
    return Encoding(levels[frames])


def _crop(frames: Frames, rng: np.random.Generator) -> Encoding:
    """85 to 95 % of each side, anywhere; the encoder scales it back to the full size."""
    height, width = frames.shape[1:3]
    h, w = (int(rng.uniform(0.85, 0.95) * side) for side in (height, width))
    top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
    return Encoding(frames[:, top : top + h, left : left + w])


def _trim(frames: Frames, rng: np.random.Generator) -> Encoding:
    """5 to 20 % of the frames cut off, shared between head and tail."""
    cut = int(rng.uniform(0.05, 0.2) * len(frames))
    head = int(rng.integers(cut + 1))
    return Encoding(frames[head : len(frames) - (cut - head)])


def _flip(frames: Frames, rng: np.random.Generator) -> Encoding:
    """The mirror image; nothing about it is random."""
    del rng
    return Encoding(frames[:, :, ::-1])


TRANSFORMS: dict[str, Callable[[Frames, np.random.Generator], Encoding]] = dict(
    zip(
        DUPLICATE_KINDS,
        (_bitrate, _resolution, _brightness_contrast, _crop, _trim, _flip),
        strict=True,
    )
)
