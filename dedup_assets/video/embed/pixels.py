"""The preprocessing that a model's folder asks for, split between decoding and embedding.

The geometry (resize, crop) is done by `fit_frames` where a clip is decoded, the arithmetic (scale,
mean, deviation) where the model is. That both together are what the folder's own processor does is
checked on one made-up frame, so a processor with steps of its own is refused, not approximated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dedup_assets.errors import shown
from dedup_assets.video.embed.errors import EmbedError
from dedup_assets.video.embed.folder import ModelFolder, explained, read_json
from dedup_assets.video.embed.frames import Frames, Geometry, fit_frames

if TYPE_CHECKING:
    import torch

#: Mean difference, in deviations, between the folder's processor and ours. Half a pixel or another
#: resampling library is within it; another crop or stretch is not.
TOLERANCE = 0.2
#: ConvNeXt's processor crops from a larger picture below this side and stretches from it on.
CONVNEXT_STRETCHES_FROM = 384


@dataclass(frozen=True)
class Levels:
    """Pixel values from uint8: value * scale, minus mean, by deviation, for each of R, G, B."""

    scale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, frames: "torch.Tensor") -> "torch.Tensor":
        """uint8 of shape (..., h, w, 3) to float32 of (..., 3, h, w), on the same device."""
        values = frames.float()
        mean, deviation = values.new_tensor(self.mean), values.new_tensor(self.deviation)
        return ((values * self.scale - mean) / deviation).movedim(-1, -3).contiguous()


def read_preprocessing(folder: ModelFolder) -> tuple[Geometry, Levels]:
    """What the folder's processor does to a frame."""
    video = folder.path / "video_preprocessor_config.json"
    if any(
        (folder.path / f"{name}_config.json").is_file() for name in ("preprocessor", "processor")
    ):
        return _from_processor(folder)
    if video.is_file():
        # The class itself needs torchvision; what it does is all in this file.
        return _read(read_json(video), str(video))
    raise EmbedError(
        f"{folder.path}: has neither preprocessor_config.json nor video_preprocessor_config.json, "
        "so how frames become its input is unknown; copy that file from the model's publisher"
    )


def _from_processor(folder: ModelFolder) -> tuple[Geometry, Levels]:
    from transformers import AutoImageProcessor

    with explained(folder):
        processor = AutoImageProcessor.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=folder.trusted
        )
        values = processor.to_dict()
    geometry, levels = _read(values, str(folder.path))
    frame = _test_frame()
    with explained(folder):
        theirs = np.asarray(processor(list(frame), return_tensors="np")["pixel_values"])
    ours = _on_host(fit_frames(frame, geometry=geometry), levels)
    theirs = theirs.reshape(-1, *theirs.shape[-3:])
    if theirs.shape != ours.shape or np.abs(theirs - ours).mean() > TOLERANCE:
        raise EmbedError(
            f"{folder.path}: its processor {type(processor).__name__} does more to a frame than "
            f"resize, crop and normalise (it gives shape {theirs.shape[1:]}); export the model "
            "with a plain image processor, or choose another"
        )
    return geometry, levels


def _read(values: Mapping[str, Any], where: str) -> tuple[Geometry, Levels]:
    """Settings of a processor, as its file has them."""
    size, crop = _sides(values.get("size")), _sides(values.get("crop_size"))
    if not values.get("do_resize") or not size:
        raise EmbedError(
            f"{where}: do_resize={values.get('do_resize')}, size={shown(values.get('size'))}: the "
            "processor should resize to a size of height and width, or of shortest_edge"
        )
    middle = _pair(crop) if values.get("do_center_crop") and crop else None
    resize = _pair(size) if "height" in size else size["shortest_edge"]
    if "crop_pct" in values and isinstance(resize, int):
        stretched = resize >= CONVNEXT_STRETCHES_FROM
        middle = None if stretched else (resize, resize)
        resize = (resize, resize) if stretched else int(resize / values["crop_pct"])
    try:
        geometry = Geometry(resize, middle, int(values.get("resample", 2)))
    except ValueError as error:
        raise EmbedError(f"{where}: {error} Choose a model with one size of input") from error
    normal = values.get("do_normalize")
    return geometry, Levels(
        float(values["rescale_factor"]) if values.get("do_rescale") else 1.0,
        tuple(values["image_mean"]) if normal else (0.0, 0.0, 0.0),
        tuple(values["image_std"]) if normal else (1.0, 1.0, 1.0),
    )


def _sides(size: Any) -> dict[str, int]:
    """A size as {height, width} or {shortest_edge}, empty where it is something else."""
    named = {k: int(v) for k, v in size.items() if v is not None} if isinstance(size, dict) else {}
    if "height" in named and "width" in named:
        return {"height": named["height"], "width": named["width"]}
    # Beside a longest edge the shortest one is a bound, and frames differ in shape.
    if "shortest_edge" in named and "longest_edge" not in named:
        return {"shortest_edge": named["shortest_edge"]}
    return {}


def _pair(size: Mapping[str, int]) -> tuple[int, int]:
    edge = size.get("shortest_edge", 0)
    return size.get("height", edge), size.get("width", edge)


def _on_host(frames: Frames, levels: Levels) -> NDArray[np.float32]:
    import torch

    values: NDArray[np.float32] = levels(torch.from_numpy(frames)).numpy()
    return values


def _test_frame() -> Frames:
    """One frame, shape (1, 240, 320, 3): smooth, so that it hardly depends on the resampling."""
    coarse = np.random.default_rng(0).integers(0, 256, (1, 6, 8, 3)).astype(np.uint8)
    return fit_frames(coarse, geometry=Geometry((240, 320), None, 3))
