"""The new rows of `benchmarks.increments` are new, and lie where they are said to lie."""

import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import increment_runs
from benchmarks.increment_data import make_growing, make_near
from benchmarks.watched import Watch
from dedup_assets.command.settings_file import write_settings
from dedup_assets.compute.assign import nearest_centroids
from dedup_assets.state.snapshot import Snapshot
from dedup_assets_tests.conftest import make_settings, run_stages

pytestmark = pytest.mark.slow


def test_new_rows_have_other_ids_and_lie_in_few_clusters(tmp_path: Path):
    files = [tmp_path / "everywhere.parquet", tmp_path / "near.parquet"]
    made = make_growing(str(tmp_path / "in"), str(files[0]), rows=1000, dim=8, centres=5, seed=1)
    assert (made["rows"], made["new_rows"]) == (1000, 10)
    settings = make_settings(tmp_path, n_clusters=5)
    results = run_stages(settings)
    write_settings(settings, results.store)
    near = make_near(str(files[1]), settings.storage.output_path, rows=40, seed=2)
    assert near == {"rows": 40, "clusters": 1}
    inputs = sorted((tmp_path / "in").iterdir())
    tables = [pq.read_table(path) for path in [*inputs, *files]]
    ids = [id_ for table in tables for id_ in table["id"].to_pylist()]
    assert len(ids) == len(set(ids)) == 1050
    rows = np.array(tables[-1]["embedding"].to_pylist(), dtype=np.float32)
    centroids = Snapshot(settings, results.store).centroids.values
    assert len(set(nearest_centroids(rows, centroids).label.tolist())) == 1


def test_what_the_command_says_of_new_rows_is_found():
    said = (
        "  embeddings: input files: 1 new\n  cluster_partitions (3 of 3 keys): follows embeddings\n"
        "computed cluster_partitions 1 of 2 file groups (1,200 rows), pairwise_scores 2 of 1,000 "
        "clusters, duplicate_ids 2 of 1,000 lists; the rest was current\n"
    )
    assert increment_runs.what_was_new(said) == {
        "files": "1 new",
        "rows": "1,200",
        "clusters": "2 of 1,000",
        "lists": "2 of 1,000",
    }
    assert increment_runs.what_was_new("everything was current") == {}


def test_files_that_are_read_and_written_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hooks = []
    monkeypatch.setattr(sys, "addaudithook", hooks.append)  # a real one stays for ever
    watch = Watch(str(tmp_path / "out"))
    (hook,) = hooks
    for folder in ("out", "in"):
        hook("open", (str(tmp_path / folder / "k=1" / "a.parquet"), "rb", os.O_RDONLY))
    hook("open", (str(tmp_path / "out" / "k=1" / "a.parquet"), None, os.O_RDONLY))
    hook("open", (str(tmp_path / "out" / ".tmp" / "x-1"), "wb", os.O_WRONLY))
    for _ in range(2):  # the folder was not there
        names = (tmp_path / "out" / ".tmp" / "x-1", tmp_path / "out" / "b.parquet")
        hook("os.rename", (*names, -1, -1))
    hook("open", (str(tmp_path / "out" / "settings.json"), "rb", os.O_RDONLY))
    found = watch.record()
    assert (found["parquet_read"], found["parquet_written"]) == (1, 1)
    assert found["written_by_folder"] == {"": 1}
