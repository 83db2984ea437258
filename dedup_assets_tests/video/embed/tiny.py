"""Tiny models with random weights, from the publishers' configuration classes, in folders.

Importing this skips a module of tests where the extra `embed` is not installed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra embed")
tf = pytest.importorskip("transformers", reason="needs the extra embed")
load_file = pytest.importorskip("safetensors.torch", reason="needs the extra embed").load_file
save_file = pytest.importorskip("safetensors.torch", reason="needs the extra embed").save_file

TOWER = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "image_size": 32,
    "patch_size": 8,
}
SQUARE = {"height": 32, "width": 32}
TEXT = {
    "vocab_size": 99,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
#: The part of X-CLIP that goes across frames.
MIT = {
    "mit_hidden_size": 32,
    "mit_intermediate_size": 40,
    "mit_num_attention_heads": 4,
    "mit_num_hidden_layers": 1,
}


@dataclass(frozen=True)
class Tiny:
    """A model, its processor, and one vector for each picture or video by hand."""

    model: Callable[[], Any]
    processor: Callable[[], Any]
    features: Callable[[Any, Any], Any]
    dim: int
    frames: int = 8
    video: bool = False


def _pooled(model: Any, pixels: Any) -> Any:
    return model(pixel_values=pixels).pooler_output


def _mean(model: Any, pixels: Any) -> Any:
    return model(pixel_values=pixels).last_hidden_state.mean(dim=1)


def _projected(model: Any, pixels: Any) -> Any:
    """The tower's pooled output through the projection, as a contrastive model is trained."""
    return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)


def _of_video(model: Any, pixels: Any) -> Any:
    output = model.get_video_features(pixel_values=pixels)
    return getattr(output, "pooler_output", output)  # transformers 4 gives the tensor itself


def _clip_processor() -> Any:
    return tf.CLIPImageProcessor(size={"shortest_edge": 36}, crop_size=SQUARE)


def _convnext() -> Any:
    config = tf.ConvNextConfig(hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1], image_size=32)
    return tf.ConvNextModel(config)


def _dinov2() -> Any:
    tower = {k: v for k, v in TOWER.items() if k != "intermediate_size"}
    return tf.Dinov2Model(tf.Dinov2Config(**tower))


MODELS: dict[str, Tiny] = {
    "clip": Tiny(
        lambda: tf.CLIPModel(
            tf.CLIPConfig(text_config=TEXT, vision_config=TOWER, projection_dim=16)
        ),
        _clip_processor,
        _projected,
        16,
    ),
    "clip_vision": Tiny(
        lambda: tf.CLIPVisionModel(tf.CLIPVisionConfig(**TOWER)), _clip_processor, _pooled, 32
    ),
    "siglip": Tiny(
        lambda: tf.SiglipModel(tf.SiglipConfig(text_config=TEXT, vision_config=TOWER)),
        lambda: tf.SiglipImageProcessor(size=SQUARE),
        lambda model, pixels: model.vision_model(pixel_values=pixels).pooler_output,
        32,
    ),
    "vit": Tiny(
        lambda: tf.ViTModel(tf.ViTConfig(**TOWER)),
        lambda: tf.ViTImageProcessor(size=SQUARE),
        _pooled,
        32,
    ),
    "vit_classifier": Tiny(
        lambda: tf.ViTForImageClassification(tf.ViTConfig(**TOWER)),
        lambda: tf.ViTImageProcessor(size=SQUARE),
        lambda model, pixels: _mean(model.vit, pixels),
        32,
    ),
    "dinov2": Tiny(
        _dinov2,
        lambda: tf.BitImageProcessor(size={"shortest_edge": 36}, crop_size=SQUARE),
        _pooled,
        32,
    ),
    "convnext": Tiny(
        _convnext,
        lambda: tf.ConvNextImageProcessor(size={"shortest_edge": 32}),
        _pooled,
        24,
    ),
    "videomae": Tiny(
        lambda: tf.VideoMAEModel(tf.VideoMAEConfig(**TOWER, num_frames=4)),
        lambda: tf.VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE),
        _mean,
        32,
        frames=4,
        video=True,
    ),
    "xclip": Tiny(
        lambda: tf.XCLIPModel(
            tf.XCLIPConfig(
                text_config=TEXT,
                vision_config={**TOWER, **MIT, "num_frames": 4},
                projection_dim=32,
                prompt_num_attention_heads=4,
            )
        ),
        lambda: tf.VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE),
        _of_video,
        32,
        frames=4,
        video=True,
    ),
    # The number of frames is its default, which config.json then does not hold.
    "timesformer": Tiny(
        lambda: tf.TimesformerModel(tf.TimesformerConfig(**TOWER)),
        lambda: tf.VideoMAEImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE),
        _mean,
        32,
        frames=8,
        video=True,
    ),
}


def save(name: str, folder: Path) -> tuple[Any, Any]:
    """Write a model of `MODELS` to a folder; returns it, ready to use, and its processor."""
    torch.manual_seed(len(name))
    tiny = MODELS[name]
    model, processor = tiny.model().eval(), tiny.processor()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor
