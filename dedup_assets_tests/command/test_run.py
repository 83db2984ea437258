"""``dedup-assets run`` from the first run to the third, on one output folder."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup_assets.command.settings_file import load_settings
from dedup_assets.graph import SCORING
from dedup_assets.settings import Settings
from dedup_assets_tests.assets.helpers import (
    clip_ids,
    contents,
    near_duplicates,
    write_clips,
    write_part,
)
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.helpers import command, looks_finished, summary
from dedup_assets_tests.command.test_bad_input import assert_one_line
from dedup_assets_tests.conftest import bytes_of

pytestmark = pytest.mark.slow

Contents = dict[str, tuple[int, bytes]]
PRUNING = "extraction/semdedup_pruning_tables"


@dataclass(frozen=True)
class Runs:
    """The same output after each of four runs."""

    root: Path
    no_eps: subprocess.CompletedProcess[str]
    without_eps: Contents
    first: subprocess.CompletedProcess[str]
    after_first: Contents
    again: subprocess.CompletedProcess[str]
    after_again: Contents
    new_eps: subprocess.CompletedProcess[str]
    after_new_eps: Contents

    @property
    def output(self) -> Path:
        return self.root / "output"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp("runs")
    write_part(root / "embeddings", near_duplicates(), weight=[float(i) for i in range(60)])
    write_clips(root / "clips", clip_ids())
    flags = [
        *("run", "--input-embeddings-path", "embeddings", "--output-path", "output"),
        *("--n-clusters", "6", "--dataset", "films", "--metadata-fields", "weight"),
        *("--clips-path", "clips", "--samples-per-shard", "25"),
    ]
    results: list[object] = []
    for eps in (
        [],
        ["--eps-to-extract", "0.05"],
        ["--eps-to-extract", "0.05"],
        ["--eps-thresholds", "0.0010", "--eps-to-extract", "0.05"],
    ):
        results += [command(*flags, *eps, cwd=root), contents(root / "output")]
    return Runs(root, *results)


def test_without_eps_it_stops_after_the_histogram_and_says_what_to_look_at(runs: Runs) -> None:
    assert runs.no_eps.returncode == 0, runs.no_eps.stderr
    assert "extraction/similarity_histogram.png" in runs.no_eps.stdout
    assert "--eps-thresholds" in runs.no_eps.stdout
    assert "What each eps would remove" in runs.no_eps.stdout
    assert "extraction/similarity_histogram.png" in runs.without_eps
    assert not [n for n in runs.without_eps if "unique_ids" in n or n.startswith("shards")]


def test_share_that_clustering_misses_is_a_column_with_a_line_on_what_it_means(runs: Runs) -> None:
    for result in (runs.no_eps, runs.first, runs.again):
        header = next(line for line in result.stdout.splitlines() if "┃ eps " in line)
        assert header.split("┃")[-2].strip() == "missed"
        assert "missed: of the clips with a duplicate at that eps" in result.stdout
        assert "extraction/missed_by_clustering.parquet" in result.stdout
        # All 60 clips are in the sample, so this is a count and not an estimate.
        assert "counted by comparing all with all" in " ".join(result.stdout.split())
    row = next(line for line in runs.first.stdout.splitlines() if "│ 0.05 " in line)
    assert row.split("│")[-2].strip().endswith("%")
    assert "of it, comparing the sample" not in runs.again.stdout


def test_other_sample_is_the_only_thing_made_again_and_may_be_switched_off(
    runs: Runs, tmp_path: Path, call: Call
) -> None:
    """Forty clusters for thirty pairs of near copies, so some pairs are parted."""
    flags = [
        *("run", "--input-embeddings-path", str(runs.root / "embeddings")),
        *("--output-path", "output", "--n-clusters", "40", "--eps-thresholds", "0.3"),
    ]
    assert call(*flags).code == 0
    outcome = call(*flags, "--missed-sample", "20", "--missed-limit", "0")
    assert outcome.code == 0, outcome.err
    out = " ".join(outcome.out.split())
    assert "computed missed_by_clustering 1 of 1 sample; the rest was current" in out
    assert "estimated by comparing 20 with all (in brackets the 95% interval)" in out
    assert "clustering misses more than missed_limit 0 of the duplicates" in out
    outcome = call(*flags, "--missed-sample", "0")
    assert outcome.code == 0, outcome.err
    assert "missed:" not in outcome.out
    assert "┃ missed" not in outcome.out
    assert not (tmp_path / "output/extraction/missed_by_clustering.parquet").exists()


def test_run_says_rows_counts_places_and_time(runs: Runs) -> None:
    out = runs.first.stdout
    assert runs.first.returncode == 0, runs.first.stderr
    assert runs.first.stderr == ""
    assert "60 rows of 8 dimensions in 1 file, 6 clusters" in out
    assert "60 rows of 8 dimensions in 1 file, 6 clusters" in runs.no_eps.stdout
    counted = summary(runs.output, "0.05")
    assert counted["total"] == "60"
    row = next(line for line in out.splitlines() if "0.05" in line and "%" in line)
    for column in ("kept", "removed", "rejected"):
        assert counted[column] in row
    for stage in SCORING:
        assert f"│ {stage} " in runs.no_eps.stdout
        assert f"│ {stage} " not in out
    assert "│ curated_shards (eps 0.05) " in out
    assert "shards/eps=0.05" in out
    assert f"dedup-assets ui {runs.output}" in out


def test_eps_to_extract_is_added_to_the_thresholds(runs: Runs) -> None:
    assert "extraction/dedup_summary_0.05.csv" in runs.after_first
    assert "shards/eps=0.05/index.parquet" in runs.after_first


def test_eps_after_the_histogram_compares_nothing_again(runs: Runs) -> None:
    for name, state in runs.without_eps.items():
        assert name == "settings.json" or runs.after_first[name] == state, name


def test_second_run_says_that_everything_was_current_and_writes_nothing_again(runs: Runs) -> None:
    assert runs.again.returncode == 0
    assert "everything was current; nothing was computed again" in runs.again.stdout
    for name, (time, data) in runs.after_first.items():
        assert runs.after_again[name][1] == data, name
        assert name == "settings.json" or runs.after_again[name][0] == time, name
    assert runs.after_again.keys() == runs.after_first.keys()


def test_plan_is_printed_before_what_is_in_it_runs(runs: Runs) -> None:
    assert _plan(runs.no_eps) == [
        "embeddings: not listed yet",
        "centroids: not fitted yet",
        "cluster_partitions (6 of 6 keys): follows embeddings",
        "pairwise_scores (6 of 6 keys): follows embeddings",
        "missed_by_clustering: follows embeddings",
        "similarity_histogram: follows embeddings",
    ]
    assert _plan(runs.first) == [
        "duplicate_ids (0.05): not listed yet",
        "curated_shards (0.05): follows duplicate_ids",
    ]
    assert _plan(runs.again) == []
    assert "everything is current; there is nothing to do" in runs.again.stdout
    assert _plan(runs.new_eps) == ["duplicate_ids (0.001): not listed yet"]


def test_run_says_in_one_line_what_it_computed_unless_that_was_everything(runs: Runs) -> None:
    assert _computed(runs.no_eps) == []
    assert _computed(runs.first) == [
        "computed duplicate_ids 6 of 6 lists at eps 0.05, curated_shards 1 of 1 sets at eps 0.05; "
        "the rest was current"
    ]
    assert _computed(runs.again) == ["everything was current; nothing was computed again"]
    assert _computed(runs.new_eps) == [
        "computed duplicate_ids 6 of 6 lists at eps 0.001; the rest was current"
    ]


def test_new_eps_computes_only_that_one(runs: Runs) -> None:
    assert runs.new_eps.returncode == 0
    assert "│ duplicate_ids (eps 0.001) " in runs.new_eps.stdout
    for stage in (*SCORING, "duplicate_ids (eps 0.05)", "curated_shards (eps 0.05)"):
        assert f"│ {stage} " not in runs.new_eps.stdout
    old = ("clustering_results", PRUNING, "extraction/unique_ids_0.05", "shards")
    for name, state in runs.after_again.items():
        if name.startswith(old):
            assert runs.after_new_eps[name] == state, name
    new = set(runs.after_new_eps) - set(runs.after_again)
    assert new == {
        "extraction/dedup_summary_0.001.csv",
        "extraction/duplicates/0.001.parquet",
        *(f"extraction/unique_ids_0.001.parquet/part.{i}.parquet" for i in range(6)),
    }


def test_eps_is_spelled_canonically_in_every_path(runs: Runs) -> None:
    assert not [name for name in runs.after_new_eps if "0.0010" in name]


def test_rerun_without_the_clips_keeps_the_shards_until_told_to_replace_them(
    runs: Runs, tmp_path: Path, call: Call
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(runs.output, copy)
    before = bytes_of(copy / "shards")
    flags = [
        *("run", "--input-embeddings-path", str(runs.root / "embeddings")),
        *("--output-path", "copy", "--n-clusters", "6", "--metadata-fields", "weight"),
        *("--dataset", "films"),
        *("--samples-per-shard", "25", "--eps-to-extract", "0.05"),
    ]
    outcome = call(*flags)
    assert outcome.code == 1
    parts = ["curated_shards: ", "WebDataset tars", "--replace-shards", "replace_shards: true"]
    assert_one_line(outcome.err, parts)
    assert bytes_of(copy / "shards") == before
    outcome = call(*flags, "--replace-shards")
    assert outcome.code == 0, outcome.err
    assert list(bytes_of(copy / "shards")) == ["eps=0.05/index.parquet"]


def test_shards_hold_the_number_of_samples_asked_for(runs: Runs) -> None:
    index = pq.read_table(runs.output / "shards/eps=0.05/index.parquet")
    sizes = index["shard"].value_counts().to_pylist()
    assert sorted(entry["counts"] for entry in sizes) == [5, 25]
    assert index.num_rows == int(summary(runs.output, "0.05")["kept"]) == 30


def test_settings_file_loads_to_the_settings_it_ran_with(runs: Runs) -> None:
    """Command line and UI are one state, so the UI has to load exactly these."""
    expected = Settings.of(
        dataset="films",
        input_embeddings_path=str(runs.root / "embeddings"),
        output_path=str(runs.output),
        clips_path=str(runs.root / "clips"),
        n_clusters=6,
        metadata_fields=["weight"],
        samples_per_shard=25,
        eps_thresholds=["0.001"],
        eps_to_extract="0.05",
    )
    assert load_settings(str(runs.output)) == expected


def test_changed_ranking_scores_again_and_replaces_what_follows_from_it(
    runs: Runs, tmp_path: Path, call: Call
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(runs.output, copy)
    outcome = call(
        *("run", "--input-embeddings-path", str(runs.root / "embeddings")),
        *("--output-path", "copy", "--n-clusters", "6", "--metadata-fields", "weight"),
        *("--dataset", "films"),
        *("--which-to-keep", "easy", "--eps-thresholds", "0.05", "--dataset", "films"),
    )
    assert outcome.code == 0, outcome.err
    assert "pairwise_scores 6 of 6 clusters" in outcome.out
    before, after = contents(runs.output), contents(copy)
    changed = [n for n in before if n.startswith(PRUNING) and after[n][1] != before[n][1]]
    assert changed
    fragments = [n for n in before if n.startswith("clustering_results/embs")]
    assert all(after[n] == before[n] for n in fragments)


def test_rank_by_a_column_keeps_the_highest(tmp_path: Path, call: Call) -> None:
    """The rows and scores of the worked example: descending custom_score is 3,1,2,4,5,0."""
    vectors = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12], [1, 2, 3], [1, 2, 3]])
    scores = [0.1, 0.8, 0.3, 0.9, 0.2, 0.15]
    ids = pa.array(range(6), pa.int64())
    write_part(tmp_path / "embeddings", vectors, ids, custom_score=scores)
    outcome = call(
        *("run", "--input-embeddings-path", "embeddings", "--output-path", "output"),
        *("--n-clusters", "1", "--rank-by", "custom_score:desc", "--eps-thresholds", "0"),
    )
    assert outcome.code == 0, outcome.err
    table = pq.read_table(tmp_path / f"output/{PRUNING}/cluster_0.parquet")
    assert table["id"].to_pylist() == [3, 1, 2, 4, 5, 0]
    assert table.schema.field("id").type == pa.int64()
    removed = pq.read_table(tmp_path / "output/extraction/unique_ids_0.parquet/part.0.parquet")
    assert removed["id"].to_pylist() == [0, 5]


def test_events_are_kept_below_the_output_or_where_dagster_home_says(
    runs: Runs, tmp_path: Path, call: Call, dagster_home: Path
) -> None:
    assert (runs.output / ".dagster/dagster.yaml").exists()
    write_part(tmp_path / "embeddings", near_duplicates())
    outcome = call(
        *("run", "--input-embeddings-path", "embeddings", "--output-path", "output"),
        *("--n-clusters", "2", "--dataset", "here", "--eps-thresholds", "0.01,0.02"),
    )
    assert outcome.code == 0, outcome.err
    assert not (tmp_path / "output/.dagster").exists()
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        assert set(instance.get_dynamic_partitions("here/eps")) == {"0.01", "0.02"}


def test_command_line_of_the_documentation_runs_as_written(tmp_path: Path) -> None:
    write_part(tmp_path / "P", near_duplicates(1200), clip_ids(1200))
    line = (
        "run --input-embeddings-path P --output-path O --n-clusters 1000 "
        "--eps-thresholds 0.01 0.001 --eps-to-extract 0.01 --which-to-keep hard "
        "--sim-metric cosine --max-iter 100 --random-state 42 --files-per-partition 1000"
    )
    result = command(*line.split(), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    output = tmp_path / "O"
    assert len(list((output / PRUNING).iterdir())) == 1000
    for eps in ("0.01", "0.001"):
        counted = summary(output, eps)
        assert int(counted["kept"]) + int(counted["removed"]) == int(counted["total"]) == 1200
        assert len(list((output / f"extraction/unique_ids_{eps}.parquet").iterdir())) == 1000
    assert (output / "shards/eps=0.01/index.parquet").exists()
    assert not (output / "shards/eps=0.001").exists()
    assert looks_finished(output)


def _plan(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The first lines that are indented; nothing else is before the first table."""
    before = result.stdout.partition("Time")[0].splitlines()
    return [line.strip() for line in before if line.startswith("  ")]


def _computed(result: subprocess.CompletedProcess[str]) -> list[str]:
    lines = result.stdout.splitlines()
    return [line for line in lines if line.startswith(("computed", "everything was"))]
