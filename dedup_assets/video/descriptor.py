"""A description of a clip that needs no model weights, so that the demo runs without any.

What it is: four classical image descriptions, side by side, computed from `N_SAMPLES` frames spread
evenly over the clip and averaged down to `SIDE` x `SIDE` pixels. Luminance is 0.299 R + 0.587 G +
0.114 B, shifted and scaled to mean 0 and deviation 1 over the whole clip, which takes a change of
brightness or contrast out.

| block | dims | what it holds |
|---|---|---|
| layout | 107 | the lowest 3 x 6 x 6 coefficients (time, rows, columns) of the cosine transform of the luminance volume, without the constant one, each times its spatio-temporal frequency |
| edges | 128 | histograms of 8 gradient orientations (modulo 180 degrees) in 4 x 4 cells, weighted by the gradient's length; square roots, minus their mean |
| colour | 32 | mean blue and red difference from luminance (B - Y, R - Y) in 4 x 4 cells |
| motion | 48 | mean absolute change of luminance between neighbouring samples in 4 x 4 cells, for each third of the clip, minus the mean |

Each block is scaled to length 1, or less where it holds hardly more than noise (below `FLOOR`), so
the cosine of two clips is about the mean of the four blocks' cosines.

Why these numbers (argued, not fitted to any files):
- Natural pictures have amplitudes that fall as 1 / frequency; times the frequency each coefficient
  counts alike. Without it two pictures that are both light above and dark below look alike.
- The 6th basis function has 5 half-waves across a side, so a shift by 5 % of the side, as a small
  crop makes, is an eighth of its wave; finer detail would not survive. The same holds for 3 in time.
- 4 x 4 cells and 8 orientations are the grid of GIST and SIFT.
- Mean and noise carry no identity: taking the mean from what cannot be negative keeps the cosine of
  unrelated clips near 0. Colour differences have a sign already.
- Nothing says that one block is better than another, so all weigh the same.

What it is not: it is not Cosmos-Embed1 or InternVideo2 and knows nothing of what a clip shows. It
misses mirrored clips (layout, edges and colour have sides), large crops, overlaid text or borders,
changed speed, clips cut from the middle of another; it can take for the same two takes of one
scene in which only something small moves differently. Use a trained model for real data.
"""  # noqa: E501

import numpy as np
from numpy.typing import NDArray

N_SAMPLES = 12
SIDE = 64
CELLS = 4
ORIENTATIONS = 8
LOW = (3, 6, 6)  # how many cosine frequencies are kept in time, rows, columns
THIRDS = 3
DIM = (
    LOW[0] * LOW[1] * LOW[2] - 1
    + CELLS * CELLS * ORIENTATIONS
    + 2 * CELLS * CELLS
    + THIRDS * CELLS * CELLS
)  # fmt: skip
#: What 8-bit rounding alone may amount to, in grey levels: contrast below it is noise.
FLOOR = 1.0
LUMA = np.array([0.299, 0.587, 0.114])

Float = NDArray[np.float64]


