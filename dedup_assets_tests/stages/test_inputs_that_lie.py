"""Files that are not what they say, or not what they were: one line, and nothing is written."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup_assets.errors import InputError, StaleError
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.partitioning import shuffle
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store.filesystem import Store
from dedup_assets.store.inputs import InputFiles
from dedup_assets.store.members import sample_key
from dedup_assets_tests.conftest import make_settings, run_stages, write_inputs, write_parquet

ROWS = np.random.default_rng(5).normal(size=(40, 4)).astype(np.float32)


def refused(tmp_path: Path, *parts: str, **options: Any) -> None:
    settings = make_settings(tmp_path, **{"n_clusters": 1, **options})
    with pytest.raises(InputError) as caught:
        list_embeddings(settings, Store(settings.storage.output_path))
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text
    assert not Path(settings.storage.output_path).exists()


def footer_of(file: Path, times: int) -> bytes:
    """The footer of a file that holds this one's rows so many times, without any rows."""
    footer = pq.read_metadata(file)
    for _ in range(times - 1):
        footer.append_row_groups(pq.read_metadata(file))
    target = file.with_name("footer")
    footer.write_metadata_file(target)
    return target.read_bytes()


def test_a_file_of_20_gb_by_its_footer_only(tmp_path: Path):
    rows = np.random.default_rng(1).normal(size=(10_000, 64)).astype(np.float32)
    table = pa.table({"id": range(10_000), "embedding": list(rows)})
    pq.write_table(table, tmp_path / "one.parquet")
    (tmp_path / "in").mkdir()
    lying = tmp_path / "in" / "x.parquet"
    lying.write_bytes(footer_of(tmp_path / "one.parquet", 8_000))
    claimed = pq.read_metadata(lying)
    assert claimed.num_rows == 80_000_000
    sizes = (claimed.row_group(i).total_byte_size for i in range(claimed.num_row_groups))
    assert sum(sizes) > 20 << 30
    refused(tmp_path, f"{lying} is not a readable Parquet file (", "write it again or move it out")


def test_a_footer_with_more_rows_than_the_file(tmp_path: Path):
    """Its row groups are all the same one, so each can be read, and ids would repeat."""
    write_parquet(tmp_path / "x.parquet", range(40), ROWS)
    data = (tmp_path / "x.parquet").read_bytes()
    footer = footer_of(tmp_path / "x.parquet", 3)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.parquet").write_bytes(data[:-8] + footer[4:])
    refused(tmp_path, "ids must be unique, and 40 occur more than once")


@pytest.mark.parametrize("read", ["ids", "rows"])
def test_rows_that_the_footer_promises_and_are_not_there(tmp_path: Path, read: str):
    """The readers count, whatever Arrow makes of it."""
    write_parquet(tmp_path / "x.parquet", range(40), ROWS)
    files = InputFiles(str(tmp_path), "id", "embedding", [])
    real = pq.ParquetFile.iter_batches

    def fewer(self: pq.ParquetFile, *args: Any, **options: Any) -> Any:
        return (batch.slice(1) for batch in real(self, *args, **options))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError) as caught:
        patch.setattr(pq.ParquetFile, "iter_batches", fewer)
        list(files.read_ids("x.parquet") if read == "ids" else files.read("x.parquet", 4))
    assert "it holds 39 rows where its footer says 40" in str(caught.value)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_file_that_was_cut(tmp_path: Path, part: float):
    write_inputs(tmp_path / "in", range(40), ROWS, files=3)
    cut = tmp_path / "in" / "001.parquet"
    data = cut.read_bytes()
    cut.write_bytes(data[: int(part * len(data))])
    refused(tmp_path, f"{cut} is not a readable Parquet file (", "write it again or move it out")


def test_a_file_that_is_no_parquet_among_others(tmp_path: Path):
    write_inputs(tmp_path / "in", range(40), ROWS, files=3)
    (tmp_path / "in" / "zz.parquet").write_bytes(b"id,embedding\n" * 100)
    refused(tmp_path, "zz.parquet is not a readable Parquet file (", "magic bytes")


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"id": ["x"]}, "zz.parquet has no column 'embedding'; it has id; set id_field, embed"),
        ({"clip": ["x"], "embedding": [[1.0] * 4]}, "zz.parquet has no column 'id'; it has clip"),
        ({"id": ["x"], "embedding": [[1.0] * 4]}, "is int64 in 000.parquet and string in zz.parq"),
        ({"id": [99], "embedding": [[1.0] * 5]}, "embeddings of zz.parquet have 5 numbers, most r"),
        ({"id": [99], "embedding": [[1, 2, 3, 4]]}, "zz.parquet has type list<element: int64>; it"),
    ],
)
def test_a_file_whose_schema_differs(tmp_path: Path, other: dict[str, Any], says: str):
    write_inputs(tmp_path / "in", range(40), ROWS, files=3)
    pq.write_table(pa.table(other), tmp_path / "in" / "zz.parquet")
    refused(tmp_path, says)


