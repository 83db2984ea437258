"""Which rows an eps removes."""

import io
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.compute.thresholds import canonical_eps, score_threshold
from dedup_assets.stages.duplicates import is_removed
from dedup_assets.store import layout
from dedup_assets.store.tables import read_table
from dedup_assets_tests.conftest import make_settings, run_stages, write_inputs


def removed_of(scores: list[float], eps: str, max_ids: list[str] | None = None) -> list[bool]:
    """Which rows of the ids 0, 1, ... are removed."""
    ids = [str(i) for i in range(len(scores))]
    frame = pl.DataFrame(
        {"id": ids, "max_id": max_ids or ["earlier"] * len(ids), "cosine_sim_score": scores},
        schema_overrides={"cosine_sim_score": pl.Float32},
    )
    return frame.select(is_removed(eps)).to_series().to_list()


@given(st.integers(0, 99_999))
def test_score_equal_to_the_threshold_is_removed_and_the_next_below_is_not(step: int):
    eps = canonical_eps(step / 100_000)
    at = score_threshold(eps)
    below = np.nextafter(at, np.float32(-2))
    assert removed_of([float(at), float(below), 1.0], eps) == [True, False, True]


@pytest.mark.parametrize("eps", ["0", "0.5", "0.99999"])
def test_row_without_an_earlier_one_is_never_removed(eps: str):
    assert removed_of([0.0, 1.0], eps, max_ids=["0", "1"]) == [False, False]


@pytest.mark.parametrize("eps", ["0.1", "0.05", "0.01"])
def test_score_equal_to_the_threshold_is_removed(tmp_path: Path, eps: str):
    """Written into the ledger, since no two rows have that cosine on request."""
    x = np.array([(1, 2, 3), (4, 5, 6), (7, 8, 9)], np.float32)
    write_inputs(tmp_path / "in", list("abc"), x)
    results = run_stages(make_settings(tmp_path, n_clusters=1, eps_thresholds=[eps]))
    name = layout.score_ledger("0")
    table = read_table(results.store, name)
    equal = np.float32(1 - float(eps))
    scores = [0.0, equal, np.nextafter(equal, np.float32(0))]
    column = pa.array(scores, pa.float32())
    path = Path(results.store.path(name))
    table = table.set_column(3, table.schema.field(3), column)
    buffer = io.BytesIO()
    pa.parquet.write_table(table, buffer)
    path.write_bytes(buffer.getvalue())
    results.store.delete(layout.unique_ids_part(eps, 0))
    results.store.delete(layout.list_ledger(eps))
    results.store.delete(layout.summary(eps))
    again = run_stages(results.settings, curate=False)
    assert again.removed(eps) == {table["id"][1].as_py()}
    assert again.duplicates[eps].removed == 1


def test_identical_vectors_are_removed_at_eps_zero(tmp_path: Path, rng: np.random.Generator):
    x = rng.normal(size=(7, 33)).astype(np.float32)
    x[4], x[6] = x[1], 3 * x[1]
    write_inputs(tmp_path / "in", list("abcdefg"), x, files=3)
    settings = make_settings(tmp_path, n_clusters=1, eps_thresholds=["0"], which_to_keep="easy")
    assert run_stages(settings).removed("0") == {"e", "g"}
