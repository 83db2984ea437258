"""The built-in descriptor: its parts by hand, what it keeps and what it tells apart."""

import numpy as np
import pytest

from dedup_assets.demo.scenes import draw, plan_scene
from dedup_assets.video.descriptor import (
    DIM,
    N_SAMPLES,
    describe_frames,
)

pytestmark = pytest.mark.slow

LAYOUT, EDGES, COLOUR, MOTION = slice(0, 107), slice(107, 235), slice(235, 267), slice(267, 315)


def _frames(index: int) -> np.ndarray:
    """Samples of a scene as drawn."""
    frames = np.stack(list(draw(plan_scene(index, 0))))
    return frames[np.linspace(0, len(frames) - 1, N_SAMPLES).astype(int)]


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_shape_and_dtype():
    vector = describe_frames(_frames(0))
    assert DIM == 315
    assert vector.shape == (DIM,)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()
    for block in (LAYOUT, EDGES, COLOUR, MOTION):
        assert 0.9 < np.linalg.norm(vector[block]) <= 1, "blocks weigh the same"


def test_blank_clip_is_finite_and_says_nothing():
    """A fade to one grey has no contrast; noise must not be blown up to a unit vector."""
    vector = describe_frames(np.full((N_SAMPLES, 36, 64, 3), 77, np.uint8))
    assert np.linalg.norm(vector) < 1e-6


def test_still_vertical_wave_is_one_layout_coefficient():
    """cos(pi * 2 * (y + 1/2) / h) is the DCT's own function: time 0, rows 2, columns 0."""
    wave = 128 + 100 * np.cos(np.pi * 2 * (np.arange(64) + 0.5) / 64)
    frames = np.broadcast_to(wave[None, :, None, None], (N_SAMPLES, 64, 64, 3)).astype(np.uint8)
    vector = describe_frames(frames)
    layout = np.concatenate([[0], vector[LAYOUT]]).reshape(3, 6, 6)
    assert layout[0, 2, 0] == pytest.approx(1, abs=1e-3)
    assert np.abs(np.delete(layout.ravel(), 12)).max() < 0.01
    np.testing.assert_allclose(vector[MOTION], 0, atol=1e-6)
    edges = vector[EDGES].reshape(4, 4, 8)
    assert (edges.argmax(axis=2) == 4).all(), "the gradient is vertical: bin 90 / 22.5"


def test_motion_block_says_where_and_when():
    frames = np.full((N_SAMPLES, 64, 64, 3), 100, np.uint8)
    frames[:3:2, :16, :16] = 200  # flickers in the first third, upper left cell
    motion = describe_frames(frames)[MOTION].reshape(3, 4, 4)
    assert motion.argmax() == 0
    assert (np.delete(motion.ravel(), 0) < 0).all()


def test_colour_block_says_which_and_where():
    frames = np.full((N_SAMPLES, 64, 64, 3), 100, np.uint8)
    frames[:, 48:, 48:] = (100, 100, 255)
    blue, red = describe_frames(frames)[COLOUR].reshape(2, 4, 4)
    assert blue.argmax() == 15 and blue[3, 3] > 0.9
    assert red.argmin() == 15
    np.testing.assert_allclose(np.delete(blue.ravel(), 15), 0, atol=1e-6)


def test_size_of_the_picture_does_not_matter():
    frames = _frames(1)
    doubled = frames.repeat(2, axis=1).repeat(2, axis=2)
    assert _cosine(describe_frames(frames), describe_frames(doubled)) > 0.9999


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((N_SAMPLES, 8, 8), np.uint8),
        np.zeros((N_SAMPLES, 8, 8, 4), np.uint8),
        np.zeros((N_SAMPLES, 8, 8, 3), np.float32),
        np.zeros((3, 8, 8, 3), np.uint8),
    ],
)
def test_wrong_frames_are_refused(frames: np.ndarray):
    with pytest.raises(ValueError, match="should be"):
        describe_frames(frames)
