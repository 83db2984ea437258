"""What the ledgers account for is what the files for other readers hold."""

from pathlib import Path

import numpy as np
import pytest

from dedup_assets.stages.documented import (
    verify_documented,
    verify_sampled_lists,
    verify_sampled_tables,
)
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.tables import info_of, read_table, write_table
from dedup_assets_tests.conftest import Results, make_settings, run_stages, write_inputs

EPS = "0.01"


@pytest.fixture
def results(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> Results:
    write_inputs(tmp_path / "in", names, mixed, files=2)
    settings = make_settings(tmp_path, n_clusters=4, eps_thresholds=[EPS, "0.05"])
    return run_stages(settings, curate=False)


def snapshot(results: Results) -> Snapshot:
    return Snapshot(results.settings, results.store)


def test_all_files_of_a_run_hold_what_the_ledgers_do(results: Results):
    verdict = verify_documented(snapshot(results))
    assert verdict.passed
    assert verdict.description == "14 of 14 files hold what the ledgers do"
    assert verify_sampled_tables(snapshot(results)).numbers == {"files": 4, "wrong": 0}
    assert verify_sampled_lists(snapshot(results), EPS).numbers == {"files": 4, "wrong": 0}


@pytest.mark.parametrize("name", [layout.scores(1), layout.unique_ids_part(EPS, 2)])
@pytest.mark.parametrize("how", ["gone", "cut", "other rows"])
def test_a_file_that_holds_something_else_is_named(results: Results, name: str, how: str):
    store = results.store
    table = read_table(store, name)
    assert table.num_rows
    match how:
        case "gone":
            store.delete(name)
        case "cut":
            store.write_bytes(name, store.read_bytes(name)[:-30])
        case _:
            write_table(store, name, table.slice(1), info_of(table.schema))
    found = [verify_documented(snapshot(results))]
    if name == layout.scores(1):
        found.append(verify_sampled_tables(snapshot(results)))
        assert verify_sampled_lists(snapshot(results), EPS).passed
    else:
        found.append(verify_sampled_lists(snapshot(results), EPS))
        assert verify_sampled_tables(snapshot(results)).passed
    for verdict in found:
        assert not verdict.passed
        assert verdict.numbers["wrong"] == 1
        assert f"not so {store.url(name)}: delete them and" in verdict.description


def test_a_summary_that_says_otherwise_is_named(results: Results):
    name = layout.summary(EPS)
    text = results.store.read_bytes(name).decode()
    results.store.write_bytes(name, text.replace(",120,", ",121,").encode())
    verdict = verify_documented(snapshot(results))
    assert not verdict.passed
    assert results.store.url(name) in verdict.description
