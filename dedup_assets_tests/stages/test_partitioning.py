"""What the shuffle writes; reading ahead, writing behind and spilling change nothing of it."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dedup_assets.errors import InputError, StaleError
from dedup_assets.settings import Settings
from dedup_assets.stages import shuffle_groups
from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.partitioning import Shuffled, shuffle
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import read_table
from dedup_assets_tests.conftest import (
    bytes_of,
    make_settings,
    run_stages,
    write_inputs,
    write_parquet,
)
from dedup_assets_tests.stages.oracle import assert_as_oracle, normalised

OPTIONS: dict[str, Any] = {
    "n_clusters": 5,
    "files_per_partition": 2,
    "metadata_fields": ["title", "kind"],
}


@pytest.fixture
def prepared(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> Settings:
    """Five files in three groups, and centroids."""
    kinds = pa.array(["a", "b", None, "c"] * 30).dictionary_encode()
    titles = [None if i % 7 == 0 else f"clip {i} " * (i % 5) for i in range(120)]
    write_inputs(tmp_path / "in", names, mixed, files=5, title=titles, kind=kinds, row_group_size=9)
    settings = make_settings(tmp_path, **OPTIONS)
    store = Store(settings.storage.output_path)
    fit_centroids(settings, store, list_embeddings(settings, store), refit=False)
    return settings


def copied(settings: Settings, path: Path) -> Settings:
    """The same input and centroids with another output."""
    shutil.copytree(settings.storage.output_path, path)
    return settings.replace(output_path=str(path))


def shuffled(settings: Settings, **options: Any) -> Shuffled:
    return shuffle(
        Snapshot(settings, Store(settings.storage.output_path)),
        list(cluster_ranges(settings)),
        **options,
    )


def fragments(settings: Settings) -> dict[str, bytes]:
    found = bytes_of(settings.storage.output_path)
    return {k: v for k, v in found.items() if k.startswith((layout.CLUSTERS, layout.PARTITIONS))}


def background() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(("read-ahead", "write-behind"))]


@pytest.fixture
def expected(prepared: Settings, tmp_path: Path) -> dict[str, bytes]:
    """What comes of it in one thread with room for everything."""
    plain = copied(prepared, tmp_path / "plain")
    assert shuffled(plain, background=False).spilled_bytes == 0
    return fragments(plain)


@pytest.mark.parametrize("in_background", [True, False])
@pytest.mark.parametrize("budget", [1, 5_000, 12_000, 50_000, 10**9])
def test_bytes_written_do_not_depend_on_threads_budgets_or_batches(
    prepared: Settings, expected: dict[str, bytes], tmp_path: Path, in_background: bool, budget: int
):
    """The budget decides the size of the batches too: from one row to a whole file."""
    other = copied(prepared, tmp_path / "other").replace(memory_budget=budget)
    found = shuffled(other, background=in_background)
    assert fragments(other) == expected
    assert (found.spilled_bytes > 0) == (budget < 50_000)
    assert found.fragments == sum("nearest_cent=" in name for name in expected)
    assert not background()


@pytest.mark.parametrize("in_background", [True, False])
def test_only_the_fragments_asked_for_are_written(
    prepared: Settings, expected: dict[str, bytes], in_background: bool
):
    store = Store(prepared.storage.output_path)
    for key in list(cluster_ranges(prepared))[::-1]:
        shuffle(Snapshot(prepared, store), [key], background=in_background)
    assert fragments(prepared) == expected


@pytest.mark.parametrize("in_background", [True, False])
def test_a_damaged_file_is_named_and_earlier_groups_stay_finished(
    prepared: Settings, in_background: bool, monkeypatch: pytest.MonkeyPatch
):
    """The fourth of five files, so the first group is done and the second is not."""
    damaged = Path(prepared.source.input_embeddings_path) / "003.parquet"
    damage(damaged)
    monkeypatch.setattr(shuffle_groups, "check_unchanged", lambda *_: None)
    with pytest.raises(InputError, match=r"003\.parquet is not a readable Parquet file"):
        shuffled(prepared, background=in_background)
    assert not background()
    assert any("nearest_cent=" in name for name in fragments(prepared))


def damage(file: Path) -> None:
    """Overwrite the pages and keep the footer."""
    data = bytearray(file.read_bytes())
    data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("in_background", [True, False])
def test_a_file_that_changed_is_named(prepared: Settings, in_background: bool):
    file = Path(prepared.source.input_embeddings_path) / "002.parquet"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(StaleError, match=r"002\.parquet changed since embeddings"):
        shuffled(prepared, background=in_background)
    assert not background()


@pytest.mark.parametrize("in_background", [True, False])
def test_an_invalid_row_is_named_in_the_order_of_the_files(
    tmp_path: Path, mixed: np.ndarray, names: list[str], in_background: bool
):
    """A later file may be read sooner; still the first invalid row is the one that is named."""
    write_inputs(tmp_path / "in", names, mixed, files=6)
    for number in (4, 2):
        rows = mixed[20 * number : 20 * number + 20].copy()
        rows[3] = 0
        ids = names[20 * number : 20 * number + 20]
        write_parquet(tmp_path / "in" / f"00{number}.parquet", ids, rows)
    settings = make_settings(tmp_path, n_clusters=2)
    store = Store(settings.storage.output_path)
    quarantine = settings.replace(on_invalid="quarantine")
    fit_centroids(quarantine, store, list_embeddings(settings, store), refit=False)
    with pytest.raises(InputError, match=r"row 3 of 002\.parquet"):
        shuffled(settings, background=in_background)
    assert not background()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("where", ["to_device", "fingerprint"])
def test_threads_are_gone_after_an_interrupt_and_a_second_run_mends_it(
    prepared: Settings,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
    where: str,
):
    """While rows are assigned, and while fragments are written."""
    real = getattr(shuffle_groups, where)
    count = iter(range(100))

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if next(count) == 7:
            raise error
        return real(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(shuffle_groups, where, interrupted)
        shuffled(prepared)
    assert not background()
    assert not list(Path(prepared.storage.output_path).glob(".tmp/*"))
    shuffled(prepared)
    assert fragments(prepared) == expected


def test_a_fragment_that_cannot_be_written_is_named_and_not_committed(prepared: Settings):
    """Its name is a file where a folder should be."""
    in_the_way = Path(prepared.storage.output_path) / layout.cluster_folder(3)
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_bytes(b"")
    with pytest.raises(OSError, match="nearest_cent=3"):
        shuffled(prepared)
    assert not background()
    key = list(cluster_ranges(prepared))[3]
    assert not (Path(prepared.storage.output_path) / layout.partition_commit(key)).exists()


@pytest.mark.parametrize("form", ["list", "large_list", "fixed_size_list"])
@pytest.mark.parametrize("value_type", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("nullable", [True, False])
def test_vectors_of_any_form_come_out_as_the_oracle_has_them(
    tmp_path: Path,
    mixed: np.ndarray,
    names: list[str],
    form: str,
    value_type: pa.DataType,
    nullable: bool,
):
    """Float16 rounds the input itself, so the oracle gets the rounded rows."""
    rows = mixed.astype(value_type.to_pandas_dtype())
    write_inputs(
        tmp_path / "in",
        names,
        rows,
        files=3,
        form=form,
        value_type=value_type,
        nullable=nullable,
        row_group_size=17,
    )
    settings = make_settings(tmp_path, n_clusters=3, memory_budget=20_000)
    assert_as_oracle(run_stages(settings, curate=False), names, rows)


def test_fragments_hold_the_unit_rows_sorted_by_id_with_both_distances(
    tmp_path: Path, mixed: np.ndarray, names: list[str]
):
    write_inputs(tmp_path / "in", names[::-1], mixed, title=[f"t{i}" for i in range(120)])
    settings = make_settings(tmp_path, n_clusters=3, metadata_fields=["title"])
    results = run_stages(settings)
    unit_rows = dict(zip(names[::-1], normalised(mixed), strict=True))
    seen = []
    for file in results.store.list(layout.CLUSTERS):
        table = read_table(results.store, f"{layout.CLUSTERS}/{file}")
        assert table.column_names == [
            *("id", "embedding", "cosine_dist_to_cent", "l2_dist_to_cent", "title")
        ]
        ids = table["id"].to_pylist()
        assert ids == sorted(ids)
        seen += ids
        centroid = results.centroids.values[int(file.split("/")[0].partition("=")[2])]
        for row in table.to_pylist():
            np.testing.assert_array_equal(np.float32(row["embedding"]), unit_rows[row["id"]])
            distance = np.linalg.norm(unit_rows[row["id"]].astype(float) - centroid)
            assert row["l2_dist_to_cent"] == pytest.approx(distance, rel=1e-6)
            assert row["title"] == f"t{names[::-1].index(row['id'])}"
    assert sorted(seen) == names


def test_empty_cluster_has_no_fragment_but_tables_with_schema_and_no_rows(tmp_path: Path):
    x = np.tile(np.float32([1, 2]), (5, 1))
    write_inputs(tmp_path / "in", list("abcde"), x)
    settings = make_settings(tmp_path, n_clusters=3, eps_thresholds=["0"])
    results = run_stages(settings)
    assert {f.split("/")[0] for f in results.store.list(layout.CLUSTERS)} == {"nearest_cent=0"}
    for name in (layout.scores(2), layout.unique_ids_part("0", 2)):
        table = read_table(results.store, name)
        assert table.num_rows == 0
        assert table.column_names == ["id", "max_id", "cosine_sim_score"]
    assert results.duplicates["0"].removed == 4
