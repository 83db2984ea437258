"""k-means is fitted on a sample that is a function of ids and vectors."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dedup_assets.stages import centroids
from dedup_assets.stages.centroids import fit_centroids, sample_size
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.state.centroids import load_centroids
from dedup_assets.store import layout
from dedup_assets.store.arrow import hash_ids
from dedup_assets.store.filesystem import Store
from dedup_assets.store.inputs import InputFiles
from dedup_assets_tests.conftest import make_settings, write_inputs

N = 2000


@pytest.fixture
def rows(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(N, 4)).astype(np.float32)


def fitted(path: Path, order: np.ndarray, rows: np.ndarray, files: int, **options: Any) -> Any:
    write_inputs(path / "in", [f"v{i}" for i in order], rows[order], files=files)
    settings = make_settings(path, n_clusters=2, **options)
    store = Store(settings.storage.output_path)
    return fit_centroids(settings, store, list_embeddings(settings, store), refit=False)


@pytest.mark.parametrize("options", [{}, {"fit_data_fraction": 0.1}], ids=["cap", "fraction"])
def test_centroids_do_not_depend_on_files_or_their_order(
    tmp_path: Path, rows: np.ndarray, rng: np.random.Generator, options: Any
):
    first = fitted(tmp_path / "a", np.arange(N), rows, 1, **options)
    second = fitted(tmp_path / "b", rng.permutation(N), rows, 7, **options)
    assert first.values.tobytes() == second.values.tobytes()
    assert first.content == second.content
    assert first.info["sample_rows"] < N


@pytest.mark.parametrize("files", [1, 400])
@pytest.mark.parametrize("row_group_size", [1, 8, None])
def test_row_groups_that_are_left_out_do_not_change_the_sample(
    tmp_path: Path,
    rows: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    files: int,
    row_group_size: int | None,
):
    """One row of twenty: most groups and files hold none of them."""
    first = fitted(tmp_path / "a", np.arange(N), rows, 1, fit_data_fraction=0.05)
    read: list[int] = []
    real = InputFiles.read

    def counted(*arguments: Any, **options: Any) -> Any:
        for batch in real(*arguments, **options):
            read.append(len(batch.ids))
            yield batch

    monkeypatch.setattr(InputFiles, "read", counted)
    write_inputs(
        tmp_path / "b" / "in", [f"v{i}" for i in range(N)], rows, files=files,
        row_group_size=row_group_size,
    )  # fmt: skip
    settings = make_settings(tmp_path / "b", n_clusters=2, fit_data_fraction=0.05)
    store = Store(settings.storage.output_path)
    second = fit_centroids(settings, store, list_embeddings(settings, store), refit=False)
    assert second.values.tobytes() == first.values.tobytes()
    sampled = first.info["sample_rows"]
    largest = min(row_group_size or N, N // files)
    assert sampled <= sum(read) <= min(N, sampled * largest)


def test_rows_are_drawn_by_their_number_in_the_file_nulls_counted(tmp_path: Path):
    ids = [None if i % 7 in (0, 3) else f"v{i}" for i in range(300)]
    write_inputs(tmp_path, ids, np.ones((300, 2)), row_group_size=4)
    limit = np.uint64(2**62)
    settings = make_settings(tmp_path, input_embeddings_path=str(tmp_path), n_clusters=1)
    settings = settings.replace(on_invalid="quarantine")
    manifest = list_embeddings(settings, Store(str(tmp_path / "out")))
    common = centroids._Drawing(settings, limit)
    [(_, drawn, found)] = centroids._draw(common, manifest.files, lambda units: None)
    hashes = {i: int(hash_ids(pa.array([v]), 42)[0]) for i, v in enumerate(ids) if v is not None}
    expected = [i for i, h in hashes.items() if h <= limit]
    assert 0 < len(expected) < 200
    assert found.tolist() == expected
    assert drawn.tolist() == [hashes[i] for i in expected]


def test_invalid_rows_of_the_sample_leave_no_gap(tmp_path: Path, rows: np.ndarray):
    """Rows that were set aside are closed up in place, over more than one step."""
    sample = np.arange(20_000.0, dtype=np.float32).reshape(10_000, 2)
    filled = np.ones(10_000, dtype=bool)
    filled[[0, 3, 4_095, 4_096, 9_998]] = False
    expected = sample[filled].copy()
    np.testing.assert_array_equal(centroids._filled_rows(sample, filled), expected)
    whole = np.ones(10_000, dtype=bool)
    assert np.shares_memory(centroids._filled_rows(sample, whole), sample)


def test_another_seed_draws_another_sample(tmp_path: Path, rows: np.ndarray):
    first, second = (
        fitted(tmp_path / str(seed), np.arange(N), rows, 1, random_state=seed) for seed in (1, 2)
    )
    assert first.info["sample_rows"] != second.info["sample_rows"] or (
        first.values.tobytes() != second.values.tobytes()
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"n_clusters": 2}, 512),
        ({"n_clusters": 100}, N),
        ({"n_clusters": 100, "fit_data_fraction": 0.5}, 1000),
        ({"n_clusters": 100, "fit_data_fraction": 0.0001}, 1),
        ({"n_clusters": 100, "memory_budget": 32_000}, 1000),
    ],
)
def test_sample_is_bounded_by_rows_centroids_fraction_and_memory(
    tmp_path: Path, rows: np.ndarray, options: Any, expected: int
):
    write_inputs(tmp_path / "in", range(N), rows)
    settings = make_settings(tmp_path, **options)
    store = Store(settings.storage.output_path)
    manifest = list_embeddings(settings, store)
    assert sample_size(settings, manifest) == expected
    if expected > 500:
        found = fit_centroids(settings, store, manifest, refit=False)
        # The hash draws each row by chance; five standard deviations are 112 of 512 to 1000.
        assert abs(found.info["sample_rows"] - expected) <= (0 if expected == N else 112)


def test_new_input_does_not_make_centroids_stale(tmp_path: Path, rows: np.ndarray):
    first = fitted(tmp_path, np.arange(N), rows, 1)
    write_inputs(tmp_path / "in", [f"v{i}" for i in range(N + 10)], rows[np.arange(N + 10) % N])
    settings = make_settings(tmp_path, n_clusters=2)
    store = Store(settings.storage.output_path)
    again = fit_centroids(settings, store, list_embeddings(settings, store), refit=False)
    assert again.reused
    assert again.content == first.content


def test_what_is_read_is_what_was_fitted(tmp_path: Path, rows: np.ndarray):
    first = fitted(tmp_path, np.arange(N), rows, 2)
    settings = make_settings(tmp_path, n_clusters=2)
    store = Store(settings.storage.output_path)
    found = load_centroids(settings, store, list_embeddings(settings, store).dim)
    np.testing.assert_array_equal(found.values, first.values)
    np.testing.assert_array_equal(np.load(store.path(layout.CENTROIDS)), first.values)
    assert found.values.dtype == np.float32
    assert found.info == first.info
