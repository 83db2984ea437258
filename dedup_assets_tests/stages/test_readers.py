"""The tools that people open the output with read it, with the types that the README lists."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from dedup_assets.errors import SettingsError
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.store import layout
from dedup_assets_tests.conftest import Results, make_settings, run_stages, unit, write_inputs
from dedup_assets_tests.stages.conftest import put_centroids

EPS = "0.01"
CLUSTERS = 3
KINDS = [("cosmos-curate", "string"), ("nemo", "string"), ("cosmos-curate", "int64")]
METADATA = {"title": "string", "seconds": "double", "tags": "list<element: string>"}


def _pandas(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    table = pd.read_parquet(folder)
    return table.dtypes.to_dict(), table.to_dict("records")


def _polars(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    table = pl.scan_parquet(folder, hive_partitioning=True).collect()
    return dict(table.schema), table.to_dicts()


def _pyarrow(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    table = ds.dataset(folder, format="parquet", partitioning="hive").to_table()
    return {field.name: field.type for field in table.schema}, table.to_pylist()


def _duckdb(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    found = duckdb.sql(
        f"SELECT * FROM read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
    )
    types = {name: str(type_) for name, type_ in zip(found.columns, found.types, strict=True)}
    return types, [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


Reader = Callable[[Path], tuple[dict[str, Any], list[dict[str, Any]]]]
READERS: dict[str, Reader] = {
    "pandas": _pandas,
    "polars": _polars,
    "pyarrow": _pyarrow,
    "duckdb": _duckdb,
}
FLOAT = {"pandas": np.dtype("f4"), "polars": pl.Float32, "pyarrow": pa.float32(), "duckdb": "FLOAT"}
VECTOR = {
    "pandas": np.dtype("O"),
    "polars": pl.List(pl.Float32),
    "pyarrow": pa.list_(pa.field("element", pa.float32(), nullable=False)),
    "duckdb": "FLOAT[]",
}
CLUSTER = {
    "pandas": pd.CategoricalDtype(pd.Index([0, 2], dtype="int32")),
    "polars": pl.Int64,
    "pyarrow": pa.int32(),
    "duckdb": "BIGINT",
}
IDS = {
    "string": {
        "pandas": pd.Series(["a"]).dtype,
        "polars": pl.String,
        "pyarrow": pa.string(),
        "duckdb": "VARCHAR",
    },
    "int64": {
        "pandas": np.dtype("i8"),
        "polars": pl.Int64,
        "pyarrow": pa.int64(),
        "duckdb": "BIGINT",
    },
}


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: "-".join(kind))
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Three clusters, of which the second is empty; at the narrow eps no list has a row."""
    where, id_type = request.param
    root = tmp_path_factory.mktemp("readers")
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(40, 8))
    vectors[:, 0] += 8
    vectors = unit(vectors)
    vectors[20:] *= -1
    vectors[30:40] = vectors[20:30] + 0.01 * rng.normal(size=(10, 8))
    ids = list(range(40)) if id_type == "int64" else [f"clip-{i:03d}" for i in range(40)]
    write_inputs(
        root / "in",
        ids,
        vectors,
        files=2,
        title=[f"title {i}" if i % 2 else None for i in range(40)],
        seconds=[i / 2 for i in range(40)],
        tags=pa.array([["a", "b"][: i % 3] for i in range(40)]),
    )
    settings = make_settings(
        root,
        n_clusters=CLUSTERS,
        layout=where,
        files_per_partition=1,
        eps_thresholds=[EPS, "0"],
        metadata_fields=list(METADATA),
    )
    along, across = np.eye(8)[:2]
    put_centroids(settings, [along, across, -along])
    found = run_stages(settings)
    assert [len(rows) for rows in found.all_pairs()] == [20, 0, 20]
    assert found.duplicates[EPS].removed > 0
    assert found.duplicates["0"].removed == 0
    return found


def on_disk(results: Results, name: str) -> Path:
    return Path(results.settings.storage.output_path, results.store.layout.on_disk(name))


def id_type_of(results: Results) -> str:
    return str(results.manifest.id_type)


@pytest.mark.parametrize("tool", READERS)
def test_cluster_folders_read_as_one_table_with_the_cluster_as_a_column(
    results: Results, tool: str
):
    types, rows = READERS[tool](on_disk(results, layout.CLUSTERS))
    column = results.store.layout.cluster_column
    assert list(types) == [
        *("id", "embedding", "cosine_dist_to_cent", "l2_dist_to_cent"),
        *METADATA,
        column,
    ]
    assert types["id"] == IDS[id_type_of(results)][tool]
    assert types["embedding"] == VECTOR[tool]
    assert types["cosine_dist_to_cent"] == types["l2_dist_to_cent"] == FLOAT[tool]
    assert types[column] == CLUSTER[tool]
    assert {(row["id"], int(row[column])) for row in rows} == {
        (id_, cluster) for cluster, pairs in enumerate(results.all_pairs()) for id_, _, _ in pairs
    }
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows) == 40
    for position, id_ in enumerate(sorted(by_id)):
        row = by_id[id_]
        assert row["seconds"] == position / 2
        assert list(row["tags"]) == ["a", "b"][: position % 3]
        assert row["title"] == f"title {position}" if position % 2 else pd.isna(row["title"])
        assert np.isclose(np.linalg.norm(np.asarray(row["embedding"], dtype="f4")), 1)


