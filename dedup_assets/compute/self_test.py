"""A small search on the GPU, compared with the CPU's: a second that saves a wrong result."""

import numpy as np

from dedup_assets.compute.arrays import device_array_module, to_device, to_host
from dedup_assets.compute.assign import nearest_centroids
from dedup_assets.compute.pairwise import best_earlier_matches

_SIZES = (300, 300, 290, 1, 700)
_DIM = 72
_CENTROIDS = 20


def failure() -> str | None:
    """Where the current CUDA device differs from the CPU, or fails; None if it does not.

    It searches clusters alone and together, with near-ties and copies, and assigns rows.
    """
    x, offsets = _rows()
    host = best_earlier_matches(x, offsets)
    near = nearest_centroids(x, x[:_CENTROIDS])
    try:
        xp = device_array_module("cuda")
        rows = to_device(xp, x)
        found = best_earlier_matches(rows, offsets)
        assigned = nearest_centroids(rows, rows[:_CENTROIDS])
        pairs = {
            "scores": (found.score, host.score),
            "matches": (found.index, host.index),
            "nearest centroids": (assigned.label, near.label),
            "distances to them": (assigned.l2_distance, near.l2_distance),
        }
        wrong = [name for name, (a, b) in pairs.items() if not np.array_equal(to_host(a), b)]
    except Exception as error:  # of any kind: drivers, compilers and libraries have their own
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return f"its {' and '.join(wrong)} differ from the CPU's" if wrong else None


def _rows() -> tuple[np.ndarray, list[int]]:
    """Unit rows of a few clusters: some at random, some all but equal, some copies."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((sum(_SIZES), _DIM))
    x[::3] = x[0] + 1e-5 * x[::3]
    x[1::7] = x[1]
    rows = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return rows, np.cumsum([0, *_SIZES]).tolist()
