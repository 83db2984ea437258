"""No row is lost: an invalid one fails the run by name, or is set aside with the reason."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_assets.errors import InputError, IntegrityError, StaleError
from dedup_assets.stages.duplicates import list_duplicates
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.tables import read_table
from dedup_assets_tests.conftest import (
    Results,
    bytes_of,
    make_settings,
    run_stages,
    write_inputs,
    write_parquet,
)
from dedup_assets_tests.stages.oracle import assert_as_oracle

NAN, INF = float("nan"), float("inf")
GOOD = np.random.default_rng(3).normal(size=(12, 3)).astype(np.float32)
REASONS: dict[str, tuple[Any, str]] = {
    "nan": ([1, NAN, 2], "NaN or infinite value"),
    "infinite": ([1, -INF, 2], "NaN or infinite value"),
    "zero": ([0, 0, 0], "zero vector"),
    "null": (None, "null embedding"),
    "short": ([1, 2], "2 numbers instead of 3"),
    "long": ([1, 2, 3, 4], "4 numbers instead of 3"),
    "empty": ([], "0 numbers instead of 3"),
    "hole": ([1, None, 3], "null inside the embedding"),
}


def with_rows(bad: dict[int, Any]) -> list[Any]:
    rows: list[Any] = GOOD.tolist()
    for place, row in bad.items():
        rows[place] = row
    return rows


def rejected(results: Results) -> list[tuple[Any, str, int, str]]:
    tables = [
        read_table(results.store, f"{layout.REJECTED}/{name}")
        for name in results.store.list(layout.REJECTED)
    ]
    rows = [tuple(row.values()) for table in tables for row in table.to_pylist()]
    return sorted(rows, key=lambda row: row[1:])


@pytest.mark.parametrize("kind", REASONS)
@pytest.mark.parametrize("n_clusters", [1, 2])
def test_invalid_row_fails_naming_file_row_and_id(tmp_path: Path, kind: str, n_clusters: int):
    """Also when it is no row of the sample, so that the shuffle is the first to see it."""
    row, reason = REASONS[kind]
    write_inputs(tmp_path / "in", [f"v{i}" for i in range(12)], with_rows({7: row}), files=2)
    config = make_settings(tmp_path, n_clusters=n_clusters, fit_data_fraction=0.3)
    says = rf"row 1 of 001\.parquet \(id 'v7'\) is invalid: {reason}; .* on_invalid to quarantine"
    with pytest.raises(InputError, match=says):
        run_stages(config)
    written = bytes_of(config.storage.output_path)
    assert not [name for name in written if "partitions" in name or "nearest" in name]
    listed = {name for name in written if not name.startswith(f"{layout.ID_HASHES}/")}
    assert listed <= {layout.MANIFEST, layout.CENTROIDS, layout.CENTROIDS_INFO}


def test_null_id_fails_naming_file_and_row(tmp_path: Path):
    write_parquet(tmp_path / "in" / "a.parquet", ["x", None, "z"], GOOD[:3])
    with pytest.raises(InputError, match=r"row 1 of a\.parquet \(id None\) is invalid: null id"):
        run_stages(make_settings(tmp_path, n_clusters=1))


def test_all_kinds_are_set_aside_with_their_reasons(tmp_path: Path):
    kinds = list(REASONS)
    bad = {i: REASONS[kind][0] for i, kind in enumerate(kinds)}
    ids = [f"v{i}" for i in range(12)]
    write_inputs(tmp_path / "in", ids, with_rows(bad), files=2)
    config = make_settings(tmp_path, n_clusters=2, eps_thresholds=["0.1"], on_invalid="quarantine")
    results = run_stages(config)
    expected = [
        (f"v{i}", f"{i // 6:03d}.parquet", i % 6, REASONS[kind][1]) for i, kind in enumerate(kinds)
    ]
    assert rejected(results) == expected
    assert results.shuffled.rejected == 8
    found = results.duplicates["0.1"]
    assert (found.total, found.rejected) == (4, 8)
    assert {row[0] for rows in results.all_pairs() for row in rows} == set(ids[8:])


@pytest.mark.parametrize("files_per_partition", [1, 3])
def test_rows_that_stay_are_as_if_the_others_had_never_been(
    tmp_path: Path, files_per_partition: int
):
    ids = [f"v{i}" for i in range(12)]
    bad = {0: REASONS["nan"][0], 5: REASONS["short"][0], 11: None}
    write_inputs(tmp_path / "in", ids, with_rows(bad), files=3)
    config = make_settings(
        tmp_path,
        n_clusters=2,
        on_invalid="quarantine",
        eps_thresholds=["0.5"],
        files_per_partition=files_per_partition,
    )
    results = run_stages(config)
    stay = [i for i in range(12) if i not in bad]
    expected = results.duplicates.pop("0.5")
    assert_as_oracle(results, [ids[i] for i in stay], GOOD[stay])
    assert (expected.total, expected.rejected) == (9, 3)


def test_null_id_and_integer_ids_are_set_aside(tmp_path: Path):
    rows = with_rows({4: [0, 0, 0]})
    write_parquet(tmp_path / "in" / "a.parquet", [*range(11), None], rows)
    results = run_stages(make_settings(tmp_path, n_clusters=1, on_invalid="quarantine"))
    file = "a.parquet"
    assert rejected(results) == [(4, file, 4, "zero vector"), (None, file, 11, "null id")]


def test_more_clusters_than_valid_rows_is_refused(tmp_path: Path):
    bad = {i: [0, 0, 0] for i in range(10)}
    write_inputs(tmp_path / "in", range(12), with_rows(bad))
    config = make_settings(tmp_path, n_clusters=3, on_invalid="quarantine")
    with pytest.raises(InputError, match=r"n_clusters=3 .* the sample has 2 valid rows; lower"):
        run_stages(config)


@settings(max_examples=25)
@given(st.dictionaries(st.integers(0, 11), st.sampled_from(list(REASONS)), max_size=9))
def test_kept_removed_and_rejected_add_up(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict[int, str]
):
    path = tmp_path_factory.mktemp("sum")
    rows = with_rows({i: REASONS[kind][0] for i, kind in kinds.items()})
    write_inputs(path / "in", range(12), rows, files=2)
    config = make_settings(
        path,
        n_clusters=2,
        embedding_dim=3,
        on_invalid="quarantine",
        eps_thresholds=["0", "0.3", "0.99999"],
    )
    results = run_stages(config)
    for eps, found in results.duplicates.items():
        assert (found.kept + found.removed, found.rejected) == (12 - len(kinds), len(kinds))
        text = results.store.read_bytes(layout.summary(eps)).decode().splitlines()
        assert text[0] == "eps,kept,removed,total,rejected"
        counts = (eps, found.kept, found.removed, found.total, found.rejected)
        assert text[1] == ",".join(map(str, counts))
        assert len(results.curated[eps].index) == found.kept


def quarantined(tmp_path: Path, **columns: Any) -> Results:
    rows = with_rows({2: [0, 0, 0]})
    write_inputs(tmp_path / "in", range(12), rows, files=2, **columns)
    config = make_settings(tmp_path, n_clusters=2, on_invalid="quarantine", eps_thresholds=["0.1"])
    return run_stages(config)


def test_a_lost_list_of_rejected_rows_is_found_missing_and_made_again(tmp_path: Path):
    results = quarantined(tmp_path)
    before = bytes_of(results.settings.storage.output_path)
    for name in results.store.list(layout.REJECTED):
        results.store.delete(f"{layout.REJECTED}/{name}")
    with pytest.raises((IntegrityError, StaleError), match="materialize cluster_partitions"):
        list_duplicates(Snapshot(results.settings, results.store), "0.1")
    run_stages(results.settings)
    assert bytes_of(results.settings.storage.output_path) == before


def test_invalid_rows_fail_when_they_are_no_longer_quarantined(tmp_path: Path):
    results = quarantined(tmp_path)
    strict = results.settings.replace(on_invalid="fail")
    with pytest.raises(InputError, match="on_invalid to quarantine"):
        run_stages(strict)


def test_rejected_rows_of_another_column_are_not_counted(tmp_path: Path):
    """The second column has no invalid row, so nothing of it is rejected."""
    results = quarantined(tmp_path, better=[row.tolist() for row in GOOD.astype(float)])
    assert results.duplicates["0.1"].rejected == 1
    other = results.settings.replace(embedding_field="better")
    again = run_stages(other)
    assert (again.duplicates["0.1"].total, again.duplicates["0.1"].rejected) == (12, 0)
