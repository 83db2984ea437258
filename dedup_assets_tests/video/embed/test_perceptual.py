"""The weight-free embedder."""

import pickle
import subprocess
import sys

import numpy as np

from dedup_assets.video.descriptor import DIM, N_SAMPLES, describe_frames
from dedup_assets.video.embed import make_embedder
from dedup_assets.video.sampling import Sampling
from dedup_assets_tests.video.embed.clips import clips


def test_rows_are_the_scaled_descriptions() -> None:
    embedder = make_embedder("perceptual")
    frames = clips(3, N_SAMPLES)
    rows = embedder.embed([embedder.prepare(clip) for clip in frames])
    assert embedder.name == "perceptual"
    assert (embedder.dim, embedder.sampling) == (DIM, Sampling(N_SAMPLES))
    assert (rows.shape, rows.dtype) == ((3, DIM), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    for row, clip in zip(rows, frames, strict=True):
        described = describe_frames(clip)
        np.testing.assert_allclose(row, described / np.linalg.norm(described), atol=1e-6)


def test_blank_clips_get_one_and_the_same_row() -> None:
    """Their descriptions are rounding noise: each scaled to length 1, they would resemble one
    another by chance. A row of zeros would be refused later, and the video with it."""
    embedder = make_embedder("perceptual")
    blank = [np.full((N_SAMPLES, 36, 64, 3), shade, np.uint8) for shade in (0, 77, 255)]
    rows = embedder.embed([embedder.prepare(clip) for clip in (*blank, clips(1, N_SAMPLES)[0])])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert (rows[:3] == rows[0]).all()
    assert abs(rows[3] @ rows[0]) < 0.9


def test_no_clips_give_no_rows() -> None:
    assert make_embedder("perceptual").embed([]).shape == (0, DIM)


def test_preparing_needs_neither_torch_nor_transformers() -> None:
    """It runs in processes that decode, of which there are many."""
    sent = pickle.dumps(make_embedder("perceptual").prepare)
    code = (
        "import sys, pickle; sys.modules.update(torch=None, transformers=None, av=None);"
        f"import numpy as np; prepare = pickle.loads({sent!r});"
        "assert prepare(np.zeros((4, 8, 8, 3), np.uint8)).shape == (315,);"
        "import dedup_assets.video.embed"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
