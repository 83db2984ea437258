"""Made-up clips."""

import numpy as np
from numpy.typing import NDArray


def clips(count: int, frames: int, size: tuple[int, int] = (48, 64)) -> list[NDArray[np.uint8]]:
    """RGB clips of shape (frames, *size, 3): noise in blocks of 8 pixels, another in each frame."""
    rng = np.random.default_rng(count * 1000 + frames)
    coarse = rng.integers(0, 256, (count, frames, -(-size[0] // 8), -(-size[1] // 8), 3), np.uint8)
    fine = coarse.repeat(8, axis=2).repeat(8, axis=3)
    return list(fine[:, :, : size[0], : size[1]])
