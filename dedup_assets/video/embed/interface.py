"""What turns clips into vectors."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dedup_assets.video.sampling import Sampling

Frames = NDArray[np.uint8]
Prepare = Callable[[Frames], NDArray[np.generic]]


class Embedder(Protocol):
    """A model, or a description that needs none.

    Work is split in two, so that clips are decoded in many processes and embedded in one: the
    process that decodes a clip takes the frames of `sampling` and calls `prepare`; the process that
    holds the model calls `embed` for many clips at once.
    """

    @property
    def name(self) -> str:
        """Names the model in records: the kind, with the resolution or the model's folder."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def sampling(self) -> Sampling:
        """Which frames of a clip `prepare` takes."""
        ...

    @property
    def prepare(self) -> Prepare:
        """Makes frames small: RGB of shape (t, h, w, 3), uint8, to what `embed` takes, on the host.

        Picklable and free of torch.
        """
        ...

    def embed(self, prepared: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Embed what `prepare` gave for n clips: shape (n, dim), float32, on the host.

        Rows have length 1. What is not needed at once is not read at once: `prepared` may read each
        from a file.

        Raises:
            EmbedError: the model gives NaN, or the memory does not hold one clip.
        """
        ...
