"""Batches of a model: memory that runs out, devices, what is checked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dedup_assets.video.embed.device import CPU_CLIPS, MOST_CLIPS, clips_at_once, pick_device
from dedup_assets.video.embed.errors import EmbedError
from dedup_assets.video.embed.model import Encoder, ModelEmbedder
from dedup_assets.video.sampling import Sampling
from dedup_assets_tests.video.embed.clips import clips
from dedup_assets_tests.video.embed.tiny import torch


class Room:
    """A model that embeds at most `room` clips at once: their mean colours."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.batches: list[int] = []

    def __call__(self, part: Sequence[NDArray[np.uint8]]) -> Any:
        self.batches.append(len(part))
        if len(part) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.from_numpy(np.stack(part)).float().mean(dim=(1, 2, 3))


def same(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frames


def embedder(model: Room, *, batch_size: int | None, dim: int | None = None) -> ModelEmbedder:
    encoder = Encoder("mean", Sampling(2), same, model, torch.device("cpu"), {})
    return ModelEmbedder(encoder, dim=dim, batch_size=batch_size)


def test_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    model = Room(3)
    frames = clips(10, 2)
    rows = embedder(model, batch_size=8).embed(frames)
    assert model.batches == [1, 8, 4, 2, 2, 2, 2, 2]
    np.testing.assert_allclose(rows, embedder(Room(99), batch_size=10).embed(frames), atol=1e-6)


def test_clip_that_does_not_fit_alone_is_an_error() -> None:
    with pytest.raises(EmbedError, match="one clip does not fit into the free memory of cpu"):
        embedder(Room(0), batch_size=8)


def test_batches_on_a_cpu_are_small() -> None:
    model = Room(99)
    embedder(model, batch_size=None).embed(clips(6, 2))
    assert model.batches == [1, CPU_CLIPS, 6 - CPU_CLIPS]


@pytest.mark.parametrize(
    ("one", "free", "batch"), [(100, 10_000, 50), (100, 150, 1), (1, 10_000, MOST_CLIPS)]
)
def test_batches_on_a_gpu_take_half_the_free_memory(
    one: int, free: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one clip takes is its peak above what the model already holds (7 here)."""
    found = {
        "synchronize": lambda _: None,
        "reset_peak_memory_stats": lambda _: None,
        "empty_cache": lambda: None,
        "memory_allocated": lambda _: 7,
        "max_memory_allocated": lambda _: 7 + one,
        "mem_get_info": lambda _: (free, 2 * free),
    }
    for name, value in found.items():
        monkeypatch.setattr(torch.cuda, name, value)
    assert clips_at_once(torch.device("cuda"), lambda: None) == batch


def test_other_dimension_than_known_is_refused() -> None:
    with pytest.raises(EmbedError, match="gives 3 dimensions and should give 256"):
        embedder(Room(9), batch_size=1, dim=256)


def test_clip_with_other_frames_than_asked_is_refused() -> None:
    with pytest.raises(ValueError, match=r"for 2 frames: \(2, h, w, 3\), uint8"):
        embedder(Room(9), batch_size=1).embed(clips(1, 3))


def test_no_clips_give_no_rows() -> None:
    assert embedder(Room(9), batch_size=1).embed([]).shape == (0, 3)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", ""])
def test_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(EmbedError, match="should be auto, cpu, cuda or cuda:N"):
        pick_device(device)


def test_auto_takes_a_gpu_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(EmbedError, match="sees no CUDA device"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("auto").type == "cuda"
    with pytest.raises(EmbedError, match="there are 1 CUDA devices, so N should be < 1"):
        pick_device("cuda:1")
