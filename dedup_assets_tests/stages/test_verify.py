"""The checks hold for what the stages write, and see what someone changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dedup_assets.errors import StaleError
from dedup_assets.stages.verify import verify_conservation, verify_removed, verify_shards
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.tables import info_of, read_table, write_table
from dedup_assets_tests.conftest import Results, make_settings, run_stages, write_inputs

EPS = "0.01"


@pytest.fixture
def results(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> Results:
    rows = [*mixed.tolist(), [0.0] * 12]
    write_inputs(tmp_path / "in", [*names, "zero"], rows, files=2)
    (tmp_path / "clips").mkdir()
    for name in names[1:]:
        (tmp_path / "clips" / f"{name}.mp4").write_bytes(name.encode())
    options: dict[str, Any] = {
        "clips_path": str(tmp_path / "clips"),
        "missing_media": "skip",
        "samples_per_shard": 30,
        "on_invalid": "quarantine",
    }
    config = make_settings(tmp_path, n_clusters=3, eps_thresholds=[EPS], **options)
    return run_stages(config)


def change(results: Results, name: str, **columns: Any) -> None:
    """Rewrite a table with other values, under the same fingerprint."""
    table = read_table(results.store, name)
    for column, values in columns.items():
        place = table.schema.get_field_index(column)
        field = table.schema.field(place)
        table = table.set_column(place, field, pa.array(values, field.type))
    write_table(results.store, name, table, info_of(table.schema))


def part_with_rows(results: Results) -> str:
    names = [layout.unique_ids_part(EPS, c) for c in range(3)]
    return next(name for name in names if read_table(results.store, name).num_rows > 2)


def test_all_hold_for_a_run(results: Results):
    arguments = (Snapshot(results.settings, results.store), EPS)
    found = results.duplicates[EPS]
    conserved = verify_conservation(*arguments)
    assert conserved.passed
    assert conserved.description == (
        f"kept {found.kept} + removed {found.removed} + rejected 1 = 121 input rows"
    )
    removed = verify_removed(*arguments)
    assert removed.passed
    assert removed.numbers == {"removed": found.removed, "sampled": found.removed, "wrong": 0}
    shards = verify_shards(*arguments)
    assert shards.passed
    assert shards.numbers["kept"] == shards.numbers["listed"] == found.kept


def test_a_summary_that_says_otherwise_is_seen(results: Results):
    text = results.store.read_bytes(layout.summary(EPS)).decode()
    results.store.write_bytes(layout.summary(EPS), text.replace(",1\n", ",2\n").encode())
    verdict = verify_conservation(Snapshot(results.settings, results.store), EPS)
    assert not verdict.passed
    assert "the summary says otherwise" in verdict.description


def test_a_lost_rejected_row_is_seen(results: Results):
    for name in results.store.list(layout.REJECTED):
        results.store.delete(f"{layout.REJECTED}/{name}")
    verdict = verify_conservation(Snapshot(results.settings, results.store), EPS)
    assert not verdict.passed
    assert "is not 121 input rows" in verdict.description


@pytest.mark.parametrize("column", ["max_id", "cosine_sim_score"])
def test_a_pair_that_is_not_as_stated_is_seen(results: Results, column: str):
    name = part_with_rows(results)
    table = read_table(results.store, name)
    values = table[column].to_pylist()
    values[1] = table["id"][1].as_py() if column == "max_id" else values[1] - 1e-3
    change(results, name, **{column: values})
    verdict = verify_removed(Snapshot(results.settings, results.store), EPS)
    assert (verdict.passed, verdict.numbers["wrong"]) == (False, 1)


def test_nothing_removed_is_no_fault(tmp_path: Path):
    write_inputs(tmp_path / "in", list("abc"), np.eye(3, dtype=np.float32))
    results = run_stages(make_settings(tmp_path, n_clusters=1, eps_thresholds=[EPS]))
    verdict = verify_removed(Snapshot(results.settings, results.store), EPS)
    assert verdict.passed
    assert verdict.numbers == {"removed": 0, "sampled": 0, "wrong": 0}


def test_a_tar_that_holds_other_samples_is_seen(results: Results):
    first, second = results.curated[EPS].shards[:2]
    folder = layout.shards(EPS)
    results.store.write_bytes(f"{folder}/{first}", results.store.read_bytes(f"{folder}/{second}"))
    verdict = verify_shards(Snapshot(results.settings, results.store), EPS)
    assert (verdict.passed, verdict.numbers["wrong_shards"]) == (False, 1)
    results.store.delete(f"{folder}/{first}")
    assert not verify_shards(Snapshot(results.settings, results.store), EPS).passed


def test_an_index_that_names_others_is_seen(results: Results):
    name = layout.shard_index(EPS)
    ids = read_table(results.store, name)["id"].to_pylist()
    for wrong in (["stranger", *ids[1:]], [ids[1], *ids[1:]]):
        change(results, name, id=wrong)
        assert not verify_shards(Snapshot(results.settings, results.store), EPS).passed


def test_checks_refuse_what_is_not_current(results: Results):
    other = results.settings.model_copy(update={"which_to_keep": "easy"})
    for verify in (verify_conservation, verify_removed, verify_shards):
        with pytest.raises(StaleError, match="materialize pairwise_scores"):
            verify(Snapshot(other, results.store), EPS)
