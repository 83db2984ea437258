"""Cosmos-Embed1 by its publisher's documented way: its own processor and `get_video_embeddings`."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dedup_assets.errors import shown
from dedup_assets.video.embed.errors import EmbedError
from dedup_assets.video.embed.folder import (
    ModelFolder,
    explained,
    load_model,
    read_json,
    require_safetensors,
    require_trust,
)
from dedup_assets.video.embed.frames import shrink_frames
from dedup_assets.video.embed.interface import Frames
from dedup_assets.video.embed.model import Encoder
from dedup_assets.video.sampling import Sampling

if TYPE_CHECKING:
    import torch

FRAMES = 8
FPS = 2.0
#: Side of the input in pixels, and dimensions, of the published variants.
VARIANTS: dict[str, tuple[int, int]] = {"224p": (224, 256), "336p": (336, 768), "448p": (448, 768)}


def load_cosmos(folder: ModelFolder, resolution: str, name: str, device: "torch.device") -> Encoder:
    """Load nvidia/Cosmos-Embed1-{resolution}: bfloat16 on a GPU, float32 on a CPU.

    Frames are only scaled down when a clip is decoded; the publisher's processor does the rest, so
    that it decides how they fill the square.
    """
    import torch
    from transformers import AutoProcessor

    side, _ = VARIANTS[resolution]
    require_trust(folder)
    require_safetensors(folder)
    _require_resolution(folder, side)
    with explained(folder):
        processor = AutoProcessor.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=True
        )
    if getattr(processor, "num_video_frames", None) != FRAMES:
        raise EmbedError(
            f"{folder.path}: {type(processor).__name__} is not the processor of Cosmos-Embed1 for "
            f"{FRAMES} frames; processor_config.json should name it under auto_map: copy it again"
        )
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model, unloaded = load_model(folder, device, dtype)
    return Encoder(
        name=name,
        sampling=Sampling(FRAMES, FPS),
        prepare=partial(shrink_frames, shorter_side=side),
        forward=partial(_forward, model, processor, device, dtype),
        device=device,
        unloaded=unloaded,
    )


def _require_resolution(folder: ModelFolder, side: int) -> None:
    path = folder.path / "processor_config.json"
    if not path.is_file():
        raise EmbedError(f"{folder.path}: has no processor_config.json; copy the folder again")
    found = read_json(path).get("resolution")
    if found not in (side, [side, side]):
        raise EmbedError(
            f"{path}: resolution={shown(found)} is not that of Cosmos-Embed1-{side}p; name the "
            "algorithm that fits the folder"
        )


def _forward(
    model: Any,
    processor: Any,
    device: "torch.device",
    dtype: "torch.dtype",
    clips: Sequence[Frames],
) -> "torch.Tensor":
    import torch

    # One by one, since clips of different aspect ratios differ in shape until they are processed.
    videos = [
        processor(
            videos=np.ascontiguousarray(clip.transpose(0, 3, 1, 2))[None], return_tensors="pt"
        )["videos"]
        for clip in clips
    ]
    batch = torch.cat(videos).to(device=device, dtype=dtype)
    projected: torch.Tensor = model.get_video_embeddings(videos=batch).visual_proj
    return projected
