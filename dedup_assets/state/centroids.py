"""The centroids on disk."""

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from dedup_assets.errors import StaleError
from dedup_assets.settings import Settings
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import digest, fingerprint

VERSION = 2


@dataclass(frozen=True)
class Centroids:
    """Centroids on disk.

    Attributes:
        values: of shape (n_clusters, d), float32, unit rows, host.
        content: digest of the file, which names them downstream.
        info: how they were made: rows fitted on, inertia, iterations.
        reused: whether they were there already.
    """

    values: np.ndarray
    content: str
    info: dict[str, Any]
    reused: bool


def write_centroids(store: Store, values: np.ndarray, info: dict[str, Any]) -> Centroids:
    """Commit centroids: the array, then what says that it is whole and what it was made from."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    store.write_bytes(layout.CENTROIDS, buffer.getvalue())
    info = {**info, "content": digest(buffer.getvalue())}
    store.write_bytes(layout.CENTROIDS_INFO, json.dumps(info, indent=1, sort_keys=True).encode())
    return Centroids(values, info["content"], info, reused=False)


def load_centroids(settings: Settings, store: Store, dim: int) -> Centroids:
    """Read the centroids, for vectors of length ``dim``.

    Raises:
        StaleError: they are missing, incomplete, or made with other settings.
    """
    name = layout.CENTROIDS
    try:
        info = json.loads(store.read_bytes(layout.CENTROIDS_INFO))
        data = store.read_bytes(name)
    except FileNotFoundError:
        raise StaleError(f"{store.url(name)} is missing; materialize centroids first") from None
    if info["content"] != digest(data):
        raise StaleError(
            f"{store.url(name)} is not whole or was changed; materialize centroids again"
        )
    if info["fingerprint"] != centroids_fingerprint(settings, dim):
        raise StaleError(
            f"{store.url(name)} was fitted with other settings (n_clusters, random_state, "
            "max_iter, tol, fit_data_fraction, kmeans, embedding_field or dimension); materialize "
            "centroids again"
        )
    return Centroids(np.load(io.BytesIO(data)), info["content"], info, reused=True)


def centroids_fingerprint(settings: Settings, dim: int) -> str:
    """Digest of what the fit is asked for; new input does not change it."""
    return fingerprint(
        "centroids",
        VERSION,
        settings.clustering.n_clusters,
        settings.clustering.random_state,
        settings.clustering.max_iter,
        settings.clustering.tol,
        settings.clustering.fit_data_fraction,
        settings.source.embedding_field,
        dim,
        *([] if settings.clustering.kmeans == "lloyd" else [settings.clustering.kmeans]),
    )
