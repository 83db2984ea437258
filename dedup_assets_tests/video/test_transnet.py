"""Windows of TransNetV2, and which files are taken for it."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.video.errors import SceneError
from dedup_assets.video.scenes import scenes_between
from dedup_assets.video.transnet import CONTEXT, STEP, WINDOW, TransNetV2, _Windows
from dedup_assets_tests.video.networks import write_network


class Neighbourhood:
    """Stands in for the network: the mean of a frame and of the 25 at either side of it."""

    def __init__(self) -> None:
        self.windows = 0

    def predict(self, window: np.ndarray) -> np.ndarray:
        assert window.shape == (WINDOW, 27, 48, 3)
        self.windows += 1
        return means(window[:, 0, 0, 0])


def means(values: np.ndarray) -> np.ndarray:
    padded = np.pad(values.astype(float) / 255, CONTEXT, mode="edge")
    return np.convolve(padded, np.ones(2 * CONTEXT + 1) / (2 * CONTEXT + 1), "valid")


@given(values=st.lists(st.sampled_from([0, 255]), min_size=1, max_size=320))
def test_every_frame_is_judged_once_with_25_of_context(values: list[int]):
    """The ends repeat the first and the last frame, as published."""
    network = Neighbourhood()
    windows = _Windows(network, 0.4)  # type: ignore[arg-type]
    for value in values:
        windows.push(np.full((27, 48, 3), value, np.uint8))
    # Not near the threshold, which rounding could pass: 51 frames give steps of 1 / 51.
    assert windows.scenes() == scenes_between(means(np.array(values)) > 0.4)
    assert network.windows == -(-len(values) // STEP)


def test_no_frame_gives_no_scene():
    assert _Windows(Neighbourhood(), 0.4).scenes() == []  # type: ignore[arg-type]


@pytest.mark.parametrize("input_type", ["UINT8", "FLOAT"])
@pytest.mark.parametrize("cut", [1, 49, 50, 51, 74, 75, 76, 99, 100, 118])
def test_a_jump_is_found_wherever_it_is(tmp_path: Path, input_type: str, cut: int):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install '.[transnetv2]'")
    detector = TransNetV2(write_network(tmp_path, input_type=input_type))
    detector.check()
    detection = detector.start(30.0)
    for number in range(120):
        detection.push(np.full((27, 48, 3), 200 if number >= cut else 100, np.uint8))
    assert detection.scenes() == [
        scene for scene in [(0, cut), (cut + 1, 119)] if scene[0] < scene[1]
    ]


def test_absent_weights_are_said_with_the_next_step(tmp_path: Path):
    (tmp_path / "transnetv2-pytorch-weights.pth").write_bytes(b"a pickle")
    for folder, message in [
        (None, "--splitting-model-dir"),
        (tmp_path / "absent", "is not a directory"),
        (tmp_path, r"holds no transnetv2\.onnx.*pickled weights"),
    ]:
        with pytest.raises(SceneError, match=message):
            TransNetV2(folder).check()


def test_another_network_is_refused(tmp_path: Path):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install '.[transnetv2]'")
    for name, options, message in [
        ("logits", {"logits": True}, "should be probabilities"),
        ("short", {"frames": 50}, "is not TransNetV2"),
        ("type", {"input_type": "INT8"}, "uint8 or float32"),
    ]:
        folder = write_network(tmp_path / name, **options)  # type: ignore[arg-type]
        with pytest.raises(SceneError, match=message) as caught:
            TransNetV2(folder).check()
        assert "\n" not in str(caught.value)
    (tmp_path / "transnetv2.onnx").write_bytes(b"no network")
    with pytest.raises(SceneError, match="cannot be loaded by onnxruntime"):
        TransNetV2(tmp_path).check()


def test_an_absent_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "transnetv2.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SceneError, match=r"pip install 'dedup-assets\[transnetv2\]'"):
        TransNetV2(tmp_path).check()
