"""The benchmark of the predictions runs to its end on little data."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import clusters

pytestmark = pytest.mark.slow


def test_predictions_and_runs_are_compared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = tmp_path / "results.json"
    size = ["--rows", "600", "--dim", "16", "--centres", "5", "--clusters", "1", "4"]
    where = ["--device", "cpu", "--repeat", "1", "--work", str(tmp_path), "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["clusters", *size, *where])
    assert clusters.main() == 0
    found = json.loads(path.read_text())
    assert [case["clusters"] for case in found["summary"]] == [1, 4]
    for case in found["summary"]:
        assert min(case["predicted_s"], case["taken_s"], case["ratio"]) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]  # nothing is left
