"""Wrong input and wrong flags: one line with rule, value and next step, and an exit code."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dedup_assets_tests.assets.helpers import clip_ids, near_duplicates, write_part
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.helpers import command, looks_finished, summary

pytestmark = pytest.mark.slow

FLAGS = ("run", "--input-embeddings-path", "in", "--output-path", "out", "--eps-to-extract", "0.05")
Write = Callable[[Path], Any]


def rows_with(change: dict[int, Any]) -> list[Any]:
    rows: list[Any] = [list(row) for row in near_duplicates()]
    for position, row in change.items():
        rows[position] = row
    return rows


NAN, ZERO, RAGGED = [float("nan")] * 8, [0.0] * 8, [1.0] * 7


def write_nan(folder: Path) -> None:
    write_part(folder, rows_with({3: NAN}))


def write_infinite(folder: Path) -> None:
    write_part(folder, rows_with({3: [float("inf"), *[1.0] * 7]}))


def write_zero(folder: Path) -> None:
    write_part(folder, rows_with({3: ZERO}))


def write_ragged(folder: Path) -> None:
    write_part(folder, rows_with({3: RAGGED}))


def write_null(folder: Path) -> None:
    write_part(folder, rows_with({3: None}))


def write_duplicates(folder: Path) -> None:
    write_part(folder, near_duplicates(), ["twice", *clip_ids()[1:]])
    write_part(folder, near_duplicates(4), ["twice", "x", "y", "z"], "part-1.parquet")


def write_good(folder: Path) -> None:
    write_part(folder, near_duplicates())


def write_nothing(folder: Path) -> None:
    folder.mkdir()


def write_no_folder(folder: Path) -> None:
    assert not folder.exists()


INVALID_ROWS: dict[str, tuple[Write, str]] = {
    "nan": (write_nan, "NaN"),
    "infinite": (write_infinite, "infinite"),
    "zero": (write_zero, "zero"),
    "ragged": (write_ragged, "7 numbers instead of 8"),
    "null": (write_null, "null embedding"),
}

FAILED_RUNS: dict[str, tuple[Write, list[str], list[str]]] = {
    "duplicate ids": (
        write_duplicates,
        [],
        ["ids must be unique", "'twice'", "part-0.parquet and part-1.parquet", "make them unique"],
    ),
    "unknown embedding column": (
        write_good,
        ["--embedding-field", "vector"],
        ["no column 'vector'", "it has id, embedding", "set id_field, embedding_field"],
    ),
    "empty folder": (write_nothing, [], ["holds no .parquet file", "point it at the folder"]),
    "missing folder": (write_no_folder, [], ["does not exist", "point it at the folder"]),
    "more clusters than rows": (
        write_good,
        ["--n-clusters", "61"],
        ["n_clusters=61 must be at most the number of rows", "has 60", "lower n_clusters"],
    ),
    "wrong dimension": (
        write_good,
        ["--embedding-dim", "16"],
        ["part-0.parquet", "8", "embedding_dim", "16"],
    ),
    "unknown metadata column": (
        write_good,
        ["--metadata-fields", "duration"],
        ["no column 'duration'"],
    ),
    "unknown ranking column": (
        write_good,
        ["--rank-by", "custom_score:desc"],
        ["no column 'custom_score'"],
    ),
    "missing clips folder": (
        write_good,
        ["--clips-path", "clips"],
        ["clips_path", "does not exist", "point it at the folder of the clips"],
    ),
}

WRONG_ARGUMENTS: dict[str, tuple[list[str], list[str]]] = {
    "eps too large": (
        ["--eps-thresholds", "1.5"],
        ["--eps-thresholds", "eps must be a number from 0 to 0.99999", "got 1.5"],
    ),
    "eps too fine": (
        ["--eps-thresholds", "0.000001"],
        ["at most 5 decimals", "got 0.000001", "round it to a multiple of 0.00001"],
    ),
    "eps negative": (["--eps-thresholds", "-0.01"], ["--eps-thresholds", "got -0.01"]),
    "eps no number": (["--eps-to-extract", "small"], ["--eps-to-extract", "got 'small'"]),
    "unknown flag": (["--n-klusters", "7"], ["unrecognized arguments: --n-klusters"]),
    "misspelt value": (
        ["--which-to-keep", "hrad"],
        ["--which-to-keep", "'hard', 'easy', 'soft' or 'random'", "got 'hrad'"],
    ),
    "no clusters": (["--n-clusters", "0"], ["--n-clusters", "greater than or equal to 1"]),
    "clusters no number": (["--n-clusters", "many"], ["--n-clusters", "got 'many'"]),
    "rank without direction": (
        ["--rank-by", "custom_score"],
        ["--rank-by", "COLUMN:asc or COLUMN:desc", "got 'custom_score'"],
    ),
    "memory no size": (["--memory-budget", "lots"], ["--memory-budget", "512MiB", "got 'lots'"]),
    "memory too small": (["--memory-budget", "1KiB"], ["--memory-budget", "16777216"]),
    "missed limit no share": (
        ["--missed-limit", "5"],
        ["--missed-limit", "less than or equal to 1"],
    ),
    "missed sample negative": (["--missed-sample", "-1"], ["--missed-sample", "got '-1'"]),
    "dataset no name": (["--dataset", "my films"], ["--dataset", "got 'my films'"]),
}


def arguments(*more: str) -> list[str]:
    """The command line of `FLAGS`, with six clusters unless said otherwise."""
    clusters = [] if "--n-clusters" in more else ["--n-clusters", "6"]
    return [*FLAGS, *clusters, *more]


@pytest.mark.parametrize("case", INVALID_ROWS)
def test_invalid_row_fails_the_run_naming_file_and_id(
    tmp_path: Path, call: Call, case: str
) -> None:
    write, reason = INVALID_ROWS[case]
    write(tmp_path / "in")
    outcome = call(*arguments())
    assert outcome.code == 1
    assert_one_line(outcome.err, ["row 3 of part-0.parquet", "'clip-003'", reason, "on_invalid"])
    assert looks_finished(tmp_path / "out") == []


@pytest.mark.parametrize("case", INVALID_ROWS)
def test_invalid_row_in_quarantine_is_counted_and_kept_with_its_reason(
    tmp_path: Path, call: Call, case: str
) -> None:
    write, reason = INVALID_ROWS[case]
    write(tmp_path / "in")
    outcome = call(*arguments("--on-invalid", "quarantine"))
    assert outcome.code == 0, outcome.err
    counted = {k: v for k, v in summary(tmp_path / "out", "0.05").items() if k != "eps"}
    assert (counted["total"], counted["rejected"]) == ("59", "1")
    assert int(counted["kept"]) + int(counted["removed"]) == 59
    (rejected,) = (tmp_path / "out/rejected").iterdir()
    (row,) = pq.read_table(rejected).to_pylist()
    assert (row["id"], row["file"], row["row"]) == ("clip-003", "part-0.parquet", 3)
    assert reason in row["reason"]


@pytest.mark.parametrize(
    ("case", "quarantine"),
    [*((case, False) for case in FAILED_RUNS), ("duplicate ids", True), ("empty folder", True)],
)
def test_wrong_input_fails_in_one_line_and_leaves_nothing_that_looks_finished(
    tmp_path: Path, call: Call, case: str, quarantine: bool
) -> None:
    """None of these is a row that could be set aside, so quarantine changes nothing."""
    write, flags, parts = FAILED_RUNS[case]
    write(tmp_path / "in")
    outcome = call(*arguments(*flags, *(["--on-invalid", "quarantine"] if quarantine else [])))
    assert outcome.code == 1
    assert_one_line(outcome.err, parts)
    finished = looks_finished(tmp_path / "out")
    if case == "missing clips folder":  # the first half needs no clips
        finished = [name for name in finished if name.startswith("shards")]
    assert finished == []


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
def test_wrong_argument_ends_with_code_2_before_anything_is_written(
    tmp_path: Path, call: Call, case: str
) -> None:
    write_good(tmp_path / "in")
    flags, parts = WRONG_ARGUMENTS[case]
    outcome = call(*arguments(*flags))
    assert outcome.code == 2
    assert_one_line(outcome.err, [*parts, "--help"])
    assert outcome.out == ""
    assert not (tmp_path / "out").exists()


def test_missing_flags_are_named(call: Call) -> None:
    outcome = call("run")
    assert outcome.code == 2
    required = ["--input-embeddings-path", "--output-path", "--n-clusters"]
    assert_one_line(outcome.err, required)


def test_no_command_and_unknown_command_end_with_code_2(call: Call) -> None:
    for wrong in ([], ["dedup"]):
        outcome = call(*wrong)
        assert outcome.code == 2
        assert_one_line(outcome.err, ["dedup-assets: error"])


def test_ui_of_a_folder_without_a_run_says_which_folder_to_give(tmp_path: Path, call: Call) -> None:
    outcome = call("ui", "nowhere")
    assert outcome.code == 1
    assert_one_line(outcome.err, ["nowhere/settings.json does not exist", "give the output folder"])
    assert not (tmp_path / "nowhere").exists()


def test_dagster_home_that_is_no_folder_is_named(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_good(tmp_path / "in")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "gone"))
    outcome = call(*arguments())
    assert outcome.code == 1
    assert_one_line(outcome.err, ["DAGSTER_HOME is", "gone", "make it, or unset DAGSTER_HOME"])


def test_device_cuda_without_a_gpu_says_so(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``None`` in `sys.modules` is what a machine without CuPy comes to."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    write_good(tmp_path / "in")
    outcome = call(*arguments("--device", "cuda"))
    assert outcome.code == 1
    assert_one_line(outcome.err, ["device=cuda needs a CUDA device", "use device=auto or cpu"])
    assert looks_finished(tmp_path / "out") == []


def test_help_lists_every_flag_of_the_documentation(call: Call) -> None:
    outcome = call("run", "--help")
    assert outcome.code == 0
    flags = (
        "input-embeddings-path output-path n-clusters eps-thresholds eps-to-extract which-to-keep "
        "sim-metric max-iter random-state files-per-partition id-field embedding-field "
        "embedding-dim metadata-fields rank-by clips-path samples-per-shard fit-data-fraction "
        "pairwise-batch-size device on-invalid dataset verbose"
    )
    for flag in flags.split():
        assert f"--{flag} " in outcome.out, flag


def test_process_ends_with_one_line_on_stderr_and_code_1(tmp_path: Path) -> None:
    """As a process of its own: no warning, log line or traceback joins the message."""
    write_nan(tmp_path / "in")
    result = command(*arguments(), cwd=tmp_path)
    assert result.returncode == 1
    assert_one_line(result.stderr, ["row 3 of part-0.parquet", "'clip-003'", "NaN"])
    assert looks_finished(tmp_path / "out") == []


def test_process_ends_with_one_line_on_stderr_and_code_2(tmp_path: Path) -> None:
    result = command(*arguments("--which-to-keep", "hrad"), cwd=tmp_path)
    assert result.returncode == 2
    assert_one_line(result.stderr, ["--which-to-keep", "got 'hrad'"])
    assert result.stdout == ""


def assert_one_line(text: str, parts: list[str]) -> None:
    assert text.endswith("\n")
    assert text.count("\n") == 1, text
    for part in parts:
        assert part in text


def test_a_path_of_another_protocol_ends_with_code_2(call: Call) -> None:
    flags = ["--output-path", "gs://bucket/out", "--n-clusters", "2"]
    outcome = call("run", "--input-embeddings-path", "in", *flags)
    assert outcome.code == 2
    assert "--output-path: must be a local path or s3://bucket/prefix" in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_cluster_beyond_the_budget_is_compared_with_a_warning(call: Call, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_part(tmp_path / "in", rng.standard_normal((9000, 256)).astype(np.float32))
    flags = ["--input-embeddings-path", "in", "--output-path", "out", "--memory-budget", "16MiB"]
    one = call("run", *flags, "--n-clusters", "1", "--missed-sample", "0")
    assert one.code == 0, one.err
    assert (
        "the largest cluster has 9,000 rows, and takes 17.6 MiB to compare, more than "
        "memory_budget (16.0 MiB); more clusters are smaller"
    ) in " ".join(one.out.split())
    more = call("run", *flags, "--n-clusters", "4", "--missed-sample", "0")
    assert more.code == 0, more.err
    assert "the largest cluster" not in more.out
