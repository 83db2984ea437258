"""Weights that are pickles: loading one runs what its author wrote."""

import pickle
from pathlib import Path

import pytest

from dedup_assets.video.embed import EmbedError, make_embedder
from dedup_assets_tests.video.embed.foreign import cosmos
from dedup_assets_tests.video.embed.tiny import save, torch

pytestmark = pytest.mark.usefixtures("modules_cache")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.mkdir, (self.place,)


def lay_trap(folder: Path, sprung: Path) -> None:
    """Put pickles of all usual names into a folder."""
    for name in ("pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"):
        torch.save({"weight": Trap(sprung)}, folder / name)


def test_trap_springs_where_a_pickle_is_loaded(tmp_path: Path) -> None:
    """Otherwise the tests below would show nothing."""
    sprung = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()


@pytest.mark.parametrize("trusted", [False, True])
def test_folder_with_pickled_weights_alone_is_refused(tmp_path: Path, trusted: bool) -> None:
    sprung = tmp_path / "sprung"
    save("vit", tmp_path / "vit")
    (tmp_path / "vit" / "model.safetensors").unlink()
    lay_trap(tmp_path / "vit", sprung)
    with pytest.raises(EmbedError, match=r"pickled weights \(model\.ckpt, model\.pt"):
        make_embedder("transformers", model_dir=tmp_path / "vit", trust_remote_code=trusted)
    assert not sprung.exists()


def test_pickles_beside_safetensors_are_not_read(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    save("vit", tmp_path / "vit")
    lay_trap(tmp_path / "vit", sprung)
    assert make_embedder("transformers", model_dir=tmp_path / "vit").dim == 32
    assert not sprung.exists()


def test_pickles_are_not_read_though_other_safetensors_are_there(tmp_path: Path) -> None:
    """An unrelated *.safetensors must not send transformers to the pickle."""
    sprung = tmp_path / "sprung"
    save("vit", tmp_path / "vit")
    (tmp_path / "vit" / "model.safetensors").rename(tmp_path / "vit" / "other.safetensors")
    lay_trap(tmp_path / "vit", sprung)
    with pytest.raises(EmbedError, match="cannot be used with transformers"):
        make_embedder("transformers", model_dir=tmp_path / "vit")
    assert not sprung.exists()


def test_trusted_code_brings_no_trust_in_pickles(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    folder = cosmos(tmp_path / "Cosmos-Embed1-224p", tmp_path / "ran")
    (folder / "model.safetensors").unlink()
    lay_trap(folder, sprung)
    with pytest.raises(EmbedError, match="pickled weights"):
        make_embedder("cosmos-embed1-224p", model_dir=folder, trust_remote_code=True)
    assert not sprung.exists()
    assert not (tmp_path / "ran").exists()


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    save("vit", tmp_path / "vit")
    (tmp_path / "vit" / "model.safetensors").unlink()
    with pytest.raises(EmbedError, match="holds no weights"):
        make_embedder("transformers", model_dir=tmp_path / "vit")
