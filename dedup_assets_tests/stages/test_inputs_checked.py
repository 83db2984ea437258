"""What fails before any compute, in one line, with nothing written."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydantic
import pytest

from dedup_assets.errors import DedupError, InputError, SettingsError
from dedup_assets.stages.duplicates import checked_eps
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.state.manifest import load_manifest
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.store.filesystem import Store
from dedup_assets_tests.conftest import (
    make_settings,
    run_stages,
    vector_column,
    write_inputs,
    write_parquet,
)

ROWS = np.eye(4, dtype=np.float32)
IDS = list("abcd")


def refused(tmp_path: Path, says: str, **options: Any) -> str:
    settings = make_settings(tmp_path, **{"n_clusters": 1, **options})
    with pytest.raises(InputError, match=says) as caught:
        list_embeddings(settings, Store(settings.storage.output_path))
    assert "\n" not in str(caught.value)
    assert not Path(settings.storage.output_path).exists()
    return str(caught.value)


def test_manifest_lists_files_rows_bytes_and_fingerprints(tmp_path: Path):
    write_inputs(tmp_path / "in", IDS, ROWS, files=2, title=list("wxyz"))
    settings = make_settings(tmp_path, n_clusters=1, metadata_fields=["title"])
    store = Store(settings.storage.output_path)
    manifest = list_embeddings(settings, store)
    assert [(f["file"], f["rows"]) for f in manifest.files] == [
        ("000.parquet", 2),
        ("001.parquet", 2),
    ]
    assert manifest.bytes == sum(f.stat().st_size for f in (tmp_path / "in").iterdir())
    assert (manifest.rows, manifest.dim, manifest.id_type) == (4, 4, pa.string())
    assert manifest.metadata.names == ["title"]
    assert load_manifest(settings, store) == manifest


def test_folder_that_is_missing_or_empty(tmp_path: Path):
    refused(tmp_path, "in does not exist; point it at the folder of embeddings")
    (tmp_path / "in").mkdir()
    refused(tmp_path, r"in holds no \.parquet file \(and no \.jsonl or \.npy\); point it")
    (tmp_path / "in" / "readme.txt").write_text("no")
    refused(tmp_path, "holds no .parquet file")


def test_zip_without_files_is_there_all_the_same(tmp_path: Path):
    zipfile.ZipFile(tmp_path / "in.zip", "w").close()
    refused(tmp_path, "holds no .parquet file", input_embeddings_path=str(tmp_path / "in.zip"))
    within = str(tmp_path / "in.zip" / "sub")
    refused(tmp_path, "does not exist", input_embeddings_path=within)


def test_column_that_is_there_twice(tmp_path: Path):
    table = pa.table([pa.array(IDS), pa.array(IDS), vector_column(ROWS)], ["id", "id", "embedding"])
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    refused(tmp_path, "a.parquet has 2 columns 'id'; write it again with one")


def test_files_without_rows(tmp_path: Path):
    write_parquet(tmp_path / "in" / "a.parquet", pa.array([], pa.string()), [])
    refused(tmp_path, "holds no rows in 1 files")


def test_more_clusters_than_rows(tmp_path: Path):
    write_inputs(tmp_path / "in", IDS, ROWS)
    refused(
        tmp_path, "n_clusters=5 must be at most the number of rows, .* has 4; lower", n_clusters=5
    )


@pytest.mark.parametrize("field", ["id_field", "embedding_field", "metadata_fields"])
def test_unknown_column_is_named_beside_those_that_are_there(tmp_path: Path, field: str):
    write_inputs(tmp_path / "in", IDS, ROWS)
    value: Any = ["nope"] if field == "metadata_fields" else "nope"
    refused(tmp_path, r"000\.parquet has no column 'nope'; it has id, embedding", **{field: value})
    refused(tmp_path, "has no column 'gone'", rank_by=["gone:desc"])


def test_duplicate_ids_are_named_with_their_files(tmp_path: Path):
    write_parquet(tmp_path / "in" / "a.parquet", ["x", "y", "z"], ROWS[:3])
    write_parquet(tmp_path / "in" / "b.parquet", ["y", "w", "w"], ROWS[:3])
    text = refused(tmp_path, "ids must be unique, and 2 occur more than once: 'w', 'y'")
    assert "('w' in b.parquet and b.parquet)" in text


def test_long_ids_are_shortened_where_they_are_named(tmp_path: Path):
    write_parquet(tmp_path / "in" / "a.parquet", ["x" * 3000, "y", "x" * 3000], ROWS[:3])
    text = refused(tmp_path, r"1 occur more than once: 'x{65}\.\.\. \(3,002 char")
    assert len(text) < 500


def test_files_that_disagree_on_the_type_of_a_column(tmp_path: Path):
    write_parquet(tmp_path / "in" / "a.parquet", ["x"], ROWS[:1], size=[1])
    write_parquet(tmp_path / "in" / "b.parquet", ["y"], ROWS[:1], size=[1.5])
    refused(tmp_path, r"'size' is int64 in a\.parquet and double in b\.", metadata_fields=["size"])
    write_parquet(tmp_path / "in" / "c.parquet", [1], ROWS[:1])
    refused(tmp_path, r"id column 'id' is string in a\.parquet and int64 in c\.parquet")


def test_text_ids_of_any_width_agree(tmp_path: Path):
    types = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
    for i, type_ in enumerate(types):
        write_parquet(tmp_path / "in" / f"{i}.parquet", [f"v{i}"], ROWS[i : i + 1], id_type=type_)
    results = run_stages(make_settings(tmp_path, n_clusters=1))
    assert sorted(row[0] for row in results.pairs(0)) == ["v0", "v1", "v2"]


def test_a_file_of_another_dimension_is_named(tmp_path: Path):
    write_parquet(tmp_path / "in" / "a.parquet", ["x", "y"], ROWS[:2])
    write_parquet(tmp_path / "in" / "b.parquet", ["z"], ROWS[:1, :3])
    refused(tmp_path, r"b\.parquet have 3 numbers, most rows have 4; embed all clips with one")
    refused(tmp_path, r"a\.parquet have 4 numbers, embedding_dim says 3", embedding_dim=3)
    refused(
        tmp_path,
        "no file has embeddings of 7 numbers; .* set embedding_dim",
        embedding_dim=7,
        on_invalid="quarantine",
    )


@pytest.mark.parametrize("form", ["list", "fixed_size_list"])
def test_files_of_another_dimension_are_quarantined_whole(tmp_path: Path, form: str):
    write_parquet(tmp_path / "in" / "a.parquet", ["x", "y"], ROWS[:2], form=form)
    write_parquet(tmp_path / "in" / "b.parquet", ["z"], ROWS[:1, :3], form=form)
    settings = make_settings(
        tmp_path, n_clusters=1, on_invalid="quarantine", eps_thresholds=["0.1"]
    )
    found = run_stages(settings).duplicates["0.1"]
    assert (found.total, found.rejected) == (2, 1)


def test_metadata_may_be_nullable_in_some_files_only(tmp_path: Path):
    column = pa.array([1, None], pa.int64())
    write_parquet(tmp_path / "in" / "b.parquet", ["x", "y"], ROWS[:2], size=column)
    table = pa.table(
        {
            "id": ["z"],
            "embedding": vector_column(ROWS[2:3]),
            "size": [3],
        }
    )
    strict = pa.schema([f.with_nullable(False) for f in table.schema])
    pa.parquet.write_table(table.cast(strict), tmp_path / "in" / "a.parquet")
    results = run_stages(make_settings(tmp_path, n_clusters=1, metadata_fields=["size"]))
    assert len(results.pairs(0)) == 3


@pytest.mark.parametrize("key", ["0.010", "1e-05", ".5", "00.1", "0.10"])
def test_eps_partition_must_be_canonical(key: str):
    with pytest.raises(SettingsError, match=r"must be spelled '0.*'; delete .* of clips/eps"):
        checked_eps(key, "clips")


@pytest.mark.parametrize("key", ["1.5", "abc", "0.000001", ""])
def test_eps_partition_must_be_an_eps(key: str):
    with pytest.raises(SettingsError, match=r"eps must be a number from 0 to 0\.99999 .*; delete"):
        checked_eps(key, "clips")


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"n_clusters": 1}, ["0"]),
        ({"n_clusters": 10}, [str(i) for i in range(10)]),
        ({"n_clusters": 10, "clusters_per_partition": 4}, ["0-3", "4-7", "8-9"]),
        ({"n_clusters": 9, "clusters_per_partition": 4}, ["0-3", "4-7", "8-8"]),
        ({"n_clusters": 11, "clusters_per_partition": 20}, ["00-10"]),
    ],
)
def test_partition_keys_are_padded_ranges(tmp_path: Path, options: Any, keys: list[str]):
    ranges = cluster_ranges(make_settings(tmp_path, **options))
    assert list(ranges) == keys
    assert [c for r in ranges.values() for c in r] == list(range(options["n_clusters"]))


@pytest.mark.parametrize("n_clusters", [127, 128, 129, 1000, 50_000])
def test_there_are_at_most_128_keys_by_default(tmp_path: Path, n_clusters: int):
    keys = list(cluster_ranges(make_settings(tmp_path, n_clusters=n_clusters)))
    assert len(keys) <= 128
    assert keys == sorted(keys)


def test_rank_column_that_the_tables_do_not_hold_is_refused(tmp_path: Path):
    write_inputs(tmp_path / "in", IDS, ROWS)
    with pytest.raises((DedupError, pydantic.ValidationError), match="embedding"):
        run_stages(make_settings(tmp_path, n_clusters=1, rank_by=["embedding:asc"]))


def test_rank_column_that_has_no_order_is_refused_before_any_compute(tmp_path: Path):
    write_inputs(tmp_path / "in", IDS, ROWS, tags=[["x"]] * 4)
    refused(tmp_path, "tags", rank_by=["tags:asc"])


@pytest.mark.parametrize("name", ["id", "embedding"])
def test_metadata_column_that_would_hide_one_of_ours_is_refused(tmp_path: Path, name: str):
    """``id`` is free to be carried only where it is the id column itself."""
    write_inputs(
        tmp_path / "in", IDS, ROWS, id_field="clip", embedding_field="vector", **{name: IDS}
    )
    with pytest.raises((DedupError, pydantic.ValidationError), match=name):
        options = {"id_field": "clip", "embedding_field": "vector", "metadata_fields": [name]}
        run_stages(make_settings(tmp_path, n_clusters=1, **options))


def test_one_input_file_may_lie_beside_the_output(tmp_path: Path) -> None:
    write_inputs(tmp_path, ["a", "b"], np.eye(2))
    settings = make_settings(
        tmp_path, input_embeddings_path=str(tmp_path / "000.parquet"), n_clusters=1
    )
    assert list_embeddings(settings, Store(settings.storage.output_path)).rows == 2
