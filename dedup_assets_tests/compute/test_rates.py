"""Rates come from calls of the product's own functions; how long those take is never asserted."""

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dedup_assets.compute import rates
from dedup_assets.compute.cost import ComputeRates
from dedup_assets.compute.kmeans import KMeansFit, fit
from dedup_assets.compute.rates import FitOptions, measure_rates, split_compare
from dedup_assets_tests.conftest import unit

OPTIONS = FitOptions(fit, seed=0, max_iter=20, tol=1e-4, memory_budget=1 << 28)


def measured(x: np.ndarray, **options: Any) -> ComputeRates:
    given = replace(OPTIONS, **options)
    return measure_rates(x, np, options=given, precision="exact", memory_budget=1 << 28)


@pytest.mark.parametrize("n", [1, 2, 5, 64, 300, 2500])
def test_rates_of_any_number_of_rows_are_finite_and_not_negative(rng: np.random.Generator, n: int):
    found = measured(unit(rng.normal(size=(n, 6))))
    numbers = [v for v in dataclasses.astuple(found) if isinstance(v, int | float)]
    assert all(np.isfinite(numbers))
    assert min(numbers) >= 0
    assert found.compare_pair > 0


def test_iterations_are_those_of_a_fit_that_may_go_on(rng: np.random.Generator):
    x = unit(rng.normal(size=(1024, 4)))
    assert measured(x, tol=0.0, max_iter=6).iterations == 6
    assert measured(x, tol=1e6).iterations == 1


def test_a_fit_that_reports_once_is_taken_to_be_all_iterations(rng: np.random.Generator):
    def silent(x: Any, n_clusters: int, *, on_iteration: Any, **options: Any) -> KMeansFit:
        found = fit(x, n_clusters, **options)
        on_iteration(found.n_iter)
        return found

    x = unit(rng.normal(size=(1024, 4)))
    found = measured(x, fit=silent, tol=0.0, max_iter=6)
    assert (found.iterations, found.fit_seed) == (6, 0.0)
    assert found.fit_row + found.fit_product > 0


def test_spreads_see_uneven_groups(rng: np.random.Generator):
    """Two groups of 900 and 100 rows: 2 (0.81 + 0.01) = 1.64, and 2 * 0.9."""
    centres = np.eye(2)[np.repeat([0, 1], [900, 100])]
    x = unit(centres + 0.01 * rng.normal(size=(1000, 2)))[rng.permutation(1000)]
    spread = rates._Fit(x, 500, OPTIONS).spread()
    assert spread.clusters == 2
    assert spread.squares == pytest.approx(1.64)
    assert spread.largest == pytest.approx(1.8)


def test_comparing_is_split_into_rows_and_pairs():
    """2 s a row and 0.01 s a pair: 1,000 rows take 2,000 + 5,000 s, 250 take 500 + 312.5."""
    row, pair = split_compare(1000, 7000.0, 250, 812.5)
    assert row == pytest.approx(2.0)
    assert pair == pytest.approx(0.01)


@pytest.mark.parametrize("small", [5000.0, 1750.0, 437.5, 1.0, 0.0])
def test_a_disturbed_small_call_halves_the_cost_of_a_pair_at_most(small: float):
    row, pair = split_compare(1000, 7000.0, 250, small)
    assert 0.007 <= pair <= 0.014
    assert row >= 0
    assert 1000 * row + 500_000 * pair == pytest.approx(7000.0)


def test_one_row_can_be_split():
    assert split_compare(1, 3.0, 1, 3.0) == (pytest.approx(1.5), pytest.approx(3.0))
