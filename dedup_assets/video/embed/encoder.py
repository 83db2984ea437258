"""Any image or video encoder in a local Hugging Face folder."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dedup_assets.errors import listed
from dedup_assets.video.embed.errors import EmbedError
from dedup_assets.video.embed.folder import ModelFolder, load_model, require_trust
from dedup_assets.video.embed.frames import fit_frames
from dedup_assets.video.embed.interface import Frames
from dedup_assets.video.embed.model import Encoder
from dedup_assets.video.embed.pixels import Levels, read_preprocessing
from dedup_assets.video.sampling import Sampling

if TYPE_CHECKING:
    import torch

#: Frames of a clip whose embeddings by an image model are averaged, and their rate in fps.
IMAGE_FRAMES = 8
FPS = 2.0
#: Where configurations of video models say how many frames they take.
FRAME_COUNTS = ("num_frames", "frames_per_clip")
#: Methods that give embeddings where calling the model would do more: CLIP and its like project
#: into the space they share with text, V-JEPA 2 leaves its predictor out.
METHODS = ("get_video_features", "get_image_features", "get_vision_features")

#: Pixel values to one vector for each picture or video.
Features = Callable[["torch.Tensor"], "torch.Tensor"]


def load_encoder(folder: ModelFolder, name: str, device: "torch.device") -> Encoder:
    """Load a model that encodes pictures or videos, in float32.

    A video model gets the frames in order. Of an image model the embeddings of the frames are
    scaled to length 1 and averaged, so each frame counts alike.
    """
    import torch

    _require_known(folder)
    geometry, levels = read_preprocessing(folder)
    model, unloaded = load_model(folder, device, torch.float32)
    methods = [getattr(model, name) for name in METHODS if hasattr(model, name)]
    encode = methods[0] if methods else partial(_call, model)
    features = partial(_features, encode, pooled=not any("pooler" in name for name in unloaded))
    count = _frame_count(model.config)
    forward = _video_forward if count else _image_forward
    return Encoder(
        name=name,
        sampling=Sampling(count or IMAGE_FRAMES, FPS),
        prepare=partial(fit_frames, geometry=geometry),
        forward=partial(forward, features, levels, device),
        device=device,
        unloaded=unloaded,
    )


def _require_known(folder: ModelFolder) -> None:
    """Refuse a model that neither transformers nor trusted code of the folder can make."""
    from transformers import CONFIG_MAPPING

    if folder.config.get("model_type") in CONFIG_MAPPING:
        return
    if folder.has_code:
        return require_trust(folder)
    raise EmbedError(
        f"{folder.path}: config.json names model_type={folder.config.get('model_type')!r}, which "
        "this version of transformers does not have; choose another model, or upgrade transformers"
    )


def _frame_count(config: Any) -> int | None:
    """Frames that a video model takes; None for an image model."""
    for part in (config, getattr(config, "vision_config", None)):
        for name in FRAME_COUNTS:
            count = getattr(part, name, None)
            if isinstance(count, int):
                return count
    return None


def _video_forward(
    features: Features, levels: Levels, device: "torch.device", clips: Sequence[Frames]
) -> "torch.Tensor":
    return features(levels(_stacked(clips, device)))


def _image_forward(
    features: Features, levels: Levels, device: "torch.device", clips: Sequence[Frames]
) -> "torch.Tensor":
    import torch

    frames = _stacked(clips, device)
    each = features(levels(frames.flatten(0, 1)))
    each = torch.nn.functional.normalize(each, dim=-1)
    return each.unflatten(0, frames.shape[:2]).mean(dim=1)


def _call(model: Any, pixels: "torch.Tensor") -> Any:
    return model(**{model.main_input_name: pixels})


def _features(
    encode: Callable[["torch.Tensor"], Any], pixels: "torch.Tensor", *, pooled: bool
) -> "torch.Tensor":
    """One vector for each picture or video.

    It is what the model pools, or the mean of its tokens where it pools nothing or the layer that
    does has no weights (`pooled` is False).
    """
    output = encode(pixels)
    if not hasattr(output, "keys"):
        return _mean_of_tokens(output)
    found = output.get("pooler_output") if pooled else None
    found = output.get("last_hidden_state") if found is None else found
    if found is None:
        raise EmbedError(
            f"the model gives {listed(output)} and neither pooler_output nor last_hidden_state; "
            "choose a model that encodes images or videos"
        )
    return _mean_of_tokens(found)


def _mean_of_tokens(found: "torch.Tensor") -> "torch.Tensor":
    """(n, dim) from (n, dim), (n, tokens, dim), or (n, dim, h, w) as convolutional models give."""
    if found.ndim == 3:
        return found.mean(dim=1)
    return found.flatten(2).mean(dim=2) if found.ndim == 4 else found


def _stacked(clips: Sequence[Frames], device: "torch.device") -> "torch.Tensor":
    import torch

    return torch.from_numpy(np.stack(clips)).to(device)