def describe_frames(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe frames spread evenly over a clip, RGB of shape (t, h, w, 3) with t >= 4.

    Returns shape (DIM,), of length at most 2 and not normalised further; the module's docstring
    says what the numbers are.
    """
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"frames of shape {frames.shape}, {frames.dtype}, should be (t, h, w, 3), uint8."
        )
    if len(frames) <= THIRDS:
        raise ValueError(f"frames.shape[0]={len(frames)} should be >= {THIRDS + 1}.")
    small = np.stack([_shrink(frame) for frame in frames])
    luma = small @ LUMA
    # One floor for all blocks, in the unit in which each is measured.
    deviation = np.hypot(luma.std(), FLOOR)
    grey = (luma - luma.mean()) / deviation
    floor = FLOOR / deviation
    colour = _colour(small, luma)
    blocks = (
        _unit(_layout(grey), floor),
        _unit(_edges(grey), floor),
        _unit(colour, FLOOR),
        _unit(_motion(grey), floor),
    )
    return np.concatenate(blocks).astype(np.float32)


def _layout(grey: Float) -> Float:
    """Low frequencies of (t, SIDE, SIDE), each times its frequency, without the constant."""
    in_time, in_space = _cosines(LOW[0], len(grey)), _cosines(LOW[1], SIDE)
    low = np.einsum("at,tyx,by,cx->abc", in_time, grey, in_space, in_space, optimize=True)
    a, b, c = np.ogrid[: LOW[0], : LOW[1], : LOW[2]]
    # Orthonormal in time and space, so divide by the root of the number of pixels: unit of `grey`.
    return (low * np.sqrt(a * a + b * b + c * c)).ravel()[1:] / np.sqrt(grey.size)


def _edges(grey: Float) -> Float:
    """Gradient orientations of (t, SIDE, SIDE) in a grid of cells, summed over time."""
    dy, dx = np.gradient(grey, axis=(1, 2))
    # An orientation between two bins belongs to both, in proportion, so that noise moves little.
    at = np.mod(np.arctan2(dy, dx), np.pi) * (ORIENTATIONS / np.pi)
    low = at.astype(np.int64)
    share = at - low
    length = np.hypot(dy, dx)
    cell = np.arange(SIDE) * CELLS // SIDE
    base = (cell[:, None] * CELLS + cell) * ORIENTATIONS
    histogram = np.zeros(CELLS * CELLS * ORIENTATIONS)
    for bin_, weight in ((low, length * (1 - share)), (low + 1, length * share)):
        index = base + bin_ % ORIENTATIONS
        histogram += np.bincount(index.ravel(), weight.ravel(), len(histogram))
    root = np.sqrt(histogram / grey.size)
    return root - root.mean()


def _colour(small: Float, luma: Float) -> Float:
    """Blue and red differences of (t, SIDE, SIDE, 3), in grey levels, per cell over all time."""
    differences = np.stack([small[..., 2] - luma, small[..., 0] - luma])
    return _cell_means(differences.mean(axis=1)).ravel() / np.sqrt(2 * CELLS * CELLS)


def _motion(grey: Float) -> Float:
    """Change of (t, SIDE, SIDE) between neighbouring samples, per cell and third of the clip."""
    change = np.abs(np.diff(grey, axis=0))
    thirds = [third.mean(axis=0) for third in np.array_split(change, THIRDS)]
    energy = _cell_means(np.stack(thirds)).ravel()
    return (energy - energy.mean()) / np.sqrt(energy.size)


def _cell_means(images: Float) -> Float:
    """Means over CELLS x CELLS cells of images of shape (n, SIDE, SIDE)."""
    step = SIDE // CELLS
    return images.reshape(len(images), CELLS, step, CELLS, step).mean(axis=(2, 4))


def _unit(block: Float, floor: float) -> Float:
    """Scale to length 1, less where the length does not stand out from `floor`."""
    return block / np.hypot(np.linalg.norm(block), floor)


def _shrink(frame: NDArray[np.uint8]) -> Float:
    """Area averages of a frame of shape (h, w, 3) on a grid of SIDE x SIDE."""
    height, width, _ = frame.shape
    # Rows first and in single precision: nearly all of the work is here, and 8-bit values are
    # summed exactly enough.
    values = frame.reshape(height, -1).astype(np.float32)
    low = (_averages(height).astype(np.float32) @ values).reshape(SIDE, width, 3)
    return np.einsum("yhc,xh->yxc", low.astype(np.float64), _averages(width), optimize=True)


def _averages(n: int) -> Float:
    """The matrix, of shape (SIDE, n), that averages n pixels over SIDE equal spans."""
    edges = np.arange(SIDE + 1) * (n / SIDE)
    pixel = np.arange(n)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.clip(overlap, 0, None) * (SIDE / n)


def _cosines(count: int, n: int) -> Float:
    """The first `count` orthonormal cosine functions (DCT-II) on n points, shape (count, n)."""
    k = np.arange(count)[:, None]
    basis = np.cos(np.pi * k * (np.arange(n) + 0.5) / n) * np.sqrt(2 / n)
    basis[0] = np.sqrt(1 / n)
    return basis