@pytest.mark.parametrize("change", ["rows", "touched", "gone"])
def test_a_file_that_changed_between_two_steps(tmp_path: Path, change: str):
    write_inputs(tmp_path / "in", range(40), ROWS, files=2)
    settings = make_settings(tmp_path, n_clusters=1)
    results = run_stages(settings)
    file = tmp_path / "in" / "001.parquet"
    match change:
        case "rows":
            write_parquet(file, range(20, 40), ROWS[::-1][:20])
        case "touched":
            os.utime(file, (1, 1))
        case "gone":
            file.unlink()
    for fragments in (tmp_path / "out" / "clustering_results").rglob("*.parquet"):
        fragments.unlink()
    says = "is gone" if change == "gone" else "changed"
    with pytest.raises(StaleError, match=rf"001\.parquet {says} since .*; materialize embeddings"):
        shuffle(Snapshot(settings, results.store), list(cluster_ranges(settings)))


def test_many_tiny_files(tmp_path: Path):
    """Each holds one row; the ids tell whether one was lost."""
    (tmp_path / "in").mkdir()
    rows = np.random.default_rng(2).normal(size=(1_000, 4)).astype(np.float32)
    schema = pa.schema([("id", pa.int64()), ("embedding", pa.list_(pa.float32()))])
    for i, row in enumerate(rows):
        table = pa.table({"id": [i], "embedding": [row]}, schema=schema)
        pq.write_table(table, tmp_path / "in" / f"{i}.parquet", compression="none")
    settings = make_settings(tmp_path, n_clusters=2)
    results = run_stages(settings)
    assert results.manifest.rows == len(results.manifest.files) == 1_000
    assert sorted(row[0] for rows in results.all_pairs() for row in rows) == list(range(1_000))


def test_many_tiny_arrays(tmp_path: Path):
    (tmp_path / "in").mkdir()
    rows = np.random.default_rng(2).normal(size=(5_000, 4)).astype(np.float32)
    for i, row in enumerate(rows):
        np.save(tmp_path / "in" / f"v{i}.npy", row)
    results = run_stages(make_settings(tmp_path, n_clusters=2))
    assert results.manifest.rows == 5_000
    assert len(results.manifest.files) < 10
    found = {row[0] for rows in results.all_pairs() for row in rows}
    assert found == {f"v{i}" for i in range(5_000)}


ODD_IDS: list[list[Any]] = [
    [1, -2, 0, 2**63 - 1],
    ["a/b/c", "../up", "/abs", "a//b"],
    ["a.b.c", ".hidden", "..", "x.mp4"],
    ["é", "日本語", "😀", "a\u0301"],
    [" ", "%41", "a b", "A"],
]


@pytest.mark.parametrize("ids", ODD_IDS, ids=str)
def test_odd_ids_keep_their_value_through_to_the_shards(tmp_path: Path, ids: list[Any]):
    write_parquet(tmp_path / "in" / "x.parquet", ids, ROWS[:4])
    (tmp_path / "clips").mkdir()
    for id_ in ids:
        (tmp_path / "clips" / f"{sample_key(id_)}.mp4").write_bytes(str(id_).encode())
    settings = make_settings(
        tmp_path, n_clusters=1, eps_thresholds=["0"], clips_path=str(tmp_path / "clips")
    )
    index = run_stages(settings).curated["0"].index
    assert sorted(index["id"].to_pylist()) == sorted(ids)
    assert sorted(index["key"].to_pylist()) == sorted(map(sample_key, ids))
    assert index["shard"].null_count == 0


@pytest.mark.parametrize("form", ["list", "large_list", "fixed_size_list"])
def test_null_ids_and_nulls_in_vectors_are_named_or_set_aside(tmp_path: Path, form: str):
    rows: list[Any] = [row.tolist() for row in ROWS]
    rows[5] = [1.0, None, 2.0, 3.0]
    ids = [*range(9), None, *range(10, 40)]
    write_parquet(tmp_path / "in" / "x.parquet", ids, rows, form=form)
    settings = make_settings(tmp_path, n_clusters=1, eps_thresholds=["0.1"])
    with pytest.raises(InputError, match=r"row 5 of x\.parquet \(id 5\) .*null inside the embedd"):
        run_stages(settings)
    found = run_stages(settings.replace(on_invalid="quarantine"))
    assert (found.duplicates["0.1"].total, found.duplicates["0.1"].rejected) == (38, 2)


def test_text_that_is_not_utf8(tmp_path: Path):
    write_parquet(tmp_path / "in" / "x.parquet", [f"v{i}" for i in range(40)], ROWS)
    column = pa.array([b"ok", b"\xff\xfe"]).cast(pa.binary()).view(pa.string())
    table = pa.table({"id": column, "embedding": [[1.0] * 4] * 2})
    pq.write_table(table, tmp_path / "in" / "y.parquet")
    refused(tmp_path, "y.parquet is not a readable Parquet file (", "UTF8")
