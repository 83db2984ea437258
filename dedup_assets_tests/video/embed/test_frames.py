"""Frames made ready for a model: sizes, crops and pixels, by hand."""

import pickle
from functools import partial

import numpy as np
import pytest

from dedup_assets.video.embed.frames import (
    BILINEAR,
    Geometry,
    fit_frames,
    interpolate_frames,
    shrink_frames,
)
from dedup_assets_tests.video.embed.clips import clips


@pytest.mark.parametrize(
    ("geometry", "height", "width", "shape"),
    [
        (Geometry((10, 12), None, BILINEAR), 40, 80, (10, 12)),
        (Geometry(20, (16, 16), BILINEAR), 40, 80, (16, 16)),
        (Geometry(20, (20, 18), BILINEAR), 80, 40, (20, 18)),
        (Geometry(64, (64, 64), BILINEAR), 40, 80, (64, 64)),
    ],
)
def test_shape_is_what_the_geometry_says(
    geometry: Geometry, height: int, width: int, shape: tuple[int, int]
) -> None:
    (frames,) = clips(1, 3, (height, width))
    fitted = fit_frames(frames, geometry=geometry)
    assert fitted.shape == (3, *shape, 3)
    assert fitted.dtype == np.uint8


def test_crop_takes_the_middle() -> None:
    """A frame that is resized to itself is only cropped: rows 1 to 2, columns 2 to 3 of 4 x 6."""
    frames = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(1, 4, 6, 3)
    fitted = fit_frames(frames, geometry=Geometry((4, 6), (2, 2), BILINEAR))
    np.testing.assert_array_equal(fitted, frames[:, 1:3, 2:4])


def test_geometry_that_gives_several_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match="several shapes"):
        Geometry(20, None, BILINEAR)
    with pytest.raises(ValueError, match=r"crop=\(24, 24\) should be within resize=20"):
        Geometry(20, (24, 24), BILINEAR)


def test_shrink_keeps_the_aspect_ratio_and_never_enlarges() -> None:
    (frames,) = clips(1, 2, (40, 80))
    assert shrink_frames(frames, shorter_side=20).shape == (2, 20, 40, 3)
    assert shrink_frames(frames, shorter_side=41) is frames


def test_interpolation_by_hand() -> None:
    """Centres of 2 pixels over 4 lie at 0.5 and 2.5: the means of pixels 0, 1 and of 2, 3."""
    row = np.array([0, 10, 100, 200], np.uint8)
    frames = np.broadcast_to(row[None, None, :, None], (1, 1, 4, 3))
    out = interpolate_frames(frames, size=(1, 2))
    np.testing.assert_array_equal(out[0, 0, :, 0], [5, 150])


def test_interpolation_reads_two_pixels_and_not_an_area() -> None:
    """Centre of 1 pixel over 8 lies at 3.5: the mean of pixels 3 and 4, whatever the others are."""
    row = np.array([255, 255, 255, 10, 20, 255, 255, 255], np.uint8)
    frames = np.broadcast_to(row[None, :, None, None], (1, 8, 1, 3))
    assert interpolate_frames(frames, size=(1, 1)).ravel().tolist() == [15, 15, 15]


def test_interpolation_to_the_same_size_changes_nothing() -> None:
    (frames,) = clips(1, 2, (24, 40))
    np.testing.assert_array_equal(interpolate_frames(frames, size=(24, 40)), frames)


@pytest.mark.parametrize(
    "prepare",
    [
        partial(fit_frames, geometry=Geometry((8, 8), None, BILINEAR)),
        partial(shrink_frames, shorter_side=8),
        partial(interpolate_frames, size=(8, 8)),
    ],
)
def test_preparing_can_be_sent_to_another_process(prepare: partial[np.ndarray]) -> None:
    (frames,) = clips(1, 2)
    sent = pickle.loads(pickle.dumps(prepare))
    np.testing.assert_array_equal(sent(frames), prepare(frames))
    with pytest.raises(ValueError, match=r"should be \(t, h, w, 3\), uint8"):
        prepare(frames[0])
    with pytest.raises(ValueError, match="float32"):
        prepare(frames.astype(np.float32))
