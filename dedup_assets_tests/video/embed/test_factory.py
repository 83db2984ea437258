"""Names of embedders and of their folders, and what is refused before a model is loaded."""

import json
import sys
from pathlib import Path

import pytest

from dedup_assets.video.embed import EmbedError, make_embedder, output_folder


@pytest.mark.parametrize(
    ("kind", "folder"),
    [
        ("perceptual", "perceptual_embd_parquet"),
        ("internvideo2", "iv2_embd_parquet"),
        ("cosmos-embed1", "ce1_embd_336p_parquet"),
        ("cosmos-embed1-448p", "ce1_embd_448p_parquet"),
        ("transformers", "clip-vit-b-32_embd_parquet"),
    ],
)
def test_folders_are_named_as_the_peers_name_them(kind: str, folder: str) -> None:
    assert output_folder(kind, model_dir=Path("models/clip vit-b:32")) == folder


@pytest.mark.parametrize(
    "kind", ["clip", "cosmos-embed1-512p", "cosmos-embed1-", "internvideo2-1b"]
)
def test_unknown_names_are_refused_with_the_known_ones(kind: str) -> None:
    known = f"'{kind}' should be one of perceptual, transformers.*: cosmos-embed1-224p, "
    with pytest.raises(EmbedError, match=known):
        make_embedder(kind)


@pytest.mark.parametrize("kind", ["transformers", "cosmos-embed1"])
def test_folder_that_is_none_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(EmbedError, match="name one with --model-dir"):
        make_embedder(kind)
    with pytest.raises(EmbedError, match="nowhere: is not a directory"):
        make_embedder(kind, model_dir=tmp_path / "nowhere")
    with pytest.raises(EmbedError, match=r"has no config\.json"):
        make_embedder(kind, model_dir=tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EmbedError, match="cannot be read as JSON"):
        make_embedder(kind, model_dir=tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(EmbedError, match="should hold a JSON object"):
        make_embedder(kind, model_dir=tmp_path)


def test_missing_extra_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EmbedError, match=r"needs torch.*pip install 'dedup-assets\[embed\]'"):
        make_embedder("transformers", model_dir=tmp_path)


def test_internvideo_without_its_code_says_how_to_get_it(tmp_path: Path) -> None:
    """The 1B checkpoint that the peers use is one .pt file."""
    (tmp_path / "InternVideo2-stage2_1b-224p-f4.pt").touch()
    for folder in (None, tmp_path):
        with pytest.raises(EmbedError, match=r"auto_map.*InternVideo2-Stage2_6B") as caught:
            make_embedder("internvideo2", model_dir=folder)
        assert "\n" not in str(caught.value)
