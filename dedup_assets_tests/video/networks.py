"""What finds scenes, where its library is installed.

TransNetV2 has a small network in the form of its file: a jump of brightness is a transition.
"""

from pathlib import Path

import pytest

from dedup_assets.video.content import ContentCuts
from dedup_assets.video.detectors import Detector
from dedup_assets.video.transnet import TransNetV2


def write_network(
    folder: Path, *, input_type: str = "UINT8", frames: int = 100, logits: bool = False
) -> Path:
    """Write `folder/transnetv2.onnx`; skips the test where onnx is not installed."""
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install '.[dev]'")
    helper, types = onnx.helper, onnx.TensorProto
    node = helper.make_node

    def whole(name: str, values: list[int]) -> object:
        return helper.make_tensor(name, types.INT64, [len(values)], values)

    nodes = [
        node("Cast", ["input"], ["levels"], to=types.FLOAT),
        node("ReduceMean", ["levels"], ["means"], axes=[2, 3, 4], keepdims=0),
        node("Slice", ["means", "zero", "last", "axis"], ["before"]),
        node("Slice", ["means", "zero", "one", "axis"], ["first"]),
        node("Concat", ["first", "before"], ["shifted"], axis=1),
        node("Sub", ["means", "shifted"], ["change"]),
        node("Abs", ["change"], ["size"]),
        node("Greater", ["size", "limit"], ["jump"]),
        node("Cast", ["jump"], ["chance"], to=types.FLOAT),
        node("Sub", ["chance", "offset"], ["shown"]),
        node("Unsqueeze", ["shown", "two"], ["output"]),
    ]
    numbers = {"zero": 0, "one": 1, "axis": 1, "two": 2, "last": frames - 1}
    constants = [whole(name, [value]) for name, value in numbers.items()]
    constants += [
        helper.make_tensor("limit", types.FLOAT, [], [10.0]),
        helper.make_tensor("offset", types.FLOAT, [], [5.0 if logits else 0.0]),
    ]
    shape = [1, frames, 27, 48, 3]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", getattr(types, input_type), shape)],
        [helper.make_tensor_value_info("output", types.FLOAT, [1, frames, 1])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "transnetv2.onnx")
    return folder


def content_cuts() -> Detector:
    pytest.importorskip("scenedetect", reason="needs scenedetect: pip install '.[scenes]'")
    return ContentCuts()


def transnet(folder: Path) -> Detector:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install '.[transnetv2]'")
    return TransNetV2(write_network(folder / "network"))
