"""Each format goes through all stages, with the same results as Parquet."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_assets.errors import InputError, SettingsError, StaleError
from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.overlaps import refuse_overlaps
from dedup_assets.stages.shards import write_shards
from dedup_assets.state.manifest import load_manifest
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
from dedup_assets_tests.s3 import S3Server

EPS = "0.01"


def write_jsonl(path: Path, names: list[str], rows: np.ndarray) -> None:
    path.mkdir()
    for number, part in enumerate(np.array_split(np.arange(len(names)), 3)):
        lines = [json.dumps({"id": names[i], "embedding": rows[i].tolist()}) for i in part]
        (path / f"{number}.jsonl").write_text("\n".join(lines))


def write_npy(path: Path, names: list[str], rows: np.ndarray) -> None:
    path.mkdir()
    for name, row in zip(names, rows, strict=True):
        np.save(path / f"{name}.npy", row)


def write_zip(path: Path, names: list[str], rows: np.ndarray) -> None:
    write_inputs(path / "in", names, rows, files=3)
    zip_folder(path / "in", path / "in.zip")
    shutil.rmtree(path / "in")


def zip_folder(folder: Path, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))


WRITERS: dict[str, tuple[Callable[[Path, list[str], np.ndarray], None], str]] = {
    "jsonl": (write_jsonl, ""),
    "npy": (write_npy, ""),
    "zip": (write_zip, "/in.zip"),
}


@pytest.mark.parametrize("form", WRITERS)
def test_results_are_those_of_parquet(
    tmp_path: Path, mixed: np.ndarray, names: list[str], form: str
):
    write, suffix = WRITERS[form]
    write_inputs(tmp_path / "a" / "in", names, mixed)
    (tmp_path / "b").mkdir()
    write(tmp_path / "b" / "in", names, mixed)
    options: dict[str, Any] = {"n_clusters": 3, "eps_thresholds": [EPS]}
    expected = run_stages(make_settings(tmp_path / "a", **options))
    path = f"{tmp_path}/b/in{suffix}"
    found = run_stages(make_settings(tmp_path / "b", input_embeddings_path=path, **options))
    assert found.manifest.rows == 120
    assert found.removed(EPS) == expected.removed(EPS)
    assert found.all_pairs() == expected.all_pairs()
    assert all(commit.groups for commit in found.shuffled.commits.values())


@pytest.mark.parametrize("form", WRITERS)
def test_a_second_run_finds_everything_current(
    tmp_path: Path, mixed: np.ndarray, names: list[str], form: str
):
    write, suffix = WRITERS[form]
    write(tmp_path / "in", names, mixed)
    path = f"{tmp_path}/in{suffix}"
    settings = make_settings(tmp_path, input_embeddings_path=path, n_clusters=2)
    run_stages(settings)
    before = bytes_of(settings.storage.output_path)
    again = run_stages(settings)
    assert again.shuffled.reused == again.shuffled.groups
    assert bytes_of(settings.storage.output_path) == before


def test_one_more_file_in_a_zip_leaves_the_others_as_they_are(
    tmp_path: Path, mixed: np.ndarray, names: list[str]
):
    write_inputs(tmp_path / "in", names[:100], mixed[:100], files=5)
    zip_folder(tmp_path / "in", tmp_path / "in.zip")
    settings = make_settings(
        tmp_path,
        input_embeddings_path=str(tmp_path / "in.zip"),
        n_clusters=2,
        files_per_partition=1,
    )
    run_stages(settings)
    write_parquet(tmp_path / "in" / "z.parquet", names[100:], mixed[100:])
    zip_folder(tmp_path / "in", tmp_path / "in.zip")
    again = run_stages(settings)
    assert (again.shuffled.groups, again.shuffled.reused) == (6, 5)


def test_a_zip_that_was_made_again_with_other_rows_is_stale(
    tmp_path: Path, mixed: np.ndarray, names: list[str]
):
    write_zip(tmp_path / "in", names, mixed)
    path = tmp_path / "in" / "in.zip"
    settings = make_settings(tmp_path, input_embeddings_path=str(path), n_clusters=2)
    list_embeddings(settings, Store(settings.storage.output_path))
    shutil.rmtree(tmp_path / "in")
    write_zip(tmp_path / "in", names, mixed[::-1])
    with pytest.raises(StaleError, match=r"000\.parquet changed since embeddings"):
        store = Store(settings.storage.output_path)
        fit_centroids(settings, store, load_manifest(settings, store), refit=False)


@pytest.mark.parametrize("zipped", [False, True])
def test_clips_of_a_split_output_are_written_to_the_shards(
    tmp_path: Path, mixed: np.ndarray, names: list[str], zipped: bool
):
    root = tmp_path / "in"
    write_inputs(root / "iv2_embd_parquet", names, mixed)
    (root / "clips").mkdir()
    for name in names:
        (root / "clips" / f"{name}.mp4").write_bytes(name.encode() * 9)
    path = root
    if zipped:
        path = tmp_path / "in.zip"
        zip_folder(root, path)
        shutil.rmtree(root)
    settings = make_settings(
        tmp_path, input_embeddings_path=str(path), n_clusters=2, eps_thresholds=[EPS]
    )
    results = run_stages(settings)
    curated = results.curated[EPS]
    assert curated.clips == f"{path}/clips"
    assert curated.missing == 0
    assert all(size > 0 for size in curated.index["size"].to_pylist())
    assert write_shards(Snapshot(settings, results.store), EPS).reused
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "x.mp4").write_bytes(b"x")
    other = settings.replace(clips_path=str(tmp_path / "others"))
    with pytest.raises(InputError, match=f"no media file below {tmp_path}/others"):
        write_shards(Snapshot(other, results.store), EPS)


def test_the_output_may_lie_in_a_split_output_but_not_in_its_clips(
    tmp_path: Path, mixed: np.ndarray, names: list[str]
):
    write_inputs(tmp_path / "in" / "iv2_embd_parquet", names, mixed)
    (tmp_path / "in" / "clips").mkdir()
    (tmp_path / "in" / "clips" / "x.mp4").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "in" / "clips")
    for folder, fails in (
        *(("dedup", False), ("clips/dedup", True), ("iv2_embd_parquet/d", True), ("", True)),
        *(("..", True), ("../link/dedup", True), ("iv2_embd_parquet", True), ("clips", True)),
    ):
        output = str(tmp_path / "in" / folder)
        settings = make_settings(tmp_path, output_path=output, n_clusters=2)
        if fails:
            with pytest.raises(SettingsError, match="must not overlap"):
                refuse_overlaps(settings)
        else:
            refuse_overlaps(settings)
            assert list_embeddings(settings, Store(output)).clips == f"{tmp_path}/in/clips"


@pytest.mark.parametrize("form", ["jsonl", "npy"])
def test_invalid_rows_fail_by_name_or_are_set_aside(
    tmp_path: Path, mixed: np.ndarray, names: list[str], form: str
):
    rows = mixed.copy()
    rows[7, 3], rows[50] = np.nan, 0
    WRITERS[form][0](tmp_path / "in", names, rows)
    settings = make_settings(tmp_path, n_clusters=2, eps_thresholds=[EPS])
    file, row = {"jsonl": ("0.jsonl", 7), "npy": ("clip-007.npy", 0)}[form]
    with pytest.raises(InputError, match=rf"row {row} of {file} \(id 'clip-007'\) .*: NaN"):
        run_stages(settings)
    results = run_stages(settings.replace(on_invalid="quarantine"))
    assert (results.duplicates[EPS].total, results.duplicates[EPS].rejected) == (118, 2)
    tables = [
        read_table(results.store, f"{layout.REJECTED}/{name}").to_pylist()
        for name in results.store.list(layout.REJECTED)
    ]
    found = {(r["id"], r["file"], r["reason"]) for rows in tables for r in rows}
    second = {"jsonl": "1.jsonl", "npy": "clip-050.npy"}[form]
    assert found == {
        ("clip-007", file, "NaN or infinite value"),
        ("clip-050", second, "zero vector"),
    }


def test_repeated_ids_in_two_folders_of_arrays_are_refused(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        np.save(tmp_path / "in" / folder / "x.npy", np.ones(3))
    settings = make_settings(tmp_path, n_clusters=1)
    with pytest.raises(InputError, match="ids must be unique, and 1 occur more than once: 'x'"):
        list_embeddings(settings, Store(settings.storage.output_path))


def test_a_zip_on_s3_goes_through_all_stages(
    tmp_path: Path, mixed: np.ndarray, names: list[str], s3: S3Server
):
    write_zip(tmp_path / "in", names, mixed)
    s3.put("up/in.zip", (tmp_path / "in" / "in.zip").read_bytes())
    url = s3.url("up/in.zip")
    settings = make_settings(tmp_path, input_embeddings_path=url, n_clusters=2)
    results = run_stages(settings)
    assert sum(map(len, results.all_pairs())) == 120
