"""Models whose folders bring Python files: they run when they are trusted, and only then."""

import json
from pathlib import Path

import numpy as np
import pytest

from dedup_assets.video.embed import EmbedError, make_embedder
from dedup_assets.video.embed.frames import interpolate_frames
from dedup_assets.video.sampling import Sampling
from dedup_assets_tests.video.embed.clips import clips
from dedup_assets_tests.video.embed.foreign import COSMOS_DIMS, cosmos, internvideo, ran
from dedup_assets_tests.video.embed.tiny import save, tf, torch

pytestmark = pytest.mark.usefixtures("modules_cache")

SMALL_DIFFERENCE = 1e-5


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.mark.parametrize("side", COSMOS_DIMS)
def test_cosmos_by_its_documented_way(side: int, tmp_path: Path, marker: Path) -> None:
    folder = cosmos(tmp_path / f"Cosmos-Embed1-{side}p", marker, side)
    embedder = make_embedder(
        f"cosmos-embed1-{side}p", model_dir=folder, device="cpu", trust_remote_code=True
    )
    assert embedder.name == f"cosmos-embed1-{side}p"
    assert (embedder.dim, embedder.sampling) == (COSMOS_DIMS[side], Sampling(8, 2.0))
    # Not larger than the input, so that nothing is done to them before the publisher's processor.
    frames = clips(2, 8, (96, 128)) + clips(1, 8, (128, 72))
    rows = embedder.embed([embedder.prepare(clip) for clip in frames])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    model = tf.AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    processor = tf.AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    for row, clip in zip(rows, frames, strict=True):
        batch = np.transpose(np.expand_dims(clip, 0), (0, 1, 4, 2, 3))
        videos = processor(videos=batch, return_tensors="pt")["videos"]
        with torch.inference_mode():
            expected = model.get_video_embeddings(videos=videos).visual_proj[0].numpy()
        np.testing.assert_allclose(row, expected, atol=SMALL_DIFFERENCE)
    assert marker.exists()


def test_frames_scaled_down_first_give_nearly_the_same(tmp_path: Path, marker: Path) -> None:
    """What crosses between processes is a fifth of the frames, and the vector hardly moves."""
    folder = cosmos(tmp_path / "Cosmos-Embed1-224p", marker)
    embedder = make_embedder("cosmos-embed1-224p", model_dir=folder, trust_remote_code=True)
    (clip,) = clips(1, 8, (480, 640))
    small = embedder.prepare(clip)
    assert small.shape == (8, 224, 298, 3)
    rows = embedder.embed([clip, small])
    assert rows[0] @ rows[1] > 0.999


def test_order_of_frames_matters_to_cosmos(tmp_path: Path, marker: Path) -> None:
    folder = cosmos(tmp_path / "Cosmos-Embed1-224p", marker)
    embedder = make_embedder("cosmos-embed1-224p", model_dir=folder, trust_remote_code=True)
    (clip,) = clips(1, 8)
    rows = embedder.embed([clip, clip[::-1]])
    assert rows[0] @ rows[1] < 0.99


