"""What a run has to make, and why: one case for each way in which an output is not current."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_assets.graph import CENTROIDS, assets_of
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.duplicates import list_duplicates
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.histogram import build_histogram
from dedup_assets.stages.missed import estimate_missed
from dedup_assets.stages.partitioning import shuffle
from dedup_assets.stages.plan import Work, plan_work
from dedup_assets.stages.scores import score
from dedup_assets.stages.shards import write_shards
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets_tests.conftest import bytes_of, make_settings, write_inputs, write_parquet

KEYS = ("0-1", "2-3")
ALL_BUT_SHARDS = [name for name in assets_of(videos=False) if name != "curated_shards"]


@pytest.fixture
def settings(tmp_path: Path, mixed: np.ndarray, names: list[str]) -> Settings:
    """Settings over two files, with a column to rank by."""
    write_inputs(tmp_path / "in", names, mixed, files=2, weight=np.arange(120.0))
    return make_settings(
        tmp_path, n_clusters=4, clusters_per_partition=2, eps_thresholds=["0.01", "0.1"]
    )


@pytest.fixture
def done(settings: Settings) -> Settings:
    carry_out(settings, plan_work(settings, settings.storage.open_output()))
    assert plan(settings) == []
    return settings


def plan(settings: Settings, **options: Any) -> list[str]:
    """The lines of a plan; nothing is written to make it."""
    before = bytes_of(settings.storage.output_path)
    found = [str(work) for work in plan_work(settings, settings.storage.open_output(), **options)]
    assert bytes_of(settings.storage.output_path) == before
    return found


def assets(lines: list[str]) -> list[str]:
    return list(dict.fromkeys(line.split(" ")[0].rstrip(":") for line in lines))


def carry_out(settings: Settings, work: list[Work], *, refit: bool = False) -> None:
    """Make what a plan names, and nothing else."""
    store = settings.storage.open_output()
    for item in work:
        snapshot, keys = Snapshot(settings, store), list(item.keys)
        match item.asset:
            case "embeddings":
                list_embeddings(settings, store)
            case "centroids":
                fit_centroids(settings, store, snapshot.manifest, refit=refit)
            case "cluster_partitions":
                shuffle(snapshot, keys)
            case "pairwise_scores":
                score(snapshot, keys)
            case "missed_by_clustering":
                estimate_missed(snapshot)
            case "similarity_histogram":
                build_histogram(snapshot)
            case "duplicate_ids":
                list_duplicates(snapshot, *keys)
            case "curated_shards":
                write_shards(snapshot, *keys)


def changed(settings: Settings, **values: Any) -> Settings:
    return Settings.of(**(settings.values() | values))


def test_fresh_output_needs_everything_in_the_order_of_the_graph(settings: Settings):
    settings = changed(settings, eps_to_extract="0.1")
    assert plan(settings) == [
        "embeddings: not listed yet",
        "centroids: not fitted yet",
        "cluster_partitions (2 of 2 keys): follows embeddings",
        "pairwise_scores (2 of 2 keys): follows embeddings",
        "missed_by_clustering: follows embeddings",
        "similarity_histogram: follows embeddings",
        "duplicate_ids (0.01): follows embeddings",
        "duplicate_ids (0.1): follows embeddings",
        "curated_shards (0.1): follows embeddings",
    ]


def test_what_was_carried_out_is_not_planned_again(done: Settings):
    assert plan(done) == []


def test_carrying_out_any_plan_leaves_nothing_to_do(done: Settings, tmp_path: Path):
    more = changed(done, n_clusters=3, which_to_keep="easy", eps_thresholds=["0.2"])
    for file in (tmp_path / "out/extraction/scores").iterdir():
        file.unlink()
    carry_out(more, plan_work(more, more.storage.open_output()))
    assert plan(more) == []


def test_first_part_alone_leaves_the_rest_to_do(settings: Settings):
    """As after a run that was killed: what is finished is not in the plan."""
    store = settings.storage.open_output()
    carry_out(settings, plan_work(settings, store)[:2])
    shuffle(Snapshot(settings, store), [KEYS[0]])
    assert plan(settings) == [
        "cluster_partitions (1 of 2 keys): missing or stale",
        "pairwise_scores (2 of 2 keys): follows cluster_partitions",
        "missed_by_clustering: follows cluster_partitions",
        "similarity_histogram: follows cluster_partitions",
        "duplicate_ids (0.01): follows cluster_partitions",
        "duplicate_ids (0.1): follows cluster_partitions",
    ]


def add_file(folder: Path) -> None:
    vectors = np.random.default_rng(1).normal(size=(8, 12))
    write_parquet(folder / "new.parquet", [f"new-{i}" for i in range(8)], vectors)


def change_file(folder: Path) -> None:
    vectors = np.random.default_rng(2).normal(size=(60, 12))
    write_parquet(folder / "000.parquet", [f"clip-{i:03d}" for i in range(60)], vectors)


def remove_file(folder: Path) -> None:
    (folder / "001.parquet").unlink()


def all_of_these(folder: Path) -> None:
    for change in (add_file, change_file, remove_file):
        change(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (add_file, "1 new"),
        (change_file, "1 changed"),
        (remove_file, "1 gone"),
        (all_of_these, "1 new, 1 changed, 1 gone"),
    ],
)
def test_other_input_files_are_counted_and_everything_follows(
    done: Settings, tmp_path: Path, change: Callable[[Path], None], reason: str
):
    change(tmp_path / "in")
    found = plan(done)
    assert found[:3] == [
        f"embeddings: input files: {reason}",
        "centroids: follows embeddings; current ones stay",
        "cluster_partitions (2 of 2 keys): follows embeddings",
    ]
    assert assets(found) == ALL_BUT_SHARDS
    before = bytes_of(tmp_path / "out/clustering_results")["kmeans_centroids.npy"]
    carry_out(done, plan_work(done, done.storage.open_output()))
    assert bytes_of(tmp_path / "out/clustering_results")["kmeans_centroids.npy"] == before
    assert plan(done) == []


def test_file_written_again_with_the_same_rows_counts_as_changed(done: Settings, tmp_path: Path):
    """Only its size and time are looked at; what follows is then found to be current."""
    path = tmp_path / "in/000.parquet"
    path.write_bytes(path.read_bytes())
    assert plan(done)[0] == "embeddings: input files: 1 changed"


def test_input_of_another_dimension_fits_the_centroids_again(done: Settings, tmp_path: Path):
    """Otherwise the shuffle would be refused, and the same command would never get further."""
    other = tmp_path / "other"
    vectors = np.random.default_rng(3).normal(size=(40, 5))
    write_inputs(other, [f"clip-{i}" for i in range(40)], vectors)
    moved = changed(done, input_embeddings_path=str(other))
    found = plan(moved)
    assert found[0] == "embeddings: input files: 1 changed, 1 gone"
    assert CENTROIDS in assets(found)
    carry_out(moved, plan_work(moved, moved.storage.open_output()))
    assert plan(moved) == []


@pytest.mark.parametrize(
    ("values", "first", "planned"),
    [
        (
            {"metadata_fields": ["weight"]},
            "embeddings: listed with other id_field, embedding_field or metadata_fields",
            ALL_BUT_SHARDS,
        ),
        (
            {"embedding_dim": 11},
            "embeddings: listed with another embedding_dim",
            ALL_BUT_SHARDS,
        ),
        (
            {"n_clusters": 121},
            "embeddings: n_clusters is more than the rows that were listed",
            ALL_BUT_SHARDS,
        ),
        ({"n_clusters": 3}, "centroids: was fitted with other settings", ALL_BUT_SHARDS[1:]),
        ({"random_state": 1}, "centroids: was fitted with other settings", ALL_BUT_SHARDS[1:]),
        (
            {"clusters_per_partition": 1},
            "cluster_partitions (4 of 4 keys): missing or stale",
            ALL_BUT_SHARDS[2:],
        ),
        (
            {"which_to_keep": "easy"},
            "pairwise_scores (2 of 2 keys): missing or stale",
            ["pairwise_scores", "similarity_histogram", "duplicate_ids"],
        ),
        (
            {"precision": "fast"},
            "pairwise_scores (2 of 2 keys): missing or stale",
            ["pairwise_scores", "similarity_histogram", "duplicate_ids"],
        ),
        (
            {"rank_by": ["weight:desc"]},
            "embeddings: listed with other id_field, embedding_field or metadata_fields",
            ALL_BUT_SHARDS,
        ),
        (
            {"missed_sample": 50},
            "missed_by_clustering: missing or stale",
            ["missed_by_clustering", "similarity_histogram", "duplicate_ids"],
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_settings_stale_what_they_decide_and_what_reads_that(
    done: Settings, values: dict[str, Any], first: str, planned: list[str]
):
    found = plan(changed(done, **values))
    assert found[0] == first
    assert assets(found) == planned


@pytest.mark.parametrize(
    "values",
    [
        {"missed_limit": 0.5},
        {"memory_budget": "512MiB"},
        {"pairwise_batch_size": 7},
        {"samples_per_shard": 3},
        {"mode": "schedule"},
        {"files_per_partition": 1},
        {"max_fragments": 1},
        {"eps_thresholds": ["0.1"]},
        {"eps_thresholds": []},
    ],
    ids=lambda value: next(iter(value)),
)
def test_settings_that_decide_no_file_plan_nothing(done: Settings, values: dict[str, Any]):
    """Groups are recorded, so what decides how new files are grouped changes no old one."""
    assert plan(changed(done, **values)) == []


def test_new_eps_needs_its_list_alone(done: Settings, tmp_path: Path):
    more = changed(done, eps_thresholds=["0.01", "0.1", "0.2"])
    assert plan(more) == ["duplicate_ids (0.2): not listed yet"]
    before = bytes_of(tmp_path / "out")
    carry_out(more, plan_work(more, more.storage.open_output()))
    assert plan(more) == []
    after = bytes_of(tmp_path / "out")
    assert {name: after[name] for name in before} == before


def test_new_eps_to_extract_needs_its_list_and_its_shards(done: Settings):
    assert plan(changed(done, eps_to_extract="0.2")) == [
        "duplicate_ids (0.2): not listed yet",
        "curated_shards (0.2): follows duplicate_ids",
    ]


def test_shards_of_a_listed_eps_do_not_follow_the_list_of_another(done: Settings):
    more = changed(done, eps_thresholds=["0.01", "0.1", "0.2"], eps_to_extract="0.1")
    found = plan(more)
    assert found[0] == "duplicate_ids (0.2): not listed yet"
    assert found[1].startswith("curated_shards (0.1): ")
    assert "follows" not in found[1]


def test_refit_fits_again_and_everything_after_that_follows(done: Settings):
    found = plan(done, refit=True)
    assert found[0] == "centroids: refit was asked for"
    assert found[1] == "cluster_partitions (2 of 2 keys): follows centroids"
    assert assets(found) == ALL_BUT_SHARDS[1:]


FOLLOW_SCORES = [
    "similarity_histogram: follows pairwise_scores",
    "duplicate_ids (0.01): follows pairwise_scores",
    "duplicate_ids (0.1): follows pairwise_scores",
]


@pytest.mark.parametrize("damage", ["gone", "cut"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (layout.scores(2), ["pairwise_scores (1 of 2 keys): missing or stale", *FOLLOW_SCORES]),
        (
            layout.unique_ids_part("0.1", 3),
            ["duplicate_ids (0.1): 1 of its files are missing or cut"],
        ),
    ],
    ids=["pruning table", "list"],
)
def test_lost_or_cut_file_of_a_cluster_needs_its_owner(
    done: Settings, tmp_path: Path, name: str, expected: list[str], damage: str
):
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(whole[:-1])
    assert plan(done) == expected
    carry_out(done, plan_work(done, done.storage.open_output()))
    assert path.read_bytes() == whole
    assert plan(done) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            layout.score_ledger("2-3"),
            ["pairwise_scores (1 of 2 keys): missing or stale", *FOLLOW_SCORES],
        ),
        (layout.list_ledger("0.1"), ["duplicate_ids (0.1): not listed yet"]),
        (layout.summary("0.1"), ["duplicate_ids (0.1): its summary is missing"]),
        (layout.HISTOGRAM, ["similarity_histogram: missing or stale"]),
        (layout.HISTOGRAM_PLOT, ["similarity_histogram: missing or stale"]),
        (
            layout.MISSED,
            [
                "missed_by_clustering: missing or stale",
                "similarity_histogram: follows missed_by_clustering",
                "duplicate_ids (0.01): follows missed_by_clustering",
                "duplicate_ids (0.1): follows missed_by_clustering",
            ],
        ),
    ],
)
def test_lost_file_needs_its_owner_and_what_reads_that(
    done: Settings, tmp_path: Path, name: str, expected: list[str]
):
    path = tmp_path / "out" / name
    whole = path.read_bytes()
    path.unlink()
    assert plan(done) == expected
    carry_out(done, plan_work(done, done.storage.open_output()))
    assert path.read_bytes() == whole
    assert plan(done) == []


@pytest.mark.parametrize("name", [layout.CENTROIDS, layout.CENTROIDS_INFO])
def test_lost_centroids_are_fitted_again(done: Settings, tmp_path: Path, name: str):
    (tmp_path / "out" / name).unlink()
    found = plan(done)
    assert found[0].startswith("centroids: ")
    assert assets(found) == ALL_BUT_SHARDS[1:]


def test_cut_centroids_are_fitted_again(done: Settings, tmp_path: Path):
    path = tmp_path / "out" / layout.CENTROIDS
    path.write_bytes(path.read_bytes()[:-1])
    assert plan(done)[0] == "centroids: is not whole or was changed"


def test_lost_fragment_needs_the_key_of_its_cluster(done: Settings, tmp_path: Path):
    next((tmp_path / "out").glob("**/nearest_cent=3/*.parquet")).unlink()
    work = plan_work(done, done.storage.open_output())
    assert str(work[0]) == "cluster_partitions (1 of 2 keys): missing or stale"
    assert work[0].keys == ("2-3",)


def test_missed_sample_switched_off_and_on(done: Settings, tmp_path: Path):
    off = changed(done, missed_sample=0)
    assert plan(off)[0] == "missed_by_clustering: switched off"
    carry_out(off, plan_work(off, off.storage.open_output()))
    assert not (tmp_path / "out" / layout.MISSED).exists()
    assert plan(off) == []
    assert plan(done)[0] == "missed_by_clustering: missing or stale"
    carry_out(done, plan_work(done, done.storage.open_output()))
    assert plan(done) == []


def test_one_cluster_has_nothing_to_sample(settings: Settings):
    one = changed(settings, n_clusters=1, clusters_per_partition=1)
    carry_out(one, plan_work(one, one.storage.open_output()))
    assert plan(one) == []
