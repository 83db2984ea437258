"""Folders of models that bring Python files: stand-ins for Cosmos-Embed1 and InternVideo2.

They have the file names, settings and methods that the publishers document, and a few weights. Each
Python file writes a marker when it runs.
"""

import json
import textwrap
from pathlib import Path

from dedup_assets_tests.video.embed.tiny import save_file, torch

COSMOS_DIMS = {224: 256, 336: 768, 448: 768}
#: Sizes of the grid of means that the stand-ins look at.
FRAMES, GRID = 8, 4

_CONFIGURATION = """
from transformers import PretrainedConfig


class ForeignConfig(PretrainedConfig):
    model_type = "{model_type}"

    def __init__(self, width=1, embed_dim=1, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.embed_dim = embed_dim
"""

_MODEL = """
from types import SimpleNamespace

import torch
from transformers import PreTrainedModel

from .configuration_foreign import ForeignConfig


class Foreign(PreTrainedModel):
    config_class = ForeignConfig

    def __init__(self, config):
        super().__init__(config)
        self.proj = torch.nn.Linear(config.width, config.embed_dim)
        self.post_init()

    def _encode(self, videos):
        grid = torch.nn.functional.adaptive_avg_pool2d(videos.flatten(0, 1), 4)
        return self.proj(grid.reshape(len(videos), -1))
"""

_COSMOS = """
    def get_video_embeddings(self, videos):
        encoded = self._encode(videos)
        return SimpleNamespace(visual_proj=encoded / encoded.norm(dim=-1, keepdim=True))
"""

_INTERNVIDEO = """
    def get_vid_feat(self, frames):
        encoded = self._encode(frames)[:, None]
        return encoded / encoded.norm(dim=-1, keepdim=True)
"""

_PROCESSOR = """
import torch
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin


class ForeignProcessor(ProcessorMixin):
    attributes = []

    def __init__(self, resolution=336, num_video_frames=8, **kwargs):
        super().__init__(**kwargs)
        self.resolution = resolution
        self.num_video_frames = num_video_frames

    def __call__(self, videos=None, return_tensors=None):
        assert videos.shape[1:3] == (self.num_video_frames, 3), videos.shape
        frames = torch.from_numpy(videos).float().flatten(0, 1) / 255
        size = (self.resolution, self.resolution)
        frames = torch.nn.functional.interpolate(frames, size=size, antialias=True, mode="bilinear")
        videos = frames.unflatten(0, videos.shape[:2])
        return BatchFeature({"videos": (videos - 0.45) / 0.27})
"""


def ran(marker: Path) -> str:
    """A line of Python that makes the marker."""
    return f"__import__('pathlib').Path({str(marker)!r}).touch()\n"


def cosmos(folder: Path, marker: Path, side: int = 224, dim: int | None = None) -> Path:
    """A folder as nvidia/Cosmos-Embed1-{side}p."""
    dim = dim or COSMOS_DIMS[side]
    _write(folder, marker, "foreign-cosmos", _MODEL + _COSMOS, FRAMES, dim)
    _write_code(folder / "preprocessing_foreign.py", _PROCESSOR, marker)
    settings = {
        "processor_class": "ForeignProcessor",
        "auto_map": {"AutoProcessor": "preprocessing_foreign.ForeignProcessor"},
        "resolution": side,
        "num_video_frames": FRAMES,
    }
    (folder / "processor_config.json").write_text(json.dumps(settings))
    return folder


def internvideo(folder: Path, marker: Path, *, dim: int = 512, method: str = _INTERNVIDEO) -> Path:
    """A folder as OpenGVLab/InternVideo2-Stage2."""
    _write(folder, marker, "foreign-internvideo", _MODEL + method, 4, dim)
    return folder


def _write(folder: Path, marker: Path, kind: str, model: str, frames: int, dim: int) -> None:
    folder.mkdir()
    width = frames * 3 * GRID * GRID
    _write_code(folder / "configuration_foreign.py", _CONFIGURATION.format(model_type=kind), marker)
    _write_code(folder / "modeling_foreign.py", model, marker)
    config = {
        "model_type": kind,
        "architectures": ["Foreign"],
        "auto_map": {
            "AutoConfig": "configuration_foreign.ForeignConfig",
            "AutoModel": "modeling_foreign.Foreign",
        },
        "width": width,
        "embed_dim": dim,
    }
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    weights = {
        "proj.weight": torch.randn(dim, width, generator=generator),
        "proj.bias": torch.zeros(dim),
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _write_code(path: Path, code: str, marker: Path) -> None:
    path.write_text(textwrap.dedent(code) + ran(marker))
