"""InternVideo2, stage 2, from a folder that brings its publisher's code."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dedup_assets.video.embed.errors import EmbedError
from dedup_assets.video.embed.folder import ModelFolder, load_model, open_folder, require_trust
from dedup_assets.video.embed.frames import interpolate_frames
from dedup_assets.video.embed.interface import Frames
from dedup_assets.video.embed.model import Encoder
from dedup_assets.video.embed.pixels import Levels
from dedup_assets.video.sampling import Sampling

if TYPE_CHECKING:
    import torch

FRAMES = 4
FPS = 2.0
SIDE = 224
DIM = 512
#: Mean and deviation of ImageNet's pixels, from values of 0 to 255.
LEVELS = Levels(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def open_internvideo(kind: str, model_dir: Path | None, *, trusted: bool) -> ModelFolder:
    """The folder, if it holds the publisher's code beside the weights."""
    if model_dir is not None and (model_dir / "config.json").is_file():
        folder = open_folder(kind, model_dir, trusted=trusted)
        if folder.has_code:
            require_trust(folder)
            return folder
    raise EmbedError(
        f"{kind}: --model-dir={model_dir} should hold config.json with auto_map, the publisher's "
        "Python files and *.safetensors, as OpenGVLab/InternVideo2-Stage2_6B does on Hugging Face; "
        "the 1B checkpoint is a .pt alone, whose code (InternVideo2/multi_modality of "
        "github.com/OpenGVLab/InternVideo) is on no package index"
    )


def load_internvideo(folder: ModelFolder, name: str, device: "torch.device") -> Encoder:
    """Load the model: bfloat16 on a GPU, float32 on a CPU."""
    import torch

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model, unloaded = load_model(folder, device, dtype)
    if not hasattr(model, "get_vid_feat"):
        raise EmbedError(
            f"{folder.path}: {type(model).__name__} has no get_vid_feat, by which InternVideo2 "
            "embeds a video; take the publisher's stage 2 model"
        )
    return Encoder(
        name=name,
        sampling=Sampling(FRAMES, FPS),
        prepare=partial(interpolate_frames, size=(SIDE, SIDE)),
        forward=partial(_forward, model, device, dtype),
        device=device,
        unloaded=unloaded,
    )


def _forward(
    model: Any, device: "torch.device", dtype: "torch.dtype", clips: Sequence[Frames]
) -> "torch.Tensor":
    import torch

    pixels = LEVELS(torch.from_numpy(np.stack(clips)).to(device))
    features: torch.Tensor = model.get_vid_feat(pixels.to(dtype))
    # Pooled features are (n, 1, dim).
    return features.flatten(1)
