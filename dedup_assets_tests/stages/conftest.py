"""Small data with duplicates of every kind."""

import io
import json
from typing import Any

import numpy as np
import pytest

from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import digest
from dedup_assets_tests.conftest import unit


@pytest.fixture
def mixed(rng: np.random.Generator) -> np.ndarray:
    """120 vectors around 6 directions: copies, scaled copies, near copies, opposites, others."""
    base = unit(rng.normal(size=(6, 12)))
    x = base[rng.integers(0, 6, 120)] + 0.3 * rng.normal(size=(120, 12))
    x[30:45] = x[:15]
    x[45:55] = 2.5 * x[:10]
    x[55:75] = x[5:25] + 1e-3 * rng.normal(size=(20, 12))
    x[75:80] = -x[:5]
    return x[rng.permutation(120)].astype(np.float32)


@pytest.fixture
def names() -> list[str]:
    return [f"clip-{i:03d}" for i in range(120)]


def put_centroids(settings: Settings, values: Any) -> None:
    """Replace the fitted centroids by others, consistently, so that they are current."""
    store = Store(settings.storage.output_path)
    manifest = list_embeddings(settings, store)
    info = fit_centroids(settings, store, manifest, refit=False).info
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values, dtype=np.float32))
    store.write_bytes(layout.CENTROIDS, buffer.getvalue())
    info = {**info, "content": digest(buffer.getvalue())}
    store.write_bytes(layout.CENTROIDS_INFO, json.dumps(info).encode())
