"""Scenes by TransNetV2 (arXiv 2008.04838), a network that finds cuts and gradual transitions.

It is read from an ONNX file, which holds neither pickles nor Python code.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dedup_assets.errors import first_line
from dedup_assets.video.detectors import Look
from dedup_assets.video.errors import SceneError
from dedup_assets.video.scenes import Scene, scenes_between

NAME = "transnetv2.onnx"
#: Frames that the network sees at once, and those at either end that only give context.
WINDOW, CONTEXT = 100, 25
STEP = WINDOW - 2 * CONTEXT
HEIGHT, WIDTH = 27, 48
TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


@dataclass(frozen=True)
class TransNetV2:
    """Scenes between frames whose probability of belonging to a transition exceeds `threshold`.

    `folder` holds `transnetv2.onnx`: its input is RGB from 0 to 255 of shape (1, 100, 27, 48, 3),
    uint8 or float32, its first output probabilities of shape (1, 100, 1).
    """

    folder: Path | None
    threshold: float = 0.4

    def look(self, width: int, height: int) -> Look:
        return Look(WIDTH, HEIGHT, "rgb24", "BICUBIC")

    def check(self) -> None:
        _load(_file(self.folder)).predict(np.zeros((WINDOW, HEIGHT, WIDTH, 3), np.uint8))

    def start(self, fps: float) -> "_Windows":
        return _Windows(_load(_file(self.folder)), self.threshold)


class _Windows:
    """Frames in windows of 100, each 50 frames after the one before.

    As published, the first frame is repeated before the video, and the last behind it.
    """

    def __init__(self, network: "_Network", threshold: float) -> None:
        self._network, self._threshold = network, threshold
        self._window = np.empty((WINDOW, HEIGHT, WIDTH, 3), np.uint8)
        self._filled = 0
        self._frames = 0
        self._found: list[NDArray[np.bool_]] = []

    def push(self, picture: NDArray[np.uint8]) -> None:
        if not self._frames:
            self._window[:CONTEXT] = picture
            self._filled = CONTEXT
        self._window[self._filled] = picture
        self._filled += 1
        self._frames += 1
        if self._filled == WINDOW:
            self._run()

    def scenes(self) -> list[Scene]:
        while len(self._found) * STEP < self._frames:
            self._window[self._filled :] = self._window[self._filled - 1]
            self._run()
        return scenes_between(np.concatenate(self._found or [np.empty(0, bool)])[: self._frames])

    def _run(self) -> None:
        found = self._network.predict(self._window)[CONTEXT : CONTEXT + STEP]
        self._found.append(found > self._threshold)
        self._window[:-STEP] = self._window[STEP:]
        self._filled = WINDOW - STEP


class _Network:
    """The loaded file."""

    def __init__(self, file: Path, session: Any) -> None:
        self._file, self._session = file, session
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in TYPES:
            raise self._unfit("its input should be one tensor of uint8 or float32")
        self._input, self._type = inputs[0].name, TYPES[inputs[0].type]
        self._output = session.get_outputs()[0].name

    def predict(self, window: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, of shape (100,), of a window of shape (100, 27, 48, 3)."""
        data = window[None].astype(self._type)
        try:
            (found,) = self._session.run([self._output], {self._input: data})
        except Exception as error:
            raise self._unfit(first_line(error)) from error
        if found.shape != (1, WINDOW, 1):
            raise self._unfit(f"its output is of shape {found.shape}, not (1, {WINDOW}, 1)")
        if not (found.min() >= 0 and found.max() <= 1):
            raise self._unfit("its output should be probabilities, after the sigmoid")
        return np.asarray(found[0, :, 0], np.float32)

    def _unfit(self, reason: str) -> SceneError:
        return SceneError(
            f"{self._file}: is not TransNetV2 as docs/videos.md describes its file: {reason}"
        )


def _file(folder: Path | None) -> Path:
    if folder is None:
        raise SceneError(
            "transnetv2 reads its weights from a folder: name one that holds "
            f"{NAME} with --splitting-model-dir; nothing is downloaded"
        )
    if not (folder / NAME).is_file():
        found = f"holds no {NAME}" if folder.is_dir() else "is not a directory"
        raise SceneError(
            f"{folder}: {found}, the network as an ONNX file; pickled weights (*.pth) are not "
            "read: docs/videos.md shows how to convert them"
        )
    return folder / NAME


# Once for each process: a worker takes video after video.
@lru_cache(maxsize=1)
def _load(file: Path) -> _Network:
    try:
        import onnxruntime
    except ImportError as error:
        raise SceneError(
            "splitting_algorithm transnetv2 needs onnxruntime, which cannot be imported here "
            f"({first_line(error)}): pip install 'dedup-assets[transnetv2]'"
        ) from error
    options = onnxruntime.SessionOptions()
    # Workers are as many as there are cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise SceneError(
            f"{file}: cannot be loaded by onnxruntime: {first_line(error)}; copy the file again"
        ) from error
    return _Network(file, session)
