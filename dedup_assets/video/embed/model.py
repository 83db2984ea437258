"""An embedder that runs a torch model: batches by memory, checks what comes out."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dedup_assets.compute.normalize import VALID, unit_rows
from dedup_assets.errors import listed
from dedup_assets.video.embed.device import clips_at_once, out_of_memory
from dedup_assets.video.embed.errors import EmbedError
from dedup_assets.video.embed.interface import Frames
from dedup_assets.video.sampling import Sampling

if TYPE_CHECKING:
    import torch

#: Prepared frames of n clips to a tensor of shape (n, dim) on the model's device.
Forward = Callable[[Sequence[Frames]], "torch.Tensor"]


@dataclass(frozen=True)
class Encoder:
    """A loaded model and how clips get into it.

    Attributes:
        name, sampling, prepare: as of `Embedder`.
        forward: from prepared frames of n clips to a tensor of shape (n, dim).
        device: where the model is.
        unloaded: tensors of the model that hold random numbers, for want of weights.
    """

    name: str
    sampling: Sampling
    prepare: Callable[[Frames], Frames]
    forward: Forward
    device: "torch.device"
    unloaded: Mapping[str, "torch.Tensor"]


class ModelEmbedder:
    """Embeds with an `Encoder`, as many clips at once as the memory holds."""

    def __init__(self, encoder: Encoder, *, dim: int | None, batch_size: int | None = None) -> None:
        """Embed one made-up clip, which tells the dimension and, on a GPU, the memory it takes.

        `dim` is what the model is known to give, None where it is not known before. `batch_size`
        is the number of clips at once, None to choose it by the free memory.
        """
        self.name = encoder.name
        self.sampling = encoder.sampling
        self.prepare = encoder.prepare
        self._encoder = encoder
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        trial = [encoder.prepare(np.stack([noise] * encoder.sampling.count))]
        self.dim = self._trial(trial, dim)
        self._lock = threading.Lock()
        self._at_once = batch_size or clips_at_once(encoder.device, partial(self._run, trial))

    def embed(self, prepared: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        """Embed prepared clips, each of shape (t, h, w, 3), uint8; returns (n, dim), unit rows.

        A batch that runs out of device memory is halved, and later ones with it. Calls of several
        threads take turns: a batch is as large as the memory allows.
        """
        with self._lock:
            return self._embed(prepared)

    def _embed(self, prepared: Sequence[NDArray[np.generic]]) -> NDArray[np.float32]:
        out = np.empty((len(prepared), self.dim), np.float32)
        done = 0
        while done < len(prepared):
            part = [self._checked(clip) for clip in prepared[done : done + self._at_once]]
            rows = self._attempt(part)
            if rows is None:
                self._at_once = len(part) // 2
                continue
            out[done : done + len(part)] = rows
            done += len(part)
        return self._unit(out)

    def _attempt(self, part: Sequence[Frames]) -> NDArray[np.float32] | None:
        """Rows of a batch, or None where two or more clips do not fit the device's memory."""
        import torch

        if len(part) == 1:
            return self._alone(part)
        try:
            return self._run(part)
        except torch.OutOfMemoryError:
            pass  # its traceback keeps tensors of the failed call, so memory is freed below
        if self._encoder.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _alone(self, one: Sequence[Frames]) -> NDArray[np.float32]:
        import torch

        try:
            return self._run(one)
        except torch.OutOfMemoryError as error:
            raise out_of_memory(self._encoder.device, error, self.name) from error

    def _run(self, part: Sequence[Frames]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            rows: NDArray[np.float32] = self._encoder.forward(part).float().cpu().numpy()
        return rows

    def _trial(self, trial: Sequence[Frames], dim: int | None) -> int:
        rows = self._alone(trial)
        if rows.ndim != 2 or len(rows) != 1:
            raise EmbedError(
                f"{self.name}: the model gives shape {rows.shape} for one clip, which is not one "
                "vector; choose a model that encodes images or videos"
            )
        found = rows.shape[1]
        if dim is not None and found != dim:
            raise EmbedError(
                f"{self.name}: the model gives {found} dimensions and should give {dim}; "
                "--model-dir holds another model than the algorithm names"
            )
        if self._encoder.unloaded:
            self._require_unused(trial, rows)
        return found

    def _require_unused(self, trial: Sequence[Frames], rows: NDArray[np.float32]) -> None:
        """Refuse a model whose vectors change with the tensors that it has no weights for."""
        unloaded = self._encoder.unloaded
        for tensor in unloaded.values():
            tensor.fill_(0.5)
        if not np.allclose(rows, self._alone(trial), rtol=1e-5, atol=1e-6):
            raise EmbedError(
                f"{self.name}: the weights lack {len(unloaded):,} tensors that the vectors depend "
                f"on ({listed(unloaded, 3)}), so that they would be random; copy --model-dir again"
            )

    def _checked(self, clip: NDArray[np.generic]) -> Frames:
        if clip.ndim != 4 or len(clip) != self.sampling.count or clip.dtype != np.uint8:
            raise ValueError(
                f"clip of shape {clip.shape}, {clip.dtype}, should be what prepare gives for "
                f"{self.sampling.count} frames: ({self.sampling.count}, h, w, 3), uint8."
            )
        return np.asarray(clip, np.uint8)

    def _unit(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        found = unit_rows(rows)
        bad = np.flatnonzero(found.status != VALID)
        if len(bad):
            raise EmbedError(
                f"{self.name}: the model gives NaN, infinite or zero vectors for {len(bad):,} of "
                f"{len(rows):,} clips, the first at position {bad[0]}; its weights are damaged or "
                f"overflow on {self._encoder.device}: try --device cpu"
            )
        unit: NDArray[np.float32] = found.rows
        return unit
