"""The cost model finds the rates that made the times, and predicts what it was not fitted to."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import model
from benchmarks.cost_terms import FILE, TERMS, Rates, Shape, fit, seconds

SHAPES = [
    Shape(*sizes)
    for sizes in [
        *((10_000, 64, 100, 500), (20_000, 256, 300, 2_000), (50_000, 64, 1_000, 4_000)),
        *((70_000, 768, 70, 1_000), (100_000, 32, 90, 3_000), (150_000, 512, 500, 700)),
    ]
]


def times(rates: Rates, shape: Shape) -> dict[str, float]:
    return {stage: seconds(rates, shape, stage) for stage in TERMS}


def test_rates_are_found_again(rng: np.random.Generator):
    # So that every term weighs alike in the middle of the shapes.
    true = {
        stage: {name: rng.uniform(0.5, 2) / term(SHAPES[3]) for name, term in terms.items()}
        for stage, terms in TERMS.items()
    }
    found = fit([(shape, times(true, shape)) for shape in SHAPES])
    for stage in TERMS:
        assert found[stage] == pytest.approx(true[stage], rel=1e-6, abs=0)


def test_no_rate_is_negative(rng: np.random.Generator):
    """Files that seem to save time cost nothing, and the other terms explain what there is."""
    taken = [
        {stage: shape.rows * 1e-6 * rng.uniform(0.7, 1.3) for stage in TERMS} for shape in SHAPES
    ]
    found = fit(list(zip(SHAPES, taken, strict=True)))
    assert all(rate >= 0 for terms in found.values() for rate in terms.values())
    assert found["duplicate_ids"][FILE] * 1_000 < 1e-6 * 50_000
    for shape, times_ in zip(SHAPES, taken, strict=True):
        predicted = seconds(found, shape, "duplicate_ids")
        assert predicted == pytest.approx(times_["duplicate_ids"], rel=0.7)


@pytest.mark.slow
def test_the_benchmark_predicts_each_run_from_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(model, "RUNS", ((500, 16, 4, 50), (900, 32, 9, 100)))
    monkeypatch.setattr(model, "LARGE", ((10**8, 10_000, 8),))
    path = tmp_path / "model.json"
    arguments = ["--dim", "16", "--check-rows", "1200", "--check-clusters", "5"]
    places = ["--work", str(tmp_path / "work"), "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["model", *arguments, *places])
    assert model.main() == 0
    found = json.loads(path.read_text())
    assert [run["shape"]["rows"] for run in found["runs"]] == [500, 900, 1200]
    assert all(run["taken_s"] > 0 and run["predicted_s"] > 0 for run in found["runs"])
    (large,) = found["predictions"]
    assert large["s"] == pytest.approx(
        sum(stage["s"] for stage in large["stages"].values()) + large["dagster_s"], rel=0.01
    )
    assert not list((tmp_path / "work").iterdir())
