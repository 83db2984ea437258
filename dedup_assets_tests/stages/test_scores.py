"""Scores and their order against brute force, and the cases that must come out as written."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dedup_assets.store import layout
from dedup_assets.store.tables import read_table
from dedup_assets_tests.conftest import make_settings, run_stages, unit, write_inputs
from dedup_assets_tests.stages.conftest import put_centroids
from dedup_assets_tests.stages.oracle import assert_as_oracle

SIX = np.array([(1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12), (1, 2, 3), (1, 2, 3)], np.float32)
EPS = ["0", "0.001", "0.01", "0.2"]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4, 5], list("abcdef")], ids=["integers", "text"])
@pytest.mark.parametrize(
    ("keep", "order", "match", "score"),
    [
        ("hard", [3, 2, 1, 5, 4, 0], [3, 3, 2, 1, 5, 5], [0, 0.99961, 0.99819, 0.974631, 1, 1]),
        ("easy", [0, 4, 5, 1, 2, 3], [0, 0, 0, 0, 1, 2], [0, 1, 1, 0.974631, 0.99819, 0.99961]),
    ],
)
def test_six_rows(
    tmp_path: Path,
    keep: str,
    order: list[int],
    match: list[int],
    score: list[float],
    ids: list[Any],
    metric: str,
):
    write_inputs(tmp_path / "in", ids, SIX, files=2)
    settings = make_settings(tmp_path, n_clusters=1, which_to_keep=keep, sim_metric=metric)
    put_centroids(settings, unit(SIX[:1]))
    pairs = run_stages(settings).pairs(0)
    assert [row[0] for row in pairs] == [ids[i] for i in order]
    assert [row[1] for row in pairs] == [ids[i] for i in match]
    np.testing.assert_allclose([row[2] for row in pairs], score, atol=1e-5)


def test_custom_score_descending(tmp_path: Path):
    custom = np.array([0.1, 0.8, 0.3, 0.9, 0.2, 0.15])
    write_inputs(tmp_path / "in", range(6), SIX, files=3, custom_score=custom)
    settings = make_settings(tmp_path, n_clusters=1, rank_by=["custom_score:desc"])
    assert [row[0] for row in run_stages(settings).pairs(0)] == [3, 1, 2, 4, 5, 0]


@pytest.mark.parametrize("keep", ["hard", "easy", "soft", "random"])
@pytest.mark.parametrize("n_clusters", [1, 5, 40])
def test_text_ids_agree_with_brute_force(
    tmp_path: Path, mixed: np.ndarray, names: list[str], n_clusters: int, keep: str
):
    write_inputs(tmp_path / "in", names, mixed, files=4)
    settings = make_settings(
        tmp_path,
        n_clusters=n_clusters,
        which_to_keep=keep,
        eps_thresholds=EPS,
        files_per_partition=3,
    )
    results = run_stages(settings)
    assert_as_oracle(results, names, mixed, keep=keep)
    assert results.duplicates["0"].removed >= 20


@pytest.mark.parametrize("keep", ["hard", "easy"])
def test_l2_ranks_by_the_euclidean_distance(
    tmp_path: Path, mixed: np.ndarray, names: list[str], keep: str
):
    write_inputs(tmp_path / "in", names, mixed)
    settings = make_settings(tmp_path, n_clusters=3, sim_metric="l2", which_to_keep=keep)
    assert_as_oracle(run_stages(settings), names, mixed, keep=keep, metric="l2")


@pytest.mark.parametrize("type_", [pa.int32(), pa.int64(), pa.uint64()], ids=str)
def test_integer_ids_sort_as_numbers_and_keep_their_type(
    tmp_path: Path, mixed: np.ndarray, type_: pa.DataType, rng: np.random.Generator
):
    ids = [int(i) for i in rng.permutation(2000)[:120]]
    write_inputs(tmp_path / "in", ids, mixed, files=3, id_type=type_)
    settings = make_settings(tmp_path, n_clusters=3, eps_thresholds=["0.01"])
    results = run_stages(settings)
    assert_as_oracle(results, ids, mixed)
    names = [layout.scores(0), layout.unique_ids_part("0.01", 0), layout.shard_index("0.01")]
    for name in names:
        assert read_table(results.store, name).schema.field("id").type == type_


def test_ids_with_slashes_dots_spaces_and_accents(tmp_path: Path, mixed: np.ndarray):
    marks = ["/", ".", " ", "é", "日本", "%2F", "..", "#?&=", "\\", "'\"", "\n", "🎬"]
    ids = [f"a{marks[i % len(marks)]}{i}" for i in range(120)]
    write_inputs(tmp_path / "in", ids, mixed, files=2)
    settings = make_settings(tmp_path, n_clusters=2, eps_thresholds=EPS)
    results = run_stages(settings)
    assert_as_oracle(results, ids, mixed)
    kept = set(ids) - results.removed("0.01")
    assert set(results.curated["0.01"].index["id"].to_pylist()) == kept


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("kind", ["float", "int", "text", "bool", "time", "dictionary"])
def test_metadata_ranks_with_null_and_nan_last(
    tmp_path: Path,
    mixed: np.ndarray,
    names: list[str],
    kind: str,
    descending: bool,
    rng: np.random.Generator,
):
    draws = [int(i) for i in rng.integers(0, 9, 120)]
    make: dict[str, Any] = {
        "float": lambda i: float("nan") if i == 3 else i / 7,
        "int": lambda i: i,
        "text": lambda i: f"{i}é",
        "bool": lambda i: i > 4,
        "time": lambda i: i * 1000,
        "dictionary": lambda i: f"level {i}",
    }
    types = {"time": pa.timestamp("ms"), "dictionary": pa.dictionary(pa.int8(), pa.string())}
    values = [None if i == 0 else make[kind](i) for i in draws]
    column = pa.array(values, type=types.get(kind), from_pandas=False)
    write_inputs(tmp_path / "in", names, mixed, files=2, quality=column)
    direction = "desc" if descending else "asc"
    settings = make_settings(tmp_path, n_clusters=2, rank_by=[f"quality:{direction}"])
    assert_as_oracle(run_stages(settings), names, mixed, rank_by=[(values, descending)])


def test_metadata_of_any_text_type_is_carried(tmp_path: Path, mixed: np.ndarray, names: list[str]):
    titles = [f"title {i % 7}" for i in range(120)]
    for type_ in (pa.string(), pa.large_string(), pa.string_view()):
        path = tmp_path / str(type_)
        write_inputs(path / "in", names, mixed, title=pa.array(titles, type_))
        settings = make_settings(path, n_clusters=2, rank_by=["title:asc"])
        assert_as_oracle(run_stages(settings), names, mixed, rank_by=[(titles, False)])


def test_several_rank_columns_and_the_id_descending(
    tmp_path: Path, mixed: np.ndarray, names: list[str]
):
    width = [640 + 640 * (i % 2) for i in range(120)]
    write_inputs(tmp_path / "in", names, mixed, width=width)
    settings = make_settings(tmp_path, n_clusters=2, rank_by=["width:desc", "id:desc"])
    keys = [(width, True), (names, True)]
    assert_as_oracle(run_stages(settings), names, mixed, rank_by=keys)


def test_rank_by_the_stored_distance_is_easy(tmp_path: Path, mixed: np.ndarray, names: list[str]):
    write_inputs(tmp_path / "in", names, mixed)
    settings = make_settings(tmp_path, n_clusters=2, rank_by=["cosine_dist_to_cent:asc"])
    assert_as_oracle(run_stages(settings), names, mixed, keep="easy")


def test_all_similarities_negative_are_reported_as_they_are(tmp_path: Path):
    """Corners of a tetrahedron: each pair has the cosine -1/3."""
    x = np.float32([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)])
    write_inputs(tmp_path / "in", list("abcd"), x)
    settings = make_settings(tmp_path, n_clusters=1, eps_thresholds=["0.99999"])
    results = run_stages(settings)
    rows = assert_as_oracle(results, list("abcd"), x)[0]
    np.testing.assert_allclose([row[2] for row in rows], [0, -1 / 3, -1 / 3, -1 / 3], atol=1e-6)
    assert results.removed("0.99999") == set()
