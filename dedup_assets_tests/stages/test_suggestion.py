"""What is measured before clusters are suggested, and that nothing is left behind."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dedup_assets.compute.cost import predict
from dedup_assets.errors import InputError, SettingsError
from dedup_assets.settings import Settings
from dedup_assets.stages import calibration, machine, suggestion
from dedup_assets.stages.calibration import read_sample
from dedup_assets.stages.embeddings import list_embeddings, survey_embeddings
from dedup_assets.stages.suggestion import Measured, measure, suggest, survey, workload
from dedup_assets.store.filesystem import Store
from dedup_assets_tests.conftest import bytes_of, make_settings, unit, write_inputs

pytestmark = pytest.mark.slow

DIM = 8


def ids(n: int) -> list[str]:
    return [f"c{i}" for i in range(n)]


def given(tmp_path: Path, rng: np.random.Generator, n: int, **options: Any) -> Settings:
    write_inputs(tmp_path / "in", ids(n), rng.normal(size=(n, DIM)), files=options.pop("files", 1))
    return make_settings(tmp_path, n_clusters=1, **options)


def measured(settings: Settings) -> Measured:
    return measure(settings, survey(settings))


@pytest.mark.parametrize("n", [1, 2, 70, 3000])
def test_any_input_can_be_measured_and_leaves_nothing(
    tmp_path: Path, rng: np.random.Generator, n: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    settings = given(tmp_path, rng, n)
    before = bytes_of(tmp_path / "in")
    found = measured(settings)
    choice = suggest(settings, found, 1e9)
    assert (choice.clusters, choice.within_budget) == (1, True)
    assert all(np.isfinite(p.total) and p.total > 0 for p in choice.predictions.values())
    assert max(choice.predictions) == n
    assert bytes_of(tmp_path / "in") == before
    assert list((tmp_path / "scratch").iterdir()) == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value_type", [pa.float16(), pa.float32(), pa.float64()])
def test_all_vector_types_columns_and_rankings_can_be_measured(
    tmp_path: Path, rng: np.random.Generator, value_type: pa.DataType
):
    write_inputs(
        tmp_path / "in",
        list(range(300)),
        rng.normal(size=(300, DIM)),
        files=3,
        value_type=value_type,
        id_field="clip",
        embedding_field="vector",
        quality=rng.normal(size=300),
        title=[f"title {i}" for i in range(300)],
    )
    settings = make_settings(
        tmp_path,
        n_clusters=1,
        id_field="clip",
        embedding_field="vector",
        metadata_fields=["title"],
        rank_by=["quality:desc"],
    )
    assert suggest(settings, measured(settings), 1e9).clusters == 1


def test_a_survey_is_what_a_run_lists(tmp_path: Path, rng: np.random.Generator):
    settings = given(tmp_path, rng, 90, files=3)
    listed = list_embeddings(settings, Store(settings.storage.output_path))
    assert survey_embeddings(settings) == replace(listed, group_of=None)


def test_sample_comes_from_files_all_over_the_listing(tmp_path: Path, rng: np.random.Generator):
    """Inputs are often sorted by where they come from, so the first file is not like the last."""
    n = 100
    vectors = np.eye(10)[np.repeat(np.arange(10), 10)]  # file i holds axis i
    write_inputs(tmp_path / "in", ids(n), vectors, files=10)
    settings = make_settings(tmp_path, n_clusters=1)
    sample = read_sample(settings, survey_embeddings(settings))
    assert sorted(set(sample.rows.argmax(axis=1).tolist())) == [0, 3, 6, 9]


def test_sample_is_no_larger_than_its_budget(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(calibration, "_SAMPLE_BYTES", 4 * DIM * 20)
    settings = given(tmp_path, rng, 300, files=2)
    sample = read_sample(settings, survey_embeddings(settings))
    assert sample.rows.shape == sample.vectors.shape == (20, DIM)


def test_invalid_row_is_named_as_a_run_would(tmp_path: Path, rng: np.random.Generator):
    vectors = rng.normal(size=(30, DIM))
    vectors[7] = np.nan
    write_inputs(tmp_path / "in", ids(30), vectors)
    settings = make_settings(tmp_path, n_clusters=1)
    with pytest.raises(InputError, match=r"row 7 of 000\.parquet \(id 'c7'\) is invalid: NaN"):
        measured(settings)
    aside = make_settings(tmp_path, n_clusters=1, on_invalid="quarantine")
    assert len(read_sample(aside, survey_embeddings(aside)).rows) == 29


def test_without_any_valid_row_it_says_where_it_looked(tmp_path: Path):
    write_inputs(tmp_path / "in", ids(4), np.zeros((4, DIM)), files=2)
    settings = make_settings(tmp_path, n_clusters=1, on_invalid="quarantine")
    with pytest.raises(InputError, match=r"first rows of 000\.parquet"):
        measured(settings)


def test_a_missing_gpu_is_one_line(tmp_path: Path, rng: np.random.Generator, monkeypatch: Any):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    settings = given(tmp_path, rng, 30, device="cuda")
    with pytest.raises(SettingsError, match="device=cuda needs"):
        measured(settings)


def test_workload_follows_the_settings(tmp_path: Path, rng: np.random.Generator):
    settings = given(tmp_path, rng, 100, files=5)
    found = measured(settings)
    work = workload(settings, found)
    assert (work.rows, work.dim) == (100, DIM)
    assert (work.fit_rows(1), work.groups(1)) == (100, 1)
    fewer = settings.replace(fit_data_fraction=0.2, files_per_partition=2)
    assert workload(fewer, found).fit_rows(1) == 20
    assert workload(fewer, found).groups(1) == 3
    assert max(suggest(fewer, found, 0).predictions) == 20


def test_a_cluster_has_to_fit_three_times_beside_the_budget(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    """Read, put in order and compared, a cluster is there up to three times."""
    settings = given(tmp_path, rng, 100, memory_budget=1000)
    monkeypatch.setattr(suggestion, "free_memory", lambda: 500 + 3 * 1600)
    found = measured(settings)
    assert found.free_bytes == 1600
    work = workload(settings, found)
    assert not predict(work, found.rates, 1).in_memory  # 100 * 8 * 4 = 3,200 bytes
    assert suggest(settings, found, 1e9).clusters > 1
    with monkeypatch.context() as on_a_gpu:
        on_a_gpu.setattr(suggestion, "resolve_device", lambda device: "cuda")
        on_a_gpu.setattr(suggestion, "compute_budget", lambda settings: 2 * 3 * 1200)
        assert measured(settings).free_bytes == 1200
    monkeypatch.setattr(suggestion, "free_memory", lambda: None)
    assert measured(settings).free_bytes is None


def test_where_no_cluster_fits_it_says_so(tmp_path: Path, rng: np.random.Generator):
    settings = given(tmp_path, rng, 100)
    with pytest.raises(InputError, match="cannot be cut into clusters that fit"):
        suggest(settings, replace(measured(settings), free_bytes=0), 1e9)


def test_free_memory_is_what_the_system_or_the_container_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    info, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_MEMORY", info)
    group = (tmp_path, "memory.max", "memory.current", "inactive_file")
    monkeypatch.setattr(machine, "_CGROUPS", (group,))
    assert machine.free_memory() is None
    info.write_text("MemTotal:  9000 kB\nMemFree:  10 kB\nMemAvailable:  2000 kB\n")
    assert machine.free_memory() == 2000 * 1024
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 600000\nactive_file 1\ninactive_file 90000\n")
    limit.write_text("max\n")
    assert machine.free_memory() == 2000 * 1024
    limit.write_text("1000000\n")
    assert machine.free_memory() == 300_000 + 90_000  # pages of files are given back when asked
    limit.write_text("500000\n")
    assert machine.free_memory() == 0
    assert machine.free_device_memory("cpu") is None


def test_sample_rows_are_unit_rows(tmp_path: Path, rng: np.random.Generator):
    settings = given(tmp_path, rng, 40)
    sample = read_sample(settings, survey_embeddings(settings))
    np.testing.assert_allclose(sample.rows, unit(sample.vectors), atol=1e-6)


def test_uneven_groups_are_seen(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    """Two groups of 900 and 100 rows: 2 (0.81 + 0.01) = 1.64, and 2 * 0.9."""
    monkeypatch.setattr(calibration, "_FIT_ROWS_PER_CENTROID", 500)
    centres = np.eye(2)[np.repeat([0, 1], [900, 100])]
    x = unit(centres + 0.01 * rng.normal(size=(1000, 2)))[rng.permutation(1000)]
    rates = calibration._measure_arithmetic(make_settings(tmp_path, n_clusters=1), x)
    assert rates.squares == pytest.approx(1.64)
    assert rates.largest == pytest.approx(1.8)
