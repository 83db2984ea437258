"""Embedders and their output folders by name."""

import re
from pathlib import Path

from dedup_assets.errors import listed, shown
from dedup_assets.video.embed.cosmos import VARIANTS, load_cosmos
from dedup_assets.video.embed.device import pick_device
from dedup_assets.video.embed.encoder import load_encoder
from dedup_assets.video.embed.errors import EmbedError
from dedup_assets.video.embed.folder import explained, open_folder, require_torch
from dedup_assets.video.embed.interface import Embedder
from dedup_assets.video.embed.internvideo import DIM, load_internvideo, open_internvideo
from dedup_assets.video.embed.model import ModelEmbedder
from dedup_assets.video.embed.perceptual import PerceptualEmbedder

PERCEPTUAL = "perceptual"
TRANSFORMERS = "transformers"
COSMOS = "cosmos-embed1"
INTERNVIDEO2 = "internvideo2"
KINDS = (PERCEPTUAL, TRANSFORMERS, COSMOS, INTERNVIDEO2)
DEFAULT_RESOLUTION = "336p"


def make_embedder(
    kind: str,
    *,
    model_dir: Path | None = None,
    device: str = "auto",
    trust_remote_code: bool = False,
) -> Embedder:
    """Load an embedder.

    Args:
        kind: one of `KINDS`, or `cosmos-embed1-224p` (336p, 448p) as the peers name it.
        model_dir: folder of the model as on Hugging Face; `perceptual` needs none.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; `perceptual` runs on the CPU.
        trust_remote_code: lets Python files in `model_dir` run, with all your rights.

    Raises:
        EmbedError: a package, a file or a device is missing, the weights are pickles or do not fit
            the model, or the folder's code would have to run and is not trusted.
    """
    kind, resolution = _parse(kind)
    if kind == PERCEPTUAL:
        return PerceptualEmbedder()
    opened = open_internvideo if kind == INTERNVIDEO2 else open_folder
    model = opened(kind, model_dir, trusted=trust_remote_code)
    require_torch(kind)
    place = pick_device(device)
    dim = None
    if kind == COSMOS:
        dim = VARIANTS[resolution][1]
        encoder = load_cosmos(model, resolution, f"{kind}-{resolution}", place)
    elif kind == INTERNVIDEO2:
        dim = DIM
        encoder = load_internvideo(model, kind, place)
    else:
        encoder = load_encoder(model, _slug(model.path), place)
    with explained(model):
        return ModelEmbedder(encoder, dim=dim)


def output_folder(kind: str, *, model_dir: Path | None = None) -> str:
    """Name of the folder of an embedder's parquet files, as the peers name it; loads nothing."""
    kind, resolution = _parse(kind)
    if kind == COSMOS:
        return f"ce1_embd_{resolution}_parquet"
    if kind == INTERNVIDEO2:
        return "iv2_embd_parquet"
    if kind == TRANSFORMERS and model_dir is not None:
        return f"{_slug(model_dir)}_embd_parquet"
    return f"{kind}_embd_parquet"


def _parse(kind: str) -> tuple[str, str]:
    """A kind of `KINDS` and its resolution, empty for all but cosmos-embed1."""
    base, _, variant = kind.rpartition("-")
    if base == COSMOS and variant in VARIANTS:
        return base, variant
    if kind not in KINDS:
        raise EmbedError(
            f"embedding algorithm {shown(kind)} should be one of {listed(KINDS)}; {COSMOS} takes a "
            f"resolution: {listed(f'{COSMOS}-{name}' for name in VARIANTS)}"
        )
    return kind, DEFAULT_RESOLUTION if kind == COSMOS else ""


def _slug(model_dir: Path) -> str:
    """The folder's name, of letters that are safe in paths and URLs."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model_dir.resolve().name).strip("-.") or TRANSFORMERS
