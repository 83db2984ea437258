"""The histogram counts what each eps would remove, exactly."""

from pathlib import Path

import numpy as np
import pytest

from dedup_assets.compute.thresholds import canonical_eps
from dedup_assets.stages.duplicates import list_duplicates
from dedup_assets.stages.histogram import Histogram, build_histogram, shown_eps
from dedup_assets.stages.plot import _spread
from dedup_assets.store import layout
from dedup_assets.store.tables import read_table
from dedup_assets_tests.conftest import Results, bytes_of, make_settings, run_stages, write_inputs


@pytest.fixture
def results(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> Results:
    write_inputs(tmp_path / "in", names, mixed)
    return run_stages(make_settings(tmp_path, n_clusters=3, eps_thresholds=["0.01234"]))


@pytest.fixture
def histogram(results: Results) -> Histogram:
    return build_histogram(results.settings, results.store)


def test_each_eps_of_the_table_is_what_duplicates_then_removes(
    results: Results, histogram: Histogram
):
    for eps in ("0", "0.001", "0.01234", "0.5", "0.99999"):
        found = list_duplicates(results.settings, results.store, eps)
        shown = histogram.at(eps)
        assert shown["removed"] == found.removed
        assert shown["share_removed"] == pytest.approx(found.removed / found.total, abs=1e-6)


def test_counts_are_those_of_numpy(results: Results, histogram: Histogram):
    scores = np.array([s for rows in results.all_pairs() for i, j, s in rows if i != j])
    assert histogram.rows == 120
    assert histogram.compared == len(scores) == 117
    table = histogram.table
    low, high = table["score_low"].to_numpy(), table["score_high"].to_numpy()
    np.testing.assert_array_equal(low[1:], high[:-1])
    expected, _ = np.histogram(scores, np.append(low, np.float32(2)))
    np.testing.assert_array_equal(table["count"].to_numpy(), expected)
    np.testing.assert_allclose(table["ecdf"].to_numpy(), expected.cumsum() / 117)


def test_first_rows_and_clusters_of_one_are_not_counted(tmp_path: Path):
    write_inputs(tmp_path / "in", list("abc"), np.eye(3, dtype=np.float32))
    results = run_stages(make_settings(tmp_path, n_clusters=3))
    found = build_histogram(results.settings, results.store)
    assert (found.rows, found.compared) == (3, 0)
    assert sum(found.table["count"].to_pylist()) == 0
    assert found.at("0.5")["share_removed"] == 0
    assert not np.isnan(found.table["ecdf"].to_numpy()).any()


def test_table_and_picture_are_on_disk_and_made_once(results: Results, histogram: Histogram):
    store = results.store
    assert read_table(store, layout.HISTOGRAM).equals(histogram.table)
    assert store.read_bytes(layout.HISTOGRAM_PLOT) == histogram.plot
    assert histogram.plot.startswith(b"\x89PNG")
    before = bytes_of(store.root)
    again = build_histogram(results.settings, store)
    assert again.reused
    assert again.table.equals(histogram.table)
    assert bytes_of(store.root) == before
    more = results.settings.model_copy(update={"eps_thresholds": ["0.01234", "0.00777"]})
    other = build_histogram(more, store)
    assert not other.reused
    assert other.at("0.00777")["eps"] == "0.00777"


def test_shown_eps_hold_the_configured_ones_ascending(results: Results):
    shown = shown_eps(results.settings)
    assert "0.01234" in shown
    assert [float(eps) for eps in shown] == sorted({float(eps) for eps in shown})


def test_of_many_eps_values_the_picture_marks_some_from_the_first_to_the_last():
    """5,000 labels took 40 seconds, and covered each other."""
    many = [canonical_eps(i / 100_000) for i in range(5_000)]
    marked = _spread(many[::-1])
    assert len(marked) == 24
    assert (marked[0], marked[-1]) == ("0", "0.04999")
    assert set(marked) < set(many)
    assert _spread(["0.5", "0.1"]) == ["0.5", "0.1"]
