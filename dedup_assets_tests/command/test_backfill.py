"""``dedup-assets backfill``: an output at more eps, from the scores that it has."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from dedup_assets_tests.assets.helpers import clip_ids, near_duplicates, write_clips, write_part
from dedup_assets_tests.command.conftest import Call

pytestmark = pytest.mark.slow


@pytest.fixture
def output(tmp_path: Path, call: Call) -> Path:
    """A run of which one eps is configured, and which has read its input for the last time."""
    write_part(tmp_path / "in", near_duplicates())
    write_clips(tmp_path / "clips", clip_ids())
    flags = ["--output-path", "out", "--clips-path", "clips", "--n-clusters", "3"]
    assert (
        call("run", "--input-embeddings-path", "in", *flags, "--eps-thresholds", "0.05").code == 0
    )
    shutil.rmtree(tmp_path / "in")
    return tmp_path / "out"


def summaries(output: Path) -> set[str]:
    names = (path.stem for path in (output / "extraction").glob("dedup_summary_*.csv"))
    return {name.removeprefix("dedup_summary_") for name in names}


def test_each_eps_is_one_run_over_the_scores_alone(output: Path, call: Call) -> None:
    """The input is gone: nothing but the scores is looked at."""
    settings = (output / "settings.json").read_bytes()
    scores = {path: path.stat().st_mtime_ns for path in output.rglob("cluster_*.parquet")}
    with dg.DagsterInstance.get() as instance:
        before = instance.get_runs_count()
        done = call("backfill", "out", "--eps", "0.001", "1e-2", "0.0010")
        assert done.code == 0, done.err
        assert instance.get_runs_count() == before + 2
        assert {"0.001", "0.01", "0.05"} <= set(instance.get_dynamic_partitions("dedup/eps"))
    assert summaries(output) == {"0.001", "0.01", "0.05"}
    assert not (output / "shards").exists()
    assert (output / "settings.json").read_bytes() == settings
    assert {path: path.stat().st_mtime_ns for path in scores} == scores
    again = call("backfill", "out", "--eps", "0.001", "0.01")
    assert "everything is current" in again.out


def test_shards_are_written_at_each_eps_if_asked_for(output: Path, call: Call) -> None:
    done = call("backfill", "out", "--eps", "0.05", "0.001", "--shards")
    assert done.code == 0, done.err
    assert {path.parent.name for path in (output / "shards").glob("*/index.parquet")} == {
        "eps=0.05",
        "eps=0.001",
    }
    assert call("verify", "out").code == 0


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (["--eps", "2"], 2, "eps must be a number from 0 to 0.99999"),
        (["--eps"], 2, "expected at least one argument"),
        ([], 2, "the following arguments are required: --eps"),
        (["--eps", "0.01", "--replace-shards"], 2, "--replace-shards goes with --shards"),
    ],
)
def test_wrong_arguments_are_one_line(call: Call, flags: list[str], code: int, says: str) -> None:
    done = call("backfill", "out", *flags)
    assert done.code == code
    assert says in done.err
    assert done.err.count("\n") == 1


def test_scores_that_are_gone_are_one_line(output: Path, call: Call) -> None:
    shutil.rmtree(output / "extraction" / "scores")
    for table in output.rglob("cluster_*.parquet"):
        table.unlink()
    done = call("backfill", "out", "--eps", "0.001")
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "pairwise_scores" in done.err


def test_a_folder_of_no_run_is_one_line(call: Call) -> None:
    done = call("backfill", "nowhere", "--eps", "0.001")
    assert done.code == 1
    assert "give the output folder of dedup-assets run" in done.err


def test_runs_are_listed_under_the_code_location_that_is_named(
    output: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("backfill", "out", "--eps", "0.001", "--code-location", "films").code == 0
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs(limit=1)
        assert run.tags[".dagster/repository"] == "__repository__@films"
    assert "--code-location is empty" in call("run", "--code-location", " ").err
    monkeypatch.delenv("DAGSTER_HOME")
    refused = call("backfill", "out", "--eps", "0.001", "--code-location", "films")
    assert refused.code == 2
    assert "--code-location goes with DAGSTER_HOME, which is not set" in refused.err
