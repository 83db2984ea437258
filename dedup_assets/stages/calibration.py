"""How fast this machine is: a few rows of the input through the product's own functions."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dedup_assets.compute.arrays import to_host
from dedup_assets.compute.assign import nearest_centroids
from dedup_assets.compute.cost import Rates, Workload, predict
from dedup_assets.compute.pairwise import best_earlier_match
from dedup_assets.errors import InputError
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import (
    fit_centroids,
    kmeans_function,
    normalise,
    raise_invalid,
)
from dedup_assets.stages.embeddings import input_files, list_embeddings
from dedup_assets.stages.machine import compute_budget, compute_module
from dedup_assets.stages.missed import estimate_missed
from dedup_assets.stages.partitioning import shuffle
from dedup_assets.stages.scores import score
from dedup_assets.state.manifest import Manifest
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store.arrow import vectors_to_column

_SAMPLE_BYTES = 64 << 20
_SAMPLE_FILES = 4
_FIRST_ROWS, _ENOUGH_S = 4096, 0.05  # compared: a GPU reaches its speed with many rows
_FIT_ROWS, _FIT_ROWS_PER_CENTROID = 8192, 64
_TRIAL_ROWS, _TRIAL_CLUSTERS = 8192, 32
_CALLS, _TRIALS = 3, 2  # the fastest counts: others on the machine only make a call slower
_PASSES = 2  # over the vectors of the input: to fit and to assign

_T = TypeVar("_T")


@dataclass(frozen=True)
class Sample:
    """Valid rows of the input.

    Attributes:
        vectors: of shape (n, d), as they are there; ``rows``: as unit rows, float32.
        columns: the carried columns.
        read_row: seconds to read a row where the input lies.
    """

    vectors: np.ndarray
    rows: np.ndarray
    columns: pa.Table
    read_row: float


def read_sample(settings: Settings, manifest: Manifest) -> Sample:
    """The first valid rows of a few files, spread evenly over the listing.

    Raises:
        InputError: an invalid row (unless quarantined), or no valid ones.
    """
    files = input_files(settings)
    holding = [file["file"] for file in manifest.files if file["rows"]]
    places = np.linspace(0, len(holding) - 1, min(_SAMPLE_FILES, len(holding)))
    vectors, rows, columns = [], [], []
    taken, seconds = 0, 0.0
    for place in places:
        started = time.perf_counter()
        name, share = holding[int(place)], _SAMPLE_BYTES // len(places)
        batch = next(files.read(name, manifest.dim, batch_bytes=share))
        seconds += time.perf_counter() - started
        taken += len(batch.ids) + len(batch.rejected)
        unit, good, rejected = normalise(batch)
        if rejected and settings.source.on_invalid == "fail":
            raise_invalid(rejected[0])
        vectors.append(batch.vectors[good])
        rows.append(unit)
        columns.append(batch.metadata.take(pa.array(good)))
    if not any(map(len, rows)):
        raise InputError(
            f"the first rows of {holding[0]} and of {len(places) - 1} more files hold no valid "
            "embedding; look at them with on_invalid set to fail"
        )
    return Sample(
        np.concatenate(vectors), np.concatenate(rows), pa.concat_tables(columns), seconds / taken
    )


def measure_rates(settings: Settings, sample: Sample, listing_s: float) -> Rates:
    """Measure `Rates` in some seconds; of few rows they say little.

    Args:
        settings: of the dataset.
        sample: rows of the input.
        listing_s: seconds that it took to list the input.
    """
    rates = _measure_trials(settings, sample, _measure_arithmetic(settings, sample.rows))
    return replace(rates, fixed=rates.fixed + listing_s)


def _measure_arithmetic(settings: Settings, x: np.ndarray) -> Rates:
    """The rates of the device, on unit rows."""
    xp, clustering = compute_module(settings), settings.clustering
    budget = compute_budget(settings) // 4
    rows = xp.asarray(x[:_FIT_ROWS])
    clusters = max(1, len(rows) // _FIT_ROWS_PER_CENTROID)

    def fit() -> Any:
        return kmeans_function(settings)(
            rows,
            clusters,
            seed=clustering.random_state,
            max_iter=clustering.max_iter,
            tol=clustering.tol,
            memory_budget=budget,
        )

    def assign() -> np.ndarray:
        return to_host(nearest_centroids(rows, fitted.centroids, memory_budget=budget).label)

    def compare() -> np.ndarray:
        found = best_earlier_match(
            xp.asarray(x[:n]), precision=settings.compute.precision, memory_budget=2 * budget
        )
        return to_host(found.score)

    fit_s, fitted = _fastest(fit)
    assign_s, label = _fastest(assign)
    n = min(_FIRST_ROWS, len(x))
    while (compare_s := _fastest(compare)[0]) < _ENOUGH_S and n < len(x):
        n = min(2 * n, len(x))
    share = np.bincount(label, minlength=clusters) / len(label)
    return Rates(
        fit=fit_s / (len(rows) * clusters),
        assign=assign_s / (len(rows) * clusters),
        compare=compare_s / (n * n / 2),
        squares=float(clusters * (share * share).sum()),
        largest=float(clusters * share.max()),
    )


def _fastest(work: Callable[[], _T]) -> tuple[float, _T]:
    seconds = []
    for _ in range(_CALLS):
        started = time.perf_counter()
        done = work()
        seconds.append(time.perf_counter() - started)
    return min(seconds), done


def _measure_trials(settings: Settings, sample: Sample, rates: Rates) -> Rates:
    """Seconds of the stages themselves beside their arithmetic: of a row, of a file, and once.

    Three small runs tell them apart: few rows, more rows, and few in many clusters.
    """
    more = min(_TRIAL_ROWS, len(sample.rows))
    few = max(1, more // 8)
    clusters = max(1, min(_TRIAL_CLUSTERS, few // 4))
    pair = min(2, few)
    with tempfile.TemporaryDirectory(prefix="dedup-assets-trial-") as folder:

        def trial(rows: int, k: int) -> _Trial:
            places = [Path(tempfile.mkdtemp(dir=folder)) for _ in range(_TRIALS)]
            tried = [
                _try(_trial_settings(settings, place, k), sample, rows, rates) for place in places
            ]
            return min(tried, key=lambda one: one.seconds)

        small, large, cut = trial(few, pair), trial(more, pair), trial(few, clusters)
    file = max(0.0, cut.seconds - small.seconds) / max(1, 2 * (clusters - pair))
    row = max(0.0, large.seconds - small.seconds) / max(1, more - few)
    # A trial's own files lie in memory; those of the input may be far away.
    away = max(0.0, sample.read_row - large.read_row)
    return replace(
        rates,
        missed=large.missed / more,
        row=row + _PASSES * away,
        file=file,
        fixed=max(0.0, small.seconds - few * row - 2 * pair * file),
    )


@dataclass(frozen=True)
class _Trial:
    """Seconds of the stages up to the scores, less their arithmetic; of a row in the search for
    what clustering misses, and to read one."""

    seconds: float
    missed: float
    read_row: float


def _try(settings: Settings, sample: Sample, rows: int, rates: Rates) -> _Trial:
    _write_input(settings, sample, rows)
    store = settings.storage.open_output()
    keys = list(cluster_ranges(settings))
    started = time.perf_counter()
    manifest = list_embeddings(settings, store)
    fit_centroids(settings, store, manifest, refit=True)
    shuffle(Snapshot(settings, store), keys)
    score(Snapshot(settings, store), keys)
    scored = time.perf_counter()
    estimate_missed(Snapshot(settings, store))
    missed = time.perf_counter() - scored
    files = input_files(settings)
    reading = time.perf_counter()
    next(files.read(files.names()[0], manifest.dim))
    read_row = (time.perf_counter() - reading) / rows
    work = Workload(rows, manifest.dim, lambda _: 0, lambda _: 1)  # one iteration fits no rows
    arithmetic = predict(work, rates, settings.clustering.n_clusters)
    seconds = scored - started - arithmetic.assign - arithmetic.compare
    return _Trial(max(0.0, seconds), missed, read_row)


def _trial_settings(settings: Settings, folder: Path, clusters: int) -> Settings:
    return settings.replace(
        video_dir=None,
        input_embeddings_path=str(folder / "input"),
        input_filetype=None,
        output_path=str(folder / "output"),
        clips_path=None,
        n_clusters=clusters,
        clusters_per_partition=None,
        fit_data_fraction=None,
        max_iter=1,
    )


def _write_input(settings: Settings, sample: Sample, rows: int) -> None:
    folder = Path(settings.input_path)
    folder.mkdir(parents=True)
    vectors = sample.vectors[:rows]
    type_ = pa.list_(pa.from_numpy_dtype(vectors.dtype))
    table = sample.columns.slice(0, rows)
    # Ids of its own: whether those of the input repeat is for the run to find out.
    table = table.append_column(
        settings.source.id_field, pa.array([f"{i:032d}" for i in range(rows)])
    )
    table = table.append_column(settings.source.embedding_field, vectors_to_column(vectors, type_))
    pq.write_table(table, folder / "part-0.parquet")
