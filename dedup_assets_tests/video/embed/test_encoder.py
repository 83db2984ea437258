"""Encoders in Hugging Face folders, against calling each model by hand."""

import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dedup_assets.video.embed import Embedder, EmbedError, make_embedder
from dedup_assets.video.embed.model import ModelEmbedder
from dedup_assets.video.sampling import Sampling
from dedup_assets_tests.video.embed.clips import clips
from dedup_assets_tests.video.embed.tiny import (
    MODELS,
    SQUARE,
    TEXT,
    Tiny,
    load_file,
    save,
    save_file,
    tf,
    torch,
)

SMALL_DIFFERENCE = 1e-5


def embed(embedder: Embedder, frames: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return embedder.embed([embedder.prepare(clip) for clip in frames])


def by_hand(tiny: Tiny, model: Any, processor: Any, clip: NDArray[np.uint8]) -> NDArray[np.float32]:
    """One clip through the publisher's processor and model; the mean of an image model's frames."""
    pixels = torch.from_numpy(np.asarray(processor(list(clip), return_tensors="np").pixel_values))
    with torch.inference_mode():
        if tiny.video:
            vector = tiny.features(model, pixels.reshape(1, *pixels.shape[-4:]))[0]
        else:
            each = tiny.features(model, pixels)
            vector = (each / each.norm(dim=1, keepdim=True)).mean(dim=0)
    unit: NDArray[np.float32] = (vector / vector.norm()).numpy()
    return unit


@pytest.mark.parametrize("name", MODELS)
def test_rows_equal_calling_the_model_by_hand(name: str, tmp_path: Path) -> None:
    if name == "xclip" and tf.__version__.startswith("4."):
        pytest.skip("X-CLIP of transformers 4 fails in its own get_video_features")
    tiny = MODELS[name]
    model, processor = save(name, tmp_path / name)
    embedder = make_embedder("transformers", model_dir=tmp_path / name, device="cpu")
    assert embedder.name == name
    assert (embedder.dim, embedder.sampling) == (tiny.dim, Sampling(tiny.frames, 2.0))
    # Portrait and landscape: the longer side is the one that is cropped or stretched.
    frames = clips(2, tiny.frames) + clips(3, tiny.frames, (80, 44))
    rows = embed(embedder, frames)
    assert (rows.shape, rows.dtype) == ((5, tiny.dim), np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    expected = np.stack([by_hand(tiny, model, processor, clip) for clip in frames])
    np.testing.assert_allclose(rows, expected, atol=SMALL_DIFFERENCE)
    assert (rows[0] - rows[1]).any(), "different clips differ"


@pytest.mark.parametrize("name", ["clip", "videomae"])
def test_batch_size_and_a_second_load_do_not_change_rows(name: str, tmp_path: Path) -> None:
    save(name, tmp_path)
    frames = clips(7, MODELS[name].frames)
    one, two = (make_embedder("transformers", model_dir=tmp_path) for _ in range(2))
    assert isinstance(one, ModelEmbedder)
    batched = [ModelEmbedder(one._encoder, dim=None, batch_size=size) for size in (1, 3, 7)]
    first, *others = (embed(embedder, frames) for embedder in (one, two, *batched))
    np.testing.assert_array_equal(others[0], first)
    for rows in others[1:]:
        np.testing.assert_allclose(rows, first, atol=SMALL_DIFFERENCE)


@pytest.mark.parametrize(("name", "matters"), [("videomae", True), ("clip", False)])
def test_order_of_frames_matters_to_video_models_alone(
    name: str, matters: bool, tmp_path: Path
) -> None:
    save(name, tmp_path)
    embedder = make_embedder("transformers", model_dir=tmp_path)
    (clip,) = clips(1, MODELS[name].frames)
    rows = embed(embedder, [clip, clip[::-1]])
    assert bool(np.abs(rows[0] - rows[1]).max() > 1e-3) is matters


def test_nothing_is_asked_of_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("clip", tmp_path)
    asked: list[object] = []

    def refuse(_: socket.socket, address: object) -> None:
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    embed(make_embedder("transformers", model_dir=tmp_path), clips(1, 8))
    assert asked == []


def test_layer_without_weights_is_left_out(tmp_path: Path) -> None:
    """A classifier's checkpoint has no pooling layer. AutoModel adds one with random weights, and
    vectors would differ from load to load."""
    save("vit_classifier", tmp_path)
    frames = clips(2, 8)
    rows = [embed(make_embedder("transformers", model_dir=tmp_path), frames) for _ in range(2)]
    np.testing.assert_array_equal(*rows)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """transformers fills them with random numbers and goes on."""
    save("vit", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[next(name for name in weights if "layer" in name and name.endswith("dense.weight"))]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EmbedError, match=r"the weights lack 1 tensors that the vectors"):
        make_embedder("transformers", model_dir=tmp_path)


def test_damaged_weights_are_one_line(tmp_path: Path) -> None:
    save("vit", tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EmbedError, match="cannot be used with transformers") as caught:
        make_embedder("transformers", model_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_nan_in_the_weights_is_refused(tmp_path: Path) -> None:
    save("vit", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["layernorm.weight"][0] = torch.nan
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    embedder = make_embedder("transformers", model_dir=tmp_path)
    with pytest.raises(EmbedError, match="NaN, infinite or zero vectors for 2 of 2 clips"):
        embed(embedder, clips(2, 8))


def test_settings_of_a_video_processor_are_read_without_its_class(tmp_path: Path) -> None:
    """V-JEPA 2's processor needs torchvision to be made; its file says all that it does."""
    torch.manual_seed(0)
    config = tf.VJEPA2Config(
        hidden_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        patch_size=8,
        crop_size=32,
        frames_per_clip=4,
        pred_hidden_size=32,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
        pred_num_mask_tokens=2,
    )
    model = tf.VJEPA2Model(config).eval()
    model.save_pretrained(tmp_path)
    half = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "rescale_factor": 1 / 255}
    steps = {f"do_{step}": True for step in ("resize", "center_crop", "rescale", "normalize")}
    size = {"size": {"shortest_edge": 32, "longest_edge": None}, "crop_size": SQUARE, "resample": 2}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(half | steps | size))
    embedder = make_embedder("transformers", model_dir=tmp_path)
    assert embedder.sampling == Sampling(4, 2.0)
    (clip,) = clips(1, 4, (32, 40))
    pixels = (clip[:, :, 4:36] / 255 - half["image_mean"]) / half["image_std"]
    video = torch.from_numpy(pixels.transpose(0, 3, 1, 2)[None].astype(np.float32))
    with torch.inference_mode():
        vector = model(pixel_values_videos=video, skip_predictor=True).last_hidden_state.mean(1)[0]
    expected = (vector / vector.norm()).numpy()
    np.testing.assert_allclose(embed(embedder, [clip])[0], expected, atol=SMALL_DIFFERENCE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_resize": False}, "do_resize=False"),
        ({"size": {"shortest_edge": 10, "longest_edge": 99}}, "longest_edge"),
        ({"do_center_crop": False}, "several shapes"),
        ({"crop_size": {"height": 64, "width": 64}}, r"crop=\(64, 64\) should be within resize=36"),
    ],
)
def test_preprocessing_that_is_not_one_shape_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save("clip_vision", tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(EmbedError, match=message):
        make_embedder("transformers", model_dir=tmp_path)


def test_processor_with_steps_of_its_own_is_refused(tmp_path: Path) -> None:
    """Vivit's shifts the values after scaling them, which no common setting says."""
    save("videomae", tmp_path)
    tf.VivitImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE).save_pretrained(tmp_path)
    with pytest.raises(EmbedError, match=r"VivitImageProcessor.* does more to a frame"):
        make_embedder("transformers", model_dir=tmp_path)


def test_folder_without_preprocessing_is_refused(tmp_path: Path) -> None:
    save("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(EmbedError, match=r"neither preprocessor_config\.json"):
        make_embedder("transformers", model_dir=tmp_path)


def test_model_of_text_is_refused(tmp_path: Path) -> None:
    save("vit", tmp_path)
    (tmp_path / "config.json").unlink()
    text = {k: v for k, v in TEXT.items() if "token" not in k}
    tf.BertModel(tf.BertConfig(**text)).save_pretrained(tmp_path)
    with pytest.raises(EmbedError, match="cannot be used with transformers"):
        make_embedder("transformers", model_dir=tmp_path)


def test_model_type_that_nobody_knows_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit9000"}))
    with pytest.raises(EmbedError, match="model_type='vit9000'"):
        make_embedder("transformers", model_dir=tmp_path)
