"""The peers' algorithms find what there is to find, or a ratio to their time would mean nothing."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks import peers
from benchmarks.rounds import missing
from dedup_assets_tests.compute.oracle import best_earlier_by_product
from dedup_assets_tests.conftest import unit

ARRAYS = {
    "nemo": partial(peers.nemo_arrays, np),
    "nemo, flipped": partial(peers.nemo_arrays, np, flipped=True),
    "cosmos": partial(peers.cosmos_arrays, np),
}
TORCH = {
    "nemo, torch": peers.nemo_torch,
    "nemo, torch, flipped": partial(peers.nemo_torch, flipped=True),
    "cosmos, torch": peers.cosmos_torch,
}


@pytest.fixture(params=[*ARRAYS, *TORCH])
def search(request: pytest.FixtureRequest) -> Callable[..., Any]:
    if request.param in ARRAYS:
        return ARRAYS[request.param]
    if missing("torch"):
        pytest.skip("torch is not installed")
    return _through_torch(TORCH[request.param])


def _through_torch(search: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    return lambda rows, **options: [
        found.numpy() for found in search(torch.from_numpy(rows), **options)
    ]


@pytest.mark.parametrize("n", [1, 2, 50, 130])
def test_finds_the_best_earlier_row(
    search: Callable[..., Any], n: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    """Over several batches and tiles, the last of them smaller."""
    monkeypatch.setattr(peers, "NEMO_BATCH", 48)
    monkeypatch.setattr(peers, "COSMOS_TILE", 64)
    # With all numbers positive no best similarity is below 0, which NeMo Curator's mask hides.
    x = unit(rng.random((n, 24)))
    score, index = search(x)
    expected = best_earlier_by_product(x)
    np.testing.assert_allclose(score, expected[0], atol=1e-6)
    np.testing.assert_array_equal(index, expected[1])


def test_products_alone_find_nothing(search: Callable[..., Any], rng: np.random.Generator):
    score, _ = search(unit(rng.random((20, 8))), products_only=True)
    assert (score <= 0).all()
