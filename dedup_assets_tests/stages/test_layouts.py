"""The layout changes names and the columns of the lists, and nothing else."""

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dedup_assets.stages.duplicates import stale_eps
from dedup_assets.stages.verify import verify_conservation, verify_removed, verify_shards
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.tables import info_of, read_table, write_table
from dedup_assets_tests.conftest import (
    Results,
    bytes_of,
    make_settings,
    run_stages,
    write_inputs,
)
from dedup_assets_tests.s3 import S3Server

EPS = "0.01"


@pytest.fixture
def both(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> tuple[Results, Results]:
    write_inputs(tmp_path / "in", names, mixed, files=2)
    cosmos, nemo = (
        run_stages(
            make_settings(
                tmp_path,
                n_clusters=3,
                eps_thresholds=[EPS, "0.1"],
                layout=name,
                output_path=str(tmp_path / name),
            )
        )
        for name in layout.LAYOUTS
    )
    return cosmos, nemo


def test_nemo_layout_has_the_same_bytes_under_other_names_but_for_the_lists(
    both: tuple[Results, Results],
):
    cosmos, nemo = (bytes_of(results.settings.storage.output_path) for results in both)
    spelled = {both[1].store.layout.on_disk(name): data for name, data in cosmos.items()}
    assert set(spelled) == set(nemo)
    lists = {name for name in nemo if name.startswith("duplicates/")}
    sizes = {layout.list_ledger(eps) for eps in both[0].settings.thresholds.eps_thresholds}
    assert {n: d for n, d in nemo.items() if n not in lists | sizes} == {
        n: d for n, d in spelled.items() if n not in lists | sizes
    }
    assert len(lists) == 6
    assert {name.split("/")[0] for name in nemo} == {
        *("clustering_results", "duplicates", "embeddings", "extraction", "kmeans", "pairwise"),
        "shards",
    }
    for results in both:
        assert both[0].removed(EPS) == results.removed(EPS) != set()
    for name in lists:
        whole = pq.read_table(both[0].store.path(both[1].store.layout.inside("", name)))
        assert pq.read_table(both[1].store.path(name)).equals(whole.select(["id"]))


def test_every_check_holds_and_a_second_run_changes_nothing(both: tuple[Results, Results]):
    for results in both:
        before = bytes_of(results.settings.storage.output_path)
        again = run_stages(results.settings)
        assert all(found.reused == 3 for found in again.duplicates.values())
        assert bytes_of(results.settings.storage.output_path) == before
        for verify in (verify_conservation, verify_removed, verify_shards):
            verdict = verify(Snapshot(results.settings, results.store), EPS)
            assert verdict.passed, verdict.description
        assert stale_eps(Snapshot(results.settings, results.store)) == []


def test_fewer_clusters_leave_no_file_of_the_others(both: tuple[Results, Results]):
    for results in both:
        fewer = results.settings.replace(n_clusters=2)
        run_stages(fewer)
        there = " ".join(bytes_of(results.settings.storage.output_path))
        for left in ("cent=2/", "centroid=2/", "cluster_2.", "part.2."):
            assert left not in there


def test_checks_see_a_wrong_id_in_a_list_of_ids_alone(both: tuple[Results, Results]):
    """The pair that such a list leaves out is the one of the pruning table."""
    results = both[1]
    part = next(
        name
        for c in range(3)
        if read_table(results.store, name := layout.unique_ids_part(EPS, c)).num_rows > 2
    )
    table = read_table(results.store, part)
    cluster = int(part.split(".")[-2])
    kept = {i for i, _, _ in results.pairs(cluster)} - results.removed(EPS)
    for wrong in (min(kept), "a clip of nowhere"):
        ids = [wrong, *table["id"].to_pylist()[1:]]
        changed = table.set_column(0, table.schema.field(0), [ids])
        write_table(results.store, part, changed, info_of(table.schema))
        verdict = verify_removed(Snapshot(results.settings, results.store), EPS)
        assert not verdict.passed
        assert verdict.numbers["wrong"] == 1


def test_nemo_layout_on_s3_is_written_read_and_reused(
    s3: S3Server, tmp_path: Path, mixed: np.ndarray, names: list[str]
):
    write_inputs(tmp_path / "in", names, mixed, files=2)
    settings = make_settings(
        tmp_path, n_clusters=3, layout="nemo", eps_thresholds=[EPS], output_path=s3.url("out")
    )
    results = run_stages(settings)
    assert results.removed(EPS)
    assert verify_removed(Snapshot(settings, results.store), EPS).passed
    there = s3.names("out/")
    assert {name.split("/")[1] for name in there} >= {"kmeans", "pairwise", "duplicates"}
    assert not [name for name in there if re.search("nearest_cent=|pruning|unique_ids", name)]
    assert run_stages(settings).duplicates[EPS].reused == 3
    assert s3.names("out/") == there
