"""The contestants of `benchmarks.semhash`: rows in, rows to remove out."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import write_file
from benchmarks.removals import Removed
from dedup_assets.compute import kmeans
from dedup_assets.compute.arrays import device_array_module, resolve_device, to_host
from dedup_assets.compute.assign import nearest_centroids
from dedup_assets.compute.pairwise import best_earlier_matches
from dedup_assets.compute.thresholds import score_threshold

FITTED_PER_CLUSTER = 256
SEED, MAX_ITER, TOL = 42, 100, 1e-4  # as the settings have them
_ROWS_PER_FILE = 12_500


def remove_by_arrays(x: np.ndarray, clusters: int, device: str, eps: list[str]) -> Removed:
    """What the stages compute, from array to array, with the settings' defaults."""
    clock = _Clock()
    xp = device_array_module(resolve_device(device))
    rows = xp.asarray(x)
    n = len(rows)
    label, distance = np.zeros(n, dtype=np.int64), np.zeros(n)
    if clusters > 1:
        few = min(n, FITTED_PER_CLUSTER * clusters)
        chosen = np.sort(np.random.default_rng(SEED).choice(n, few, replace=False))
        sample = rows[xp.asarray(chosen)]
        fit = kmeans.fit(sample, clusters, seed=SEED, max_iter=MAX_ITER, tol=TOL)
        clock.lap("fit")
        found = nearest_centroids(rows, fit.centroids)
        label, distance = to_host(found.label), to_host(found.cosine_distance)
        clock.lap("assign")
    order = np.lexsort((-np.arange(n), -distance, label))
    offsets = np.searchsorted(label[order], np.arange(clusters + 1))
    match = best_earlier_matches(rows[xp.asarray(order)], offsets)
    has_earlier = np.ones(n, dtype=bool)
    has_earlier[offsets[:-1][np.diff(offsets) > 0]] = False
    score = to_host(match.score)
    removed = {}
    for one in eps:
        removed[one] = np.zeros(n, dtype=bool)
        removed[one][order] = has_earlier & (score >= score_threshold(one))
    clock.lap("compare")
    return Removed(removed, clock.seconds)


def by_stages(
    x: np.ndarray, clusters: int, device: str, eps: list[str], folder: Path
) -> Callable[[], Removed]:
    """The product's stage functions over files; these are written here, outside the clock."""
    from benchmarks.stages import Stopwatch, call_stages
    from dedup_assets.settings import Settings
    from dedup_assets.store import layout
    from dedup_assets.store.filesystem import Store
    from dedup_assets.store.tables import read_table

    source, output = folder / "input", folder / "output"
    source.mkdir()
    for number, start in enumerate(range(0, len(x), _ROWS_PER_FILE)):
        part = x[start : start + _ROWS_PER_FILE]
        ids = [f"{row:09d}" for row in range(start, start + len(part))]
        write_file(source / f"part-{number:05d}.parquet", ids, part)
    settings = Settings.of(
        dataset="benchmark",
        input_embeddings_path=str(source),
        output_path=str(output),
        n_clusters=clusters,
        eps_thresholds=eps,
        device=device,
    )

    def call() -> Removed:
        shutil.rmtree(output, ignore_errors=True)
        watch = Stopwatch()
        call_stages(settings, watch)
        store = Store(settings.storage.output_path)
        removed = {}
        for one in eps:
            removed[one] = np.zeros(len(x), dtype=bool)
            for cluster in range(clusters):
                table = read_table(store, layout.unique_ids_part(one, cluster), ["id"])
                removed[one][[int(name) for name in table["id"].to_pylist()]] = True
        return Removed(removed, watch.wall)

    return call


def remove_by_semhash(x: np.ndarray, eps: list[str]) -> Removed:
    from semhash import SemHash

    clock = _Clock()
    names = [f"{row:09d}" for row in range(len(x))]
    index = SemHash.from_embeddings(embeddings=x, records=names, model=_NoEncoder())
    clock.lap("index")
    removed = {}
    by_threshold = sorted(eps, key=float, reverse=True)
    result = index.self_deduplicate(threshold=1 - float(by_threshold[0]))
    clock.lap("compare")
    for one in by_threshold:
        result.rethreshold(1 - float(one))
        removed[one] = np.zeros(len(x), dtype=bool)
        removed[one][[int(record.record) for record in result.filtered]] = True
    clock.lap("thresholds")
    return Removed(removed, clock.seconds)


class _NoEncoder:
    """SemHash asks for what made the embeddings, to embed further records; there are none."""

    def encode(self, inputs: Any, **options: Any) -> np.ndarray:
        raise NotImplementedError


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now
