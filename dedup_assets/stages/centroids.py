"""Fit k-means on a seeded sample of the rows."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from dedup_assets.compute.arrays import to_device, to_host
from dedup_assets.compute.kmeans import KMeansFit, fit
from dedup_assets.compute.normalize import REASONS, VALID, unit_rows
from dedup_assets.errors import InputError, StaleError, shown
from dedup_assets.progress import track
from dedup_assets.settings import Settings
from dedup_assets.stages.embeddings import check_unchanged, input_files
from dedup_assets.stages.machine import compute_budget, compute_module
from dedup_assets.stages.memory import shares
from dedup_assets.stages.readahead import READERS, read_ahead
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
    sample = _sample(settings, manifest)
    clusters = settings.clustering.n_clusters
    if len(sample) < clusters:
        raise InputError(
            f"n_clusters={clusters} must be at most the number of rows it is fitted "
            f"on, and the sample has {len(sample)} valid rows; lower n_clusters, or raise "
            "fit_data_fraction or memory_budget"
        )
    with track("fitting k-means", settings.clustering.max_iter, "iterations") as advance:
        result = kmeans_function(settings)(
            to_device(compute_module(settings), sample),
            settings.clustering.n_clusters,
            seed=settings.clustering.random_state,
            max_iter=settings.clustering.max_iter,
            tol=settings.clustering.tol,
            memory_budget=compute_budget(settings) // 4,
            on_iteration=lambda _: advance(1),
        )
    info: dict[str, Any] = {
        "fingerprint": centroids_fingerprint(settings, manifest.dim),
        "input": manifest.fingerprint,
        "input_rows": manifest.rows,
        "sample_rows": len(sample),
        "inertia": result.inertia,
        "n_iter": result.n_iter,
    }
    return write_centroids(store, to_host(result.centroids), info)


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


def _sample(settings: Settings, manifest: Manifest) -> np.ndarray:
    """The rows whose hashed ids are lowest, in the order of the hash; (m, d) float32.

    So the sample depends on ids and vectors only, not on files or their order.
    """
    files = input_files(settings)
    limit = _hash_limit(sample_size(settings, manifest), manifest.rows)
    hashes, chosen = [np.empty(0, np.uint64)], []
    with track("choosing rows", manifest.rows, "rows") as advance:
        for file in manifest.files:
            check_unchanged(files, file)
            drawn, rows = _draw(files, file["file"], settings.clustering.random_state, limit)
            advance(file["rows"])
            if len(rows):
                hashes.append(drawn)
                chosen.append((file["file"], rows))
    order = np.sort(np.concatenate(hashes))
    sample = np.empty((len(order), manifest.dim), dtype=np.float32)
    filled = np.zeros(len(order), dtype=bool)
    share = shares(settings.compute.memory_budget)

    def read(source: tuple[str, np.ndarray]) -> Iterable[Batch]:
        name, rows = source
        return files.read(name, manifest.dim, columns=False, batch_bytes=share.batch, only=rows)

    with (
        track("sampling", len(order), "rows") as advance,
        read_ahead(
            chosen,
            read,
            lambda batch: batch.nbytes,
            threads=READERS,
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


def _draw(
    files: InputFiles, name: str, seed: int, limit: np.uint64
) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the ids of a file up to the limit, and the rows that have them."""
    hashes, rows = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    first = 0
    for ids in files.read_ids(name):
        present = np.flatnonzero(ids.is_valid().to_numpy(zero_copy_only=False))
        h = hash_ids(ids.drop_null(), seed)
        hit = h <= limit
        hashes.append(h[hit])
        rows.append(present[hit] + first)
        first += len(ids)
    return np.concatenate(hashes), np.concatenate(rows)


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
