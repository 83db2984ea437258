"""A few rows of the input through the stages themselves, to time what is no arithmetic."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dedup_assets.compute.cost import ComputeRates, Rates, StepRates, Workload, predict
from dedup_assets.errors import InputError
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import fit_centroids, normalise, raise_invalid, sample_size
from dedup_assets.stages.embeddings import input_files, list_embeddings
from dedup_assets.stages.missed import estimate_missed
from dedup_assets.stages.partitioning import shuffle
from dedup_assets.stages.scores import score
from dedup_assets.state.manifest import Manifest
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store.arrow import vectors_to_column

_SAMPLE_BYTES = 64 << 20
_SAMPLE_FILES = 4
_ROWS, _CLUSTERS = 8192, 32
_TURNS = 2
_READING = ("fit", "assign")  # the steps that read all vectors of the input

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


def measure_steps(
    settings: Settings, sample: Sample, compute: ComputeRates, survey_s: float
) -> Rates:
    """Seconds of the steps beside their arithmetic: of a row, of a cluster, and once.

    Three small runs tell them apart: few rows in one cluster and in many, and more rows, in two,
    since a single cluster misses nothing and no search for that is made.
    """
    more = min(_ROWS, len(sample.rows))
    few = max(1, more // 8)
    clusters = max(1, min(_CLUSTERS, few // 4))
    with tempfile.TemporaryDirectory(prefix="dedup-assets-trial-") as folder:
        shapes = ((few, 1), (more, min(2, more)), (few, clusters))
        runs = [
            [
                _Run(_settings(settings, Path(folder, f"{turn}-{number}"), k), sample, rows)
                for turn in range(_TURNS)
            ]
            for number, (rows, k) in enumerate(shapes)
        ]
        one, many, cut = (_fastest([run.seconds(compute) for run in turns]) for turns in runs)
        # The trial's own files lie in memory; those of the input may be far away.
        extra = max(0.0, sample.read_row - min(run.read_row for run in runs[1]))
    steps = {}
    for step in ("fit", "assign", "compare", "rest"):
        cluster = max(0.0, cut[step] - one[step]) / max(1, clusters - 1)
        row = max(0.0, many[step] - one[step] - cluster) / max(1, more - few)
        fixed = max(0.0, one[step] - few * row - cluster)
        steps[step] = StepRates(row, cluster, fixed)
    for step in _READING:
        steps[step] = replace(steps[step], row=steps[step].row + extra)
    steps["fit"] = replace(steps["fit"], cluster=0.0)  # what remains there is rounding and noise
    steps["rest"] = replace(steps["rest"], fixed=steps["rest"].fixed + survey_s)
    return Rates(compute, **steps, missed_row=many["missed"] / more)


class _Run:
    """The stages up to the scores, on some rows of a sample."""

    def __init__(self, settings: Settings, sample: Sample, rows: int) -> None:
        self._settings = settings
        self._rows = rows
        self._dim = sample.rows.shape[1]
        self._taken = dict.fromkeys(("fit", "assign", "compare", "rest", "missed"), 0.0)
        _write_input(settings, sample, rows)
        store = settings.storage.open_output()
        keys = list(cluster_ranges(settings))
        manifest = self._timed("rest", lambda: list_embeddings(settings, store))
        self._fit_rows = sample_size(settings, manifest)
        self._timed("fit", lambda: fit_centroids(settings, store, manifest, refit=True))
        self._timed("assign", lambda: shuffle(Snapshot(settings, store), keys))
        self._timed("compare", lambda: score(Snapshot(settings, store), keys))
        self._timed("rest", lambda: Snapshot(settings, store).ledgers)
        self._timed("missed", lambda: estimate_missed(Snapshot(settings, store)))
        files = input_files(settings)
        started = time.perf_counter()
        next(files.read(files.names()[0], self._dim))
        self.read_row = (time.perf_counter() - started) / rows

    def _timed(self, step: str, work: Callable[[], _T]) -> _T:
        started = time.perf_counter()
        done = work()
        self._taken[step] += time.perf_counter() - started
        return done

    def seconds(self, compute: ComputeRates) -> dict[str, float]:
        """Of each step, less its arithmetic."""
        work = Workload(self._rows, self._dim, lambda _: self._fit_rows, lambda _: 1)
        nothing = Rates(compute, StepRates(), StepRates(), StepRates(), StepRates())
        arithmetic = predict(
            work, nothing, self._settings.clustering.n_clusters, self._settings.clustering.max_iter
        )
        return {k: max(0.0, v - getattr(arithmetic, k, 0.0)) for k, v in self._taken.items()}


def _fastest(runs: list[dict[str, float]]) -> dict[str, float]:
    return {step: min(run[step] for run in runs) for step in runs[0]}


def _settings(settings: Settings, folder: Path, clusters: int) -> Settings:
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
