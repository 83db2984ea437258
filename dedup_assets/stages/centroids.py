"""Fit k-means on a seeded sample of the rows."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from dedup_assets.compute.arrays import to_device, to_host
from dedup_assets.compute.kmeans import KMeansFit, fit
from dedup_assets.compute.normalize import REASONS, VALID, unit_rows
from dedup_assets.compute.threads import thread_count
from dedup_assets.engine import Common, run_tasks, session
from dedup_assets.errors import InputError, StaleError, shown
from dedup_assets.progress import Advance, track
from dedup_assets.settings import Settings
from dedup_assets.stages.embeddings import check_unchanged, input_files
from dedup_assets.stages.machine import compute_budget, compute_module, engine_of
from dedup_assets.stages.memory import shares
from dedup_assets.stages.readahead import read_ahead, readers_for
from dedup_assets.state.centroids import (
    Centroids,
    centroids_fingerprint,
    load_centroids,
    write_centroids,
)
from dedup_assets.state.manifest import Manifest
from dedup_assets.store.arrow import hash_ids, release_unused
from dedup_assets.store.filesystem import Store
from dedup_assets.store.inputs import Batch, InputFiles, RejectedRow

ROWS_PER_CENTROID = 256
FEWEST_ROWS_PER_CENTROID = 39


def fit_centroids(settings: Settings, store: Store, manifest: Manifest, refit: bool) -> Centroids:
    """Fit and write centroids, unless current ones are there.

    New input does not make centroids stale; other k-means settings, or ``refit``, do.

    Raises:
        InputError: an invalid row in the sample (unless quarantined), or too few valid rows.
    """
    if not refit:
        try:
            return load_centroids(settings, store, manifest.dim)
        except StaleError:
            pass
    engine = engine_of(settings)
    with session(engine):
        chosen = _choose(settings, manifest)
        [[fitted]] = run_tasks(
            engine,
            _fit,
            _Fitting(settings, manifest.dim),
            [chosen],
            lambda units: None,
            weight=lambda chosen: 0,
        )
    info: dict[str, Any] = {
        "fingerprint": centroids_fingerprint(settings, manifest.dim),
        "input": manifest.fingerprint,
        "input_rows": manifest.rows,
        "sample_rows": fitted.rows,
        "inertia": fitted.inertia,
        "n_iter": fitted.n_iter,
    }
    return write_centroids(store, fitted.centroids, info)


@dataclass(frozen=True)
class _Chosen:
    """The rows of the sample.

    Attributes:
        hashes: of their ids, of shape (n,), uint64, ascending.
        rows: of each file that has some, its name and their numbers in it, ascending.
    """

    hashes: np.ndarray
    rows: list[tuple[str, np.ndarray]]


@dataclass(frozen=True)
class _Fitted:
    """Result of a fit: `KMeansFit` on the host, and the rows of the sample that were valid."""

    centroids: np.ndarray
    inertia: float
    n_iter: int
    rows: int


@dataclass(frozen=True)
class _Fitting(Common):
    """What choosing the sample and fitting on it have in common."""

    settings: Settings
    dim: int

    @cached_property
    def files(self) -> InputFiles:
        return input_files(self.settings)


def _fit(common: _Fitting, tasks: Iterable[_Chosen], advance: Advance) -> Iterator[_Fitted]:
    """Read a sample and fit on it: one task, since a fit is done on one device."""
    settings, clusters = common.settings, common.settings.clustering.n_clusters
    for chosen in tasks:
        sample = _read_sample(common, chosen)
        if len(sample) < clusters:
            raise InputError(
                f"n_clusters={clusters} must be at most the number of rows it is fitted "
                f"on, and the sample has {len(sample)} valid rows; lower n_clusters, or raise "
                "fit_data_fraction or memory_budget"
            )
        with track("fitting k-means", settings.clustering.max_iter, "iterations") as on_iteration:
            result = kmeans_function(settings)(
                to_device(compute_module(settings), sample),
                clusters,
                seed=settings.clustering.random_state,
                max_iter=settings.clustering.max_iter,
                tol=settings.clustering.tol,
                memory_budget=compute_budget(settings) // 4,
                on_iteration=lambda _, tell=on_iteration: tell(1),
            )
        yield _Fitted(to_host(result.centroids), result.inertia, result.n_iter, len(sample))


def kmeans_function(settings: Settings) -> Callable[..., KMeansFit]:
    """The configured implementation of `dedup_assets.compute.kmeans.fit`."""
    if settings.clustering.kmeans == "lloyd":
        return fit
    from dedup_assets.compute.kmeans_cuml import fit_cuml

    return fit_cuml


def raise_invalid(row: RejectedRow) -> None:
    """Fail on an invalid row, naming it.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"row {row.row} of {row.file} (id {shown(row.id)}) is invalid: {row.reason}; fix it, or "
        "set on_invalid to quarantine to set such rows aside"
    )