@pytest.mark.parametrize("tool", READERS)
def test_pruning_tables_read_as_one_table_with_empty_clusters_in_it(results: Results, tool: str):
    types, rows = READERS[tool](on_disk(results, layout.SCORES))
    id_ = IDS[id_type_of(results)][tool]
    assert types == {"id": id_, "max_id": id_, "cosine_sim_score": FLOAT[tool]}
    found = [(r["id"], r["max_id"], np.float32(r["cosine_sim_score"])) for r in rows]
    pairs = [pair for of_cluster in results.all_pairs() for pair in of_cluster]
    assert sorted(found) == sorted((i, m, np.float32(s)) for i, m, s in pairs)


@pytest.mark.parametrize("tool", READERS)
@pytest.mark.parametrize("eps", [EPS, "0"])
def test_lists_of_an_eps_read_as_one_table_even_if_it_is_empty(
    results: Results, tool: str, eps: str
):
    types, rows = READERS[tool](on_disk(results, layout.unique_ids(eps)))
    id_ = IDS[id_type_of(results)][tool]
    others = {"max_id": id_, "cosine_sim_score": FLOAT[tool]}
    assert types == {"id": id_, **({} if results.settings.storage.layout == "nemo" else others)}
    assert sorted(row["id"] for row in rows) == sorted(results.removed(eps))
    assert len(rows) == results.duplicates[eps].removed


@pytest.mark.parametrize("tool", READERS)
@pytest.mark.parametrize("results", [("nemo", "string")], indirect=True)
def test_folder_duplicates_reads_as_the_single_column_id(results: Results, tool: str):
    """Of several eps values it is their union: the widest one's list, ids of others repeated."""
    types, rows = READERS[tool](Path(results.settings.storage.output_path, "duplicates"))
    assert list(types) == ["id"]
    assert {row["id"] for row in rows} == results.removed(EPS)


def test_centroids_load_with_numpy_in_the_order_of_the_clusters(results: Results):
    centroids = np.load(Path(results.settings.storage.output_path, layout.CENTROIDS))
    assert centroids.shape == (CLUSTERS, 8)
    assert centroids.dtype == np.float32
    _, rows = _pyarrow(on_disk(results, layout.CLUSTERS))
    for row in rows:
        nearest = np.argmax(centroids @ np.asarray(row["embedding"], dtype="f4"))
        assert nearest == row[results.store.layout.cluster_column]


@pytest.mark.parametrize("results", [("cosmos-curate", "string")], indirect=True)
def test_sharder_of_cosmos_curate_finds_the_same_ids_by_either_of_its_ways(results: Results):
    """It spells eps with five decimals, trailing zeros cut; without lists it filters scores."""
    extraction = Path(results.settings.storage.output_path, "extraction")
    for eps in (0.01, 0.0):
        spelled = f"{eps:.5f}".rstrip("0").rstrip(".")
        parts = sorted((extraction / f"unique_ids_{spelled}.parquet").glob("*.parquet"))
        listed = {id_ for part in parts for id_ in pd.read_parquet(part)["id"].tolist()}
        tables = sorted((extraction / "semdedup_pruning_tables").glob("*.parquet"))
        scored = pd.concat([pd.read_parquet(table) for table in tables])
        filtered = set(scored[scored["cosine_sim_score"] >= 1 - eps]["id"].tolist())
        assert listed == filtered == results.removed(spelled)


@pytest.mark.parametrize("results", [("nemo", "string")], indirect=True)
def test_removal_of_nemo_curator_finds_the_ids_of_a_range(results: Results):
    """It reads the folder of ids through a filter on the range of ids of each of its batches."""
    folder = on_disk(results, layout.unique_ids(EPS))
    removed = sorted(results.removed(EPS))
    low, high = removed[1], removed[-2]
    found = pd.read_parquet(folder, filters=[("id", ">=", low), ("id", "<=", high)], columns=["id"])
    assert sorted(found["id"]) == removed[1:-1]


def test_identification_of_nemo_curator_agrees_on_its_own_reading_of_the_scores(results: Results):
    scores = on_disk(results, layout.SCORES)
    found = pd.read_parquet(
        scores, filters=[("cosine_sim_score", ">=", 1.0 - float(EPS))], columns=["id"]
    )
    assert set(found["id"]) == results.removed(EPS)


@pytest.mark.parametrize(
    ("where", "column"), [("cosmos-curate", "nearest_cent"), ("nemo", "centroid")]
)
def test_column_named_as_the_cluster_folders_is_refused(tmp_path: Path, where: str, column: str):
    """pyarrow and pandas could not read the folder then, and DuckDB would hide the column."""
    write_inputs(tmp_path / "in", ["a", "b"], np.eye(2), **{column: [7, 8]})
    settings = make_settings(tmp_path, n_clusters=1, layout=where, metadata_fields=[column])
    with pytest.raises(SettingsError, match=f"metadata_fields cannot hold '{column}': readers"):
        list_embeddings(settings, settings.storage.open_output())
