"""What goes into the spool comes out by cluster, from memory or disk, within its budget."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_assets.stages import spool as spool_module
from dedup_assets.stages.spool import Spool

DIM, CLUSTERS = 5, 4


def rows(n: int, seed: int = 0, text: int = 4) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """Columns, vectors and labels; ``text``: bytes of the text of a row."""
    rng = np.random.default_rng(seed)
    columns = pa.table(
        {"id": pa.array(range(n)), "text": pa.array([f"{i:0{text}d}" for i in range(n)])}
    )
    return (
        columns,
        rng.normal(size=(n, DIM)).astype(np.float32),
        rng.integers(0, CLUSTERS, n).astype(np.int32),
    )


def fill(spool: Spool, data: tuple[pa.Table, np.ndarray, np.ndarray], step: int) -> None:
    columns, vectors, labels = data
    for start in range(0, len(labels), step):
        part = slice(start, start + step)
        spool.add(columns[part], vectors[part], labels[part])


def assert_hands_out(spool: Spool, data: tuple[pa.Table, np.ndarray, np.ndarray]) -> None:
    columns, vectors, labels = data
    assert spool.rows.tolist() == np.bincount(labels, minlength=CLUSTERS).tolist()
    for cluster in np.unique(labels):
        found, rows_found = spool.cluster(int(cluster))
        expected = np.flatnonzero(labels == cluster)
        assert found.combine_chunks().equals(columns.take(pa.array(expected)).combine_chunks())
        np.testing.assert_array_equal(rows_found, vectors[expected])


@settings(max_examples=60)
@given(
    n=st.integers(1, 200),
    step=st.integers(1, 70),
    budget=st.sampled_from([1, 300, 1000, 3000, 20_000, 10**9]),
)
def test_rows_come_out_in_the_order_they_came_whatever_spilled(n: int, step: int, budget: int):
    data = rows(n, seed=n)
    with Spool(CLUSTERS, DIM, budget) as spool:
        fill(spool, data, step)
        assert_hands_out(spool, data)
        assert_hands_out(spool, data)  # again, from the first cluster on


@settings(max_examples=40)
@given(
    groups=st.lists(st.integers(0, 120), min_size=2, max_size=4),
    budget=st.sampled_from([1, 300, 1000, 3000, 20_000]),
    looks=st.booleans(),
)
def test_groups_follow_each_other_in_the_same_memory_and_file(
    groups: list[int], budget: int, looks: bool
):
    """Also where a group was forgotten before anybody asked for its rows."""
    with Spool(CLUSTERS, DIM, budget) as spool:
        for seed, n in enumerate(groups):
            data = rows(n, seed)
            fill(spool, data, 13)
            if looks or seed == len(groups) - 1:
                assert_hands_out(spool, data)
            spool.clear()
            assert spool.held == 0
            assert not spool.rows.any()


def test_a_cleared_spool_takes_no_more_memory_or_disk_than_before():
    with Spool(CLUSTERS, DIM, 3000) as spool:
        ends, matrices = set(), set()
        for _ in range(3):
            fill(spool, rows(200), 13)
            spool.cluster(0)
            ends.add(spool._end)
            spool.clear()
            matrices.add(tuple(sorted(id(matrix) for matrix in spool._spare)))
        assert len(ends) == len(matrices) == 1


@pytest.mark.parametrize("text", [4, 400])
@pytest.mark.parametrize("step", [1, 7, 100, 1000])
def test_bytes_held_stay_within_the_budget(text: int, step: int):
    """Also where columns take more than vectors, which are 20 bytes a row."""
    data = rows(1000, text=text)
    budget = 110 * (text + 60)
    with Spool(CLUSTERS, DIM, budget) as spool:
        fill(spool, data, step)
        assert_hands_out(spool, data)
        assert spool.most <= budget - budget // 16
        assert 0 <= spool._blocks.free <= budget // 16
        assert spool.spilled_bytes > 800 * (text + 20)


def test_what_it_says_it_holds_is_what_it_holds():
    data = rows(1000, text=50)
    with Spool(CLUSTERS, DIM, 10**6) as spool:
        fill(spool, data, 130)
        spool.cluster(0)
        columns, vectors, labels = data
        order = 8 * len(labels)
        exact = columns.nbytes + vectors.nbytes + labels.nbytes + order
        assert exact <= spool.held <= 1.05 * exact
        assert spool.spilled_bytes == 0


def test_nothing_spills_while_there_is_room():
    data = rows(100)
    with Spool(CLUSTERS, DIM, 100 * 60) as spool:
        fill(spool, data, 10)
        assert spool.spilled_bytes == 0
    with Spool(CLUSTERS, DIM, 50 * 60) as spool:
        fill(spool, data, 10)
        assert 0 < spool.spilled_bytes < 100 * 60


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "ccc"] * 20).dictionary_encode(),
        pa.array([[1, 2], None, []] * 20),
        pa.ListArray.from_arrays(
            pa.array(range(61), pa.int32()), pa.array(["x", None, "yy"] * 20).dictionary_encode()
        ),
        pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}] * 20),
        pa.array([b"\0", b"", None] * 20, pa.large_binary()),
        pa.array([None] * 60, pa.null()),
        pa.array([1, 2, None] * 20, pa.timestamp("us", "UTC")),
    ],
    ids=lambda column: str(column.type),
)
@pytest.mark.parametrize("budget", [1, 2000, 10**6])
def test_columns_of_any_type_come_back(column: pa.Array, budget: int):
    _, vectors, labels = rows(60)
    data = pa.table({"id": pa.array(range(60)), "more": column}), vectors, labels
    with Spool(CLUSTERS, DIM, budget) as spool:
        fill(spool, data, 7)
        assert_hands_out(spool, data)


def test_dictionaries_that_differ_between_batches_come_back():
    """Parquet files have one each."""
    with Spool(1, DIM, 600) as spool:
        for start in range(0, 40, 10):
            words = [f"w{i % 3 + start}" for i in range(10)]
            column = pa.array(words).dictionary_encode()
            vectors = np.full((10, DIM), start, np.float32)
            spool.add(pa.table({"word": column}), vectors, np.zeros(10, np.int32))
        assert spool.spilled_bytes
        columns, _ = spool.cluster(0)
        expected = [f"w{i % 3 + start}" for start in range(0, 40, 10) for i in range(10)]
        assert columns["word"].to_pylist() == expected


def test_scratch_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt), Spool(CLUSTERS, DIM, 1) as spool:
        fill(spool, rows(50), 10)
        assert spool.spilled_bytes
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_full_scratch_says_where(monkeypatch: pytest.MonkeyPatch):
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool_module.tempfile, "TemporaryFile", full)
    with pytest.raises(OSError, match=tempfile.gettempdir()), Spool(CLUSTERS, DIM, 1) as spool:
        fill(spool, rows(50), 10)
