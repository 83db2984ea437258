"""Centroids stay when input is added; a check says when they no longer fit it."""

from pathlib import Path

import numpy as np

from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.verify import verify_fit
from dedup_assets.state.snapshot import Snapshot
from dedup_assets_tests.conftest import make_settings, run_stages, unit, write_inputs, write_parquet


def test_rows_that_the_centroids_were_fitted_on_pass(tmp_path: Path, rng: np.random.Generator):
    write_inputs(tmp_path / "in", list(range(80)), unit(rng.standard_normal((80, 8))), files=2)
    results = run_stages(make_settings(tmp_path, n_clusters=5))
    verdict = verify_fit(Snapshot(results.settings, results.store))
    assert verdict.passed
    assert np.isclose(verdict.numbers["now"], verdict.numbers["at_fit"], rtol=1e-4)


def test_copies_of_centroids_pass(tmp_path: Path):
    write_inputs(tmp_path / "in", list(range(6)), unit(np.eye(3)[[0, 1, 2, 0, 1, 2]]))
    results = run_stages(make_settings(tmp_path, n_clusters=3))
    assert verify_fit(Snapshot(results.settings, results.store)).passed


def test_new_input_far_from_the_centroids_fails_until_they_are_fitted_again(
    tmp_path: Path, rng: np.random.Generator
):
    near = unit(np.eye(8)[0] + 0.05 * rng.standard_normal((60, 8)))
    write_inputs(tmp_path / "in", list(range(60)), near)
    settings = make_settings(tmp_path, n_clusters=3)
    first = run_stages(settings)
    far = unit(-np.eye(8)[:1] + 0.5 * rng.standard_normal((60, 8)))
    write_parquet(tmp_path / "in" / "later.parquet", list(range(60, 120)), far)
    grown = run_stages(settings)
    assert grown.centroids.content == first.centroids.content
    verdict = verify_fit(Snapshot(settings, grown.store))
    assert not verdict.passed
    assert "refit" in verdict.description
    fitted = fit_centroids(settings, grown.store, grown.manifest, refit=True)
    assert fitted.content != first.centroids.content
    assert verify_fit(Snapshot(settings, run_stages(settings).store)).passed
