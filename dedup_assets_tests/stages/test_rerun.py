"""What is current stays, what is stale is refused or replaced, and nothing is left over."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_assets.compute.arrays import DeviceError
from dedup_assets.errors import DedupError, SettingsError, StaleError
from dedup_assets.stages import ranked
from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.duplicates import list_duplicates, stale_eps
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.histogram import build_histogram
from dedup_assets.stages.partitioning import shuffle
from dedup_assets.stages.scores import score
from dedup_assets.stages.shards import write_shards
from dedup_assets.state.centroids import load_centroids
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import read_table
from dedup_assets_tests.conftest import (
    Results,
    bytes_of,
    make_settings,
    run_stages,
    unit,
    write_inputs,
    write_parquet,
)
from dedup_assets_tests.stages.oracle import assert_as_oracle

OPTIONS: dict[str, Any] = {
    "n_clusters": 4,
    "clusters_per_partition": 2,
    "files_per_partition": 1,
    "eps_thresholds": ["0.01"],
}


@pytest.fixture
def done(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> Results:
    write_inputs(tmp_path / "in", names, mixed, files=3)
    return run_stages(make_settings(tmp_path, **OPTIONS))


def reused_scores(results: Results) -> int:
    return sum(key.reused for key in results.scores.values())


def test_a_second_run_reuses_everything_and_leaves_all_bytes(done: Results):
    before = bytes_of(done.settings.storage.output_path)
    again = run_stages(done.settings)
    assert again.centroids.reused
    assert (again.shuffled.reused, again.shuffled.groups) == (3, 3)
    assert again.shuffled.removed == 0
    assert reused_scores(again) == 4
    assert again.duplicates["0.01"].reused == 4
    assert again.curated["0.01"].reused
    assert bytes_of(done.settings.storage.output_path) == before


def test_files_with_digits_of_other_scripts_are_left_alone(done: Results):
    """They were taken for those of clusters beyond the last, and deleted, or for no number."""
    output = Path(done.settings.storage.output_path)
    odd = [
        *(f"{layout.SCORES}/cluster_{digit}.parquet" for digit in ("\u00b2", "\u0669")),
        *(f"{layout.unique_ids('0.01')}/part.{digit}.parquet" for digit in ("\u00b2", "\u0669")),
        *(f"{layout.CLUSTERS}/nearest_cent={digit}/x.parquet" for digit in ("\u00b2", "\u0669")),
    ]
    for name in odd:
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_bytes(b"mine")
    run_stages(done.settings)
    assert all((output / name).read_bytes() == b"mine" for name in odd)


def test_a_run_from_nothing_leaves_the_same_bytes(done: Results, tmp_path: Path):
    other = done.settings.replace(output_path=str(tmp_path / "other"))
    run_stages(other)
    assert bytes_of(other.storage.output_path) == bytes_of(done.settings.storage.output_path)


@pytest.mark.parametrize(
    "lost",
    [
        layout.MANIFEST,
        layout.CENTROIDS,
        layout.CENTROIDS_INFO,
        layout.partition_commit("0-1"),
        "fragment",
        layout.scores(2),
        layout.unique_ids_part("0.01", 1),
        layout.summary("0.01"),
        layout.shard_index("0.01"),
    ],
)
def test_a_lost_file_is_made_again_and_the_rest_is_the_same(done: Results, lost: str):
    out = Path(done.settings.storage.output_path)
    before = bytes_of(out)
    if lost == "fragment":
        lost = next(name for name in before if "nearest_cent=" in name)
    (out / lost).unlink()
    run_stages(done.settings)
    assert bytes_of(out) == before


def test_a_lost_fragment_is_named_by_the_step_that_reads_it(done: Results):
    fragment = next(Path(done.settings.storage.output_path).glob("**/nearest_cent=*/*.parquet"))
    fragment.unlink()
    for key in cluster_ranges(done.settings):
        done.store.delete(layout.score_ledger(key))
    with pytest.raises(StaleError, match=f"{fragment.name} is missing; materialize cluster_part"):
        score(Snapshot(done.settings, done.store), list(cluster_ranges(done.settings)))


def test_a_lost_ledger_is_named_by_partition_and_made_again_from_whole_tables(done: Results):
    before = bytes_of(done.settings.storage.output_path)
    Path(done.store.path(layout.score_ledger("2-3"))).unlink()
    Path(done.store.path(layout.scores(2))).unlink()
    says = "scores of 2 of 4 clusters are missing or stale; .* pairwise_scores for partitions 2-3$"
    for step in (
        lambda: build_histogram(Snapshot(done.settings, done.store)),
        lambda: list_duplicates(Snapshot(done.settings, done.store), "0.01"),
        lambda: write_shards(Snapshot(done.settings, done.store), "0.01"),
    ):
        with pytest.raises(StaleError, match=says):
            step()
    again = run_stages(done.settings)
    assert reused_scores(again) == 2
    assert sum(key.searched for key in again.scores.values()) == len(done.pairs(2))
    assert bytes_of(done.settings.storage.output_path) == before


@pytest.mark.parametrize("cut", [False, True])
def test_a_pruning_table_that_is_absent_or_cut_is_written_again_from_the_ledger(
    done: Results, cut: bool
):
    before = bytes_of(done.settings.storage.output_path)
    path = Path(done.store.path(layout.scores(2)))
    path.write_bytes(path.read_bytes()[:100]) if cut else path.unlink()
    list_duplicates(Snapshot(done.settings, done.store), "0.01")  # which does not read it
    for fragment in Path(done.settings.storage.output_path).glob("**/nearest_cent=2/*.parquet"):
        fragment.unlink()  # so nothing can be compared
    again = score(Snapshot(done.settings, done.store), ["2-3"])
    assert again["2-3"].reused == 2
    assert path.read_bytes() == before["extraction/semdedup_pruning_tables/cluster_2.parquet"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"n_clusters": 3}, "fitted with other settings .*n_clusters.* materialize centroids"),
        ({"random_state": 1}, "materialize centroids again"),
        ({"max_iter": 7}, "materialize centroids again"),
        ({"which_to_keep": "easy"}, "scores of 4 of 4 clusters are missing or stale"),
        ({"rank_by": ["id:desc"]}, "scores of 4 of 4 clusters are missing or stale"),
        ({"clusters_per_partition": 1}, "partition 0 are missing; materialize cluster_partitions"),
        ({"metadata_fields": ["id2"]}, "materialize embeddings again"),
        ({"id_field": "id2"}, "materialize embeddings again"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_artifacts_of_other_settings_are_refused(done: Results, options: Any, says: str):
    other = make_settings(Path(done.settings.storage.output_path).parent, **{**OPTIONS, **options})
    with pytest.raises(StaleError, match=says):
        list_duplicates(Snapshot(other, done.store), "0.01")


def test_settings_that_change_no_result_make_nothing_stale(done: Results):
    before = bytes_of(done.settings.storage.output_path)
    folder = Path(done.settings.storage.output_path).parent
    changes: list[dict[str, Any]] = [
        {"memory_budget": 20_000},
        {"pairwise_batch_size": 8},
        {"partitions_per_run": 1},
        {"files_per_partition": 2},
        {"device": "auto"},
    ]
    for change in changes:
        assert reused_scores(run_stages(make_settings(folder, **OPTIONS | change))) == 4
    assert bytes_of(done.settings.storage.output_path) == before


def test_a_smaller_run_leaves_no_stale_file(
    done: Results, tmp_path: Path, mixed: np.ndarray, names: list[str]
):
    (tmp_path / "in" / "002.parquet").unlink()
    smaller = make_settings(tmp_path, **OPTIONS | {"n_clusters": 2})
    results = run_stages(smaller)
    assert results.shuffled.obsolete == ["2-3"]
    assert_as_oracle(results, names[:80], mixed[:80])
    fresh = smaller.replace(output_path=str(tmp_path / "fresh"))
    run_stages(fresh)
    assert set(bytes_of(smaller.storage.output_path)) == set(bytes_of(fresh.storage.output_path))


@pytest.mark.parametrize("n_clusters", [3, 12])
def test_other_numbers_of_clusters_give_what_a_fresh_run_gives(
    done: Results, tmp_path: Path, n_clusters: int
):
    changed = make_settings(tmp_path, **OPTIONS | {"n_clusters": n_clusters})
    run_stages(changed)
    fresh = changed.replace(output_path=str(tmp_path / "fresh"))
    run_stages(fresh)
    assert bytes_of(changed.storage.output_path) == bytes_of(fresh.storage.output_path)


def test_a_file_that_changed_between_steps_is_refused(done: Results, tmp_path: Path):
    file = tmp_path / "in" / "001.parquet"
    file.write_bytes((tmp_path / "in" / "000.parquet").read_bytes())
    os.utime(file, (1, 1))
    store = Store(str(tmp_path / "other"))
    manifest = done.manifest
    with pytest.raises(StaleError, match=r"001\.parquet changed .* materialize embeddings again"):
        fit_centroids(done.settings, store, manifest, refit=True)
    Path(done.store.path(layout.partition_commit("0-1"))).unlink()
    with pytest.raises(StaleError, match=r"001\.parquet changed"):
        shuffle(Snapshot(done.settings, done.store), list(cluster_ranges(done.settings)))
    file.unlink()
    with pytest.raises(StaleError, match=r"001\.parquet is gone since embeddings"):
        shuffle(Snapshot(done.settings, done.store), list(cluster_ranges(done.settings)))


def test_new_rows_shuffle_only_their_group_and_score_only_their_clusters(
    done: Results, tmp_path: Path, mixed: np.ndarray, names: list[str]
):
    like = read_cluster(done, 1)
    new = unit(np.stack([like[0], like[-1] + 1e-3]))
    write_parquet(tmp_path / "in" / "zzz.parquet", ["new-0", "new-1"], new)
    with pytest.raises(StaleError, match="do not cover the current input files"):
        list_embeddings(done.settings, done.store)
        score(Snapshot(done.settings, done.store), ["0-1"])
    again = run_stages(done.settings)
    assert again.centroids.reused
    assert (again.shuffled.groups, again.shuffled.reused) == (4, 3)
    assert reused_scores(again) == 3
    assert again.duplicates["0.01"].reused == 3
    assert_as_oracle(again, [*names, "new-0", "new-1"], np.concatenate([mixed, new]))
    assert again.duplicates["0.01"].total == 122


def test_only_rows_of_new_groups_are_digested(
    done: Results, tmp_path: Path, mixed: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    digested: list[int] = []
    real = ranked.row_digests

    def count(rows: np.ndarray, size: int) -> np.ndarray:
        digested.append(len(rows))
        return real(rows, size)

    monkeypatch.setattr(ranked, "row_digests", count)
    write_parquet(tmp_path / "in" / "zzz.parquet", ["new-0", "new-1"], read_cluster(done, 1)[:2])
    again = run_stages(done.settings)
    assert sum(digested) == 2
    ledger = [read_table(done.store, layout.score_ledger(key)) for key in again.scores]
    for key in again.scores:
        done.store.delete(layout.score_ledger(key))
    run_stages(done.settings)
    assert sum(digested) > len(mixed)
    assert [read_table(done.store, layout.score_ledger(key)) for key in again.scores] == ledger


def read_cluster(done: Results, cluster: int) -> np.ndarray:
    """The input vectors of one cluster."""
    ids = [row[0] for row in done.pairs(cluster)]
    assert ids
    files = [f"{layout.cluster_folder(cluster)}/{f}" for f in
             done.store.list(layout.cluster_folder(cluster))]  # fmt: skip
    rows = [v for f in files for v in read_table(done.store, f)["embedding"].to_pylist()]
    return np.array(rows, dtype=np.float32)


def test_a_run_stopped_in_the_shuffle_goes_on_after_the_last_finished_group(
    done: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from dedup_assets.stages import partitioning

    other = done.settings.replace(output_path=str(tmp_path / "other"))
    written = partitioning.write_commit
    commits = []

    def stop_after_two_groups(*arguments: Any) -> None:
        if len(commits) == 5:
            raise KeyboardInterrupt
        commits.append(arguments)
        written(*arguments)

    monkeypatch.setattr(partitioning, "write_commit", stop_after_two_groups)
    with pytest.raises(KeyboardInterrupt):
        run_stages(other)
    monkeypatch.undo()
    assert run_stages(other).shuffled.reused == 2
    assert bytes_of(other.storage.output_path) == bytes_of(done.settings.storage.output_path)


def test_refit_on_demand_and_centroids_that_were_changed(done: Results):
    manifest = done.manifest
    assert not fit_centroids(done.settings, done.store, manifest, refit=True).reused
    path = Path(done.store.path(layout.CENTROIDS))
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(StaleError, match="not whole or was changed; materialize centroids again"):
        load_centroids(done.settings, done.store, manifest)


def test_other_id_column_gives_its_ids(tmp_path: Path, mixed: np.ndarray, names: list[str]):
    """The fragments hold the ids, so they are stale when another column names the rows."""
    others = [f"other-{name}" for name in names]
    write_inputs(tmp_path / "in", names, mixed, other=others)
    run_stages(make_settings(tmp_path, **OPTIONS))
    results = run_stages(make_settings(tmp_path, **OPTIONS, id_field="other"))
    assert_as_oracle(results, others, mixed)


def test_an_obsolete_key_is_refused(done: Results):
    for step in (shuffle, score):
        with pytest.raises(SettingsError, match="partition '7' is obsolete: n_clusters=4 makes"):
            step(Snapshot(done.settings, done.store), ["7"])


def test_steps_name_the_missing_one_before_them(tmp_path: Path, mixed: np.ndarray):
    write_inputs(tmp_path / "in", range(120), mixed)
    settings = make_settings(tmp_path, n_clusters=2)
    store = Store(settings.storage.output_path)
    keys = list(cluster_ranges(settings))
    with pytest.raises(StaleError, match="materialize embeddings first"):
        shuffle(Snapshot(settings, store), keys)
    manifest = list_embeddings(settings, store)
    with pytest.raises(StaleError, match="materialize centroids first"):
        shuffle(Snapshot(settings, store), keys)
    fit_centroids(settings, store, manifest, refit=False)
    with pytest.raises(StaleError, match="partition 0 are missing; materialize cluster_partition"):
        score(Snapshot(settings, store), keys)
    shuffle(Snapshot(settings, store), keys)
    with pytest.raises(DedupError, match="scores of 2 of 2 clusters"):
        list_duplicates(Snapshot(settings, store), "0.1")
    score(Snapshot(settings, store), keys)
    with pytest.raises(StaleError, match=r"duplicates at eps 0\.1 are missing or stale"):
        write_shards(Snapshot(settings, store), "0.1")


def test_lists_of_an_earlier_ranking_are_named_as_stale(done: Results):
    assert stale_eps(Snapshot(done.settings, done.store)) == []
    other = done.settings.replace(which_to_keep="easy", eps_thresholds=["0.05"])
    run_stages(other)
    assert stale_eps(Snapshot(other, done.store)) == ["0.01"]


def test_scores_of_another_precision_are_other_scores(done: Results):
    fast = run_stages(done.settings.replace(precision="fast"))
    assert reused_scores(fast) == 0
    assert fast.shuffled.reused == 3
    again = run_stages(done.settings)
    assert reused_scores(again) == 0
    assert again.all_pairs() == done.all_pairs()


def test_cuml_without_a_gpu_is_one_clear_line(done: Results):
    settings = done.settings.replace(kmeans="cuml", device="cpu")
    with pytest.raises(DeviceError, match=r"kmeans=cuml needs a CUDA device.*use kmeans=lloyd"):
        run_stages(settings)
