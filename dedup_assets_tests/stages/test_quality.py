"""What the checks of a data set and of its clusters say, and when they warn."""

from pathlib import Path

import numpy as np
import pytest

from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.quality import verify_balance, verify_fit, verify_steady, verify_valid
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


def test_rows_set_aside_are_counted_and_the_first_is_named(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    rows = rng.standard_normal((40, 8))
    rows[17] = 0
    rows[31] = np.nan
    write_inputs(tmp_path / "in", [f"c-{i}" for i in range(40)], rows, files=2)
    results = run_stages(make_settings(tmp_path, n_clusters=2, on_invalid="quarantine"))
    verdict = verify_valid(Snapshot(results.settings, results.store))
    assert not verdict.passed
    assert verdict.description.startswith("2 of 40 rows were set aside as invalid; the first is")
    assert "'c-17': " in verdict.description
    assert "row 17 of 000.parquet" in verdict.description
    assert verdict.numbers == {"rejected": 2, "input": 40}


def test_valid_rows_pass(tmp_path: Path, rng: np.random.Generator) -> None:
    write_inputs(tmp_path / "in", list(range(40)), rng.standard_normal((40, 8)))
    results = run_stages(make_settings(tmp_path, n_clusters=2))
    assert verify_valid(Snapshot(results.settings, results.store)).passed


def test_balance_is_the_comparisons_against_those_of_equal_clusters(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Of 60 rows in 3 clusters, 56 in one: (56^2 + 2^2 + 2^2) / (3 * 20^2) = 2.62."""
    sides = np.eye(8)[[0] * 56 + [1] * 2 + [2] * 2]
    write_inputs(tmp_path / "in", list(range(60)), sides + 0.01 * rng.standard_normal((60, 8)))
    settings = make_settings(tmp_path, n_clusters=3)
    results = run_stages(settings)
    verdict = verify_balance(Snapshot(settings, results.store))
    assert verdict.passed
    assert verdict.numbers["times_equal"] == pytest.approx(3144 / 1200)
    assert (verdict.numbers["largest"], verdict.numbers["median"]) == (56, 2)
    assert verdict.numbers["share_of_largest"] == pytest.approx(56**2 / 3144)
    limited = verify_balance(Snapshot(settings.replace(balance_limit=2.6), results.store))
    assert not limited.passed
    assert "raise n_clusters, or raise balance_limit" in limited.description


@pytest.mark.parametrize(
    ("shares", "passed"),
    [
        ([], True),
        ([0.3], True),
        ([0.2, 0.1], True),
        ([0.1, 0.2], True),
        ([0.21, 0.1], False),
        ([0.1, 0.21], False),
        ([0.0, 0.0], True),
        ([0.001, 0.0], False),
        ([0.1, 0.1, 0.9], True),
    ],
)
def test_share_removed_may_move_by_the_factor(
    tmp_path: Path, shares: list[float], passed: bool
) -> None:
    settings = make_settings(tmp_path, n_clusters=1, removed_factor=2)
    verdict = verify_steady(settings, "0.01", shares)
    assert verdict.passed == passed
    assert ("removed_factor 2" in verdict.description) != passed
