"""The weight-free description of `dedup_assets.video.descriptor` as an embedder."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dedup_assets.compute.normalize import unit_rows
from dedup_assets.video.descriptor import DIM, N_SAMPLES, describe_frames
from dedup_assets.video.embed.interface import Prepare
from dedup_assets.video.sampling import Sampling

#: A description is at most 2 long; one shorter than this is rounding noise and has no direction.
#: Even shades give up to 0.0017, two halves one grey level apart 0.63.
LEAST_LENGTH = 1e-2


class PerceptualEmbedder:
    """`prepare` does all the work: it gives shape (DIM,), float32."""

    name = "perceptual"
    dim = DIM
    sampling = Sampling(N_SAMPLES)

    @property
    def prepare(self) -> Prepare:
        return describe_frames

    def embed(self, prepared: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Descriptions, each of shape (DIM,), to rows of length 1.

        All clips of which nothing can be described, such as black ones, get one and the same.
        """
        rows = np.ones((len(prepared), DIM), np.float32)
        for row, vector in zip(rows, prepared, strict=True):
            if vector.shape != (DIM,):
                raise ValueError(f"description of shape {vector.shape} should be ({DIM},).")
            if np.linalg.norm(vector) >= LEAST_LENGTH:
                row[...] = vector
        unit: NDArray[np.float32] = unit_rows(rows).rows
        return unit