def normalise(batch: Batch) -> tuple[np.ndarray, np.ndarray, list[RejectedRow]]:
    """Unit rows of a batch, the positions that are valid, and everything rejected in it."""
    unit = unit_rows(batch.vectors)
    bad = np.flatnonzero(unit.status != VALID)
    good = np.flatnonzero(unit.status == VALID)
    rejected = [
        RejectedRow(batch.ids[int(i)].as_py(), *batch.place(int(i)), REASONS[int(unit.status[i])])
        for i in bad
    ]
    rows = unit.rows if len(bad) == 0 else unit.rows[good]
    return rows, good, sorted([*batch.rejected, *rejected], key=lambda r: (r.row, r.file))


def sample_size(settings: Settings, manifest: Manifest) -> int:
    """Rows to fit on: at most 256 a centroid, the fraction, and half the memory budget."""
    size = min(manifest.rows, ROWS_PER_CENTROID * settings.clustering.n_clusters)
    if settings.clustering.fit_data_fraction is not None:
        size = min(size, int(np.ceil(settings.clustering.fit_data_fraction * manifest.rows)))
    return min(size, settings.compute.memory_budget // 2 // (4 * manifest.dim))


def _choose(settings: Settings, manifest: Manifest) -> _Chosen:
    """The rows whose hashed ids are lowest.

    So the sample depends on ids and vectors only, not on files or their order.
    """
    limit = _hash_limit(sample_size(settings, manifest), manifest.rows)
    hashes = [np.empty(0, np.uint64)]
    chosen: dict[str, np.ndarray] = {}
    with track("choosing rows", manifest.rows, "rows") as advance:
        for finished in run_tasks(
            engine_of(settings),
            _draw,
            _Drawing(settings, limit),
            manifest.files,
            advance,
            weight=lambda file: int(file["rows"]),
            computes=False,
        ):
            for name, drawn, rows in finished:
                if len(rows):
                    hashes.append(drawn)
                    chosen[name] = rows
    return _Chosen(np.sort(np.concatenate(hashes)), sorted(chosen.items()))


def _read_sample(common: _Fitting, chosen: _Chosen) -> np.ndarray:
    """The rows that were chosen, in the order of the hash; (m, d) float32."""
    settings, order = common.settings, chosen.hashes
    sample = np.empty((len(order), common.dim), dtype=np.float32)
    filled = np.zeros(len(order), dtype=bool)
    limit = order[-1] if len(order) else np.uint64(0)
    share = shares(settings.compute.memory_budget)

    def read(source: tuple[str, np.ndarray]) -> Iterable[Batch]:
        name, rows = source
        return common.files.read(
            name, common.dim, columns=False, batch_bytes=share.batch, only=rows
        )

    with (
        track("sampling", len(order), "rows") as advance,
        read_ahead(
            chosen.rows,
            read,
            lambda batch: batch.nbytes,
            threads=readers_for(thread_count()),
            budget=share.read_ahead,
            expected=share.batch,
        ) as sources,
    ):
        for batches in sources:
            for batch in batches:
                if batch.rejected and settings.source.on_invalid == "fail":
                    raise_invalid(batch.rejected[0])
                h = hash_ids(batch.ids, settings.clustering.random_state)
                hit = np.flatnonzero(h <= limit)
                rows, good, rejected = normalise(_rows_of(batch, hit))
                if rejected and settings.source.on_invalid == "fail":
                    raise_invalid(rejected[0])
                place = np.searchsorted(order, h[hit][good])
                sample[place] = rows
                filled[place] = True
                advance(len(hit))
                del batch, rows  # not held while the next one is waited for
    release_unused()  # the fit needs it
    return _filled_rows(sample, filled)


def _filled_rows(sample: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """The filled rows, moved to the front in place: the sample is too large to be copied."""
    kept = np.flatnonzero(filled)
    if len(kept) < len(sample):
        for start in range(0, len(kept), 4096):
            rows = kept[start : start + 4096]
            sample[start : start + len(rows)] = sample[rows]
    return sample[: len(kept)]


@dataclass(frozen=True)
class _Drawing(Common):
    """What choosing the sample asks of each file."""

    settings: Settings
    limit: np.uint64

    @cached_property
    def files(self) -> InputFiles:
        return input_files(self.settings)


def _draw(
    common: _Drawing, tasks: Iterable[dict[str, Any]], advance: Advance
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Of each file its name, the hashes of its ids up to the limit, and the rows that have them."""
    for file in tasks:
        check_unchanged(common.files, file)
        hashes, rows = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
        first = 0
        for ids in common.files.read_ids(file["file"]):
            present = np.flatnonzero(ids.is_valid().to_numpy(zero_copy_only=False))
            h = hash_ids(ids.drop_null(), common.settings.clustering.random_state)
            hit = h <= common.limit
            hashes.append(h[hit])
            rows.append(present[hit] + first)
            first += len(ids)
        advance(file["rows"])
        yield file["file"], np.concatenate(hashes), np.concatenate(rows)


def _rows_of(batch: Batch, rows: np.ndarray) -> Batch:
    """Some rows of a batch, without its carried columns."""
    return Batch(
        batch.file,
        batch.ids.take(pa.array(rows)),
        batch.vectors[rows],
        batch.metadata.select([]),
        batch.rows[rows],
        [],
        None if batch.files is None else [batch.files[row] for row in rows],
    )


def _hash_limit(size: int, rows: int) -> np.uint64:
    return np.uint64(2**64 - 1 if size >= rows else size * 2**64 // rows)
