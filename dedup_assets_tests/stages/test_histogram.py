"""The histogram counts what each eps would remove, exactly."""

from pathlib import Path

import numpy as np
import pytest

from dedup_assets.stages.duplicates import list_duplicates
from dedup_assets.stages.histogram import Histogram, build_histogram, shown_eps
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.tables import read_table
from dedup_assets_tests.conftest import Results, bytes_of, make_settings, run_stages, write_inputs


@pytest.fixture
def results(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> Results:
    write_inputs(tmp_path / "in", names, mixed)
    return run_stages(make_settings(tmp_path, n_clusters=3, eps_thresholds=["0.01234"]))


@pytest.fixture
def histogram(results: Results) -> Histogram:
    return build_histogram(Snapshot(results.settings, results.store))


def test_each_eps_of_the_table_is_what_duplicates_then_removes(
    results: Results, histogram: Histogram
):
    for eps in ("0", "0.001", "0.0012", "0.5", "0.99999"):
        found = list_duplicates(Snapshot(results.settings, results.store), eps)
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
    found = build_histogram(Snapshot(results.settings, results.store))
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
    again = build_histogram(Snapshot(results.settings, store))
    assert again.reused
    assert again.table.equals(histogram.table)
    assert bytes_of(store.root) == before


def test_one_more_eps_is_no_reason_to_make_it_again(results: Results, histogram: Histogram):
    more = results.settings.replace(eps_thresholds=["0.01234", "0.007"])
    assert build_histogram(Snapshot(more, results.store)).reused


def test_shown_eps_hold_the_configured_ones_of_the_grid_ascending(results: Results):
    more = results.settings.replace(eps_thresholds=["0.01234", "0.007"])
    shown = shown_eps(more)
    assert "0.007" in shown
    assert "0.01234" not in shown
    assert [float(eps) for eps in shown] == sorted({float(eps) for eps in shown})