@pytest.mark.parametrize("kind", ["cosmos-embed1-224p", "internvideo2", "transformers"])
def test_code_of_a_folder_does_not_run_unless_it_is_trusted(
    kind: str, tmp_path: Path, marker: Path
) -> None:
    make = internvideo if kind == "internvideo2" else cosmos
    folder = make(tmp_path / "model", marker)
    with pytest.raises(EmbedError, match="allow them with --trust-remote-code") as caught:
        make_embedder(kind, model_dir=folder)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_processor_of_a_folder_does_not_run_unless_it_is_trusted(
    tmp_path: Path, marker: Path
) -> None:
    """A known model may come with a processor of its own."""
    save("vit", tmp_path / "vit")
    (tmp_path / "vit" / "own.py").write_text(f"{ran(marker)}class Own: pass\n")
    path = tmp_path / "vit" / "preprocessor_config.json"
    own = {"image_processor_type": "Own", "auto_map": {"AutoImageProcessor": "own.Own"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    with pytest.raises(EmbedError, match="allow them with --trust-remote-code"):
        make_embedder("transformers", model_dir=tmp_path / "vit")
    assert not marker.exists()


def test_known_model_is_made_without_the_code_beside_it(tmp_path: Path, marker: Path) -> None:
    """Folders of models that have moved into transformers keep the files from before."""
    save("vit", tmp_path / "vit")
    (tmp_path / "vit" / "own.py").write_text(ran(marker))
    path = tmp_path / "vit" / "config.json"
    own = {"auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    assert make_embedder("transformers", model_dir=tmp_path / "vit").dim == 32
    assert not marker.exists()


_IMAGE = """
    def get_image_features(self, pixels):
        grid = torch.nn.functional.adaptive_avg_pool2d(pixels, 4)
        return self.proj(grid.flatten(1).repeat(1, 4))
"""


def test_trusted_code_may_be_any_encoder_of_images(tmp_path: Path, marker: Path) -> None:
    folder = internvideo(tmp_path / "own", marker, dim=20, method=_IMAGE)
    tf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    embedder = make_embedder("transformers", model_dir=folder, trust_remote_code=True)
    assert (embedder.dim, embedder.name) == (20, "own")
    assert marker.exists()


def test_features_that_may_depend_on_random_weights_are_refused(
    tmp_path: Path, marker: Path
) -> None:
    """A pooling layer without weights is left out elsewhere; here the model's method uses it."""
    pooler = """
    def __init__(self, config):
        super().__init__(config)
        self.pooler = torch.nn.Linear(3, 20)
        self.post_init()

    def get_image_features(self, pixels):
        return self.pooler(pixels.mean(dim=(2, 3)))
"""
    folder = internvideo(tmp_path / "own", marker, dim=20, method=pooler)
    tf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    with pytest.raises(EmbedError, match=r"lack 2 tensors .*\(pooler\.weight, pooler\.bias\)"):
        make_embedder("transformers", model_dir=folder, trust_remote_code=True)


def test_weights_that_the_vectors_do_not_need_may_be_missing(tmp_path: Path, marker: Path) -> None:
    """As the head of a text tower, which publishers leave out."""
    spare = """
    def __init__(self, config):
        super().__init__(config)
        self.proj = torch.nn.Linear(config.width, config.embed_dim)
        self.text_head = torch.nn.Linear(3, 20)
        self.post_init()
"""
    folder = internvideo(tmp_path / "own", marker, dim=20, method=spare + _IMAGE)
    tf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    embedder = make_embedder("transformers", model_dir=folder, trust_remote_code=True)
    assert embedder.dim == 20


def test_folder_of_another_variant_is_refused(tmp_path: Path, marker: Path) -> None:
    folder = cosmos(tmp_path / "Cosmos-Embed1-336p", marker, 336)
    with pytest.raises(EmbedError, match="resolution=336 is not that of Cosmos-Embed1-224p"):
        make_embedder("cosmos-embed1-224p", model_dir=folder, trust_remote_code=True)
    assert not marker.exists()


def test_other_dimension_than_published_is_refused(tmp_path: Path, marker: Path) -> None:
    folder = cosmos(tmp_path / "Cosmos-Embed1-224p", marker, 224, dim=768)
    with pytest.raises(EmbedError, match="gives 768 dimensions and should give 256"):
        make_embedder("cosmos-embed1-224p", model_dir=folder, trust_remote_code=True)


def test_processor_config_that_names_no_processor_is_refused(tmp_path: Path, marker: Path) -> None:
    """transformers then takes something else in the folder for the processor, or finds nothing."""
    folder = cosmos(tmp_path / "Cosmos-Embed1-224p", marker)
    (folder / "processor_config.json").write_text(json.dumps({"resolution": 224}))
    with pytest.raises(EmbedError, match="Cosmos-Embed1-224p: "):
        make_embedder("cosmos-embed1-224p", model_dir=folder, trust_remote_code=True)


def test_package_that_the_code_needs_is_named(tmp_path: Path, marker: Path) -> None:
    folder = cosmos(tmp_path / "Cosmos-Embed1-224p", marker)
    path = folder / "modeling_foreign.py"
    path.write_text("import package_nobody_has\n" + path.read_text())
    with pytest.raises(EmbedError, match=r"needs a package that is not installed.*nobody_has"):
        make_embedder("cosmos-embed1-224p", model_dir=folder, trust_remote_code=True)


def test_internvideo_by_its_documented_way(tmp_path: Path, marker: Path) -> None:
    """4 frames of 224 x 224, ImageNet's mean and deviation, `get_vid_feat`."""
    folder = internvideo(tmp_path / "InternVideo2-Stage2", marker)
    embedder = make_embedder("internvideo2", model_dir=folder, trust_remote_code=True)
    assert embedder.name == "internvideo2"
    assert (embedder.dim, embedder.sampling) == (512, Sampling(4, 2.0))
    frames = clips(5, 4, (240, 320))
    rows = embedder.embed([embedder.prepare(clip) for clip in frames])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    model = tf.AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    pixels = np.stack([interpolate_frames(clip, size=(224, 224)) for clip in frames]) / 255
    pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    with torch.inference_mode():
        tubes = torch.from_numpy(pixels.transpose(0, 1, 4, 2, 3).astype(np.float32))
        expected = model.get_vid_feat(tubes)[:, 0].numpy()
    np.testing.assert_allclose(rows, expected, atol=SMALL_DIFFERENCE)


def test_other_model_under_the_name_of_internvideo_is_refused(tmp_path: Path, marker: Path) -> None:
    folder = internvideo(tmp_path / "InternVideo2-Stage2", marker, method="")
    with pytest.raises(EmbedError, match="Foreign has no get_vid_feat"):
        make_embedder("internvideo2", model_dir=folder, trust_remote_code=True)
    other = internvideo(tmp_path / "InternVideo2-CLIP", marker, dim=768)
    with pytest.raises(EmbedError, match="gives 768 dimensions and should give 512"):
        make_embedder("internvideo2", model_dir=other, trust_remote_code=True)


def test_code_that_fails_is_one_line_with_a_hint(tmp_path: Path, marker: Path) -> None:
    """The code of published models is older than the transformers of today."""
    folder = internvideo(tmp_path / "InternVideo2", marker, method=_IMAGE + "    1 / 0\n")
    with pytest.raises(EmbedError, match=r"ZeroDivisionError.*'transformers<5'") as caught:
        make_embedder("internvideo2", model_dir=folder, trust_remote_code=True)
    assert "\n" not in str(caught.value)
