"""``dedup-assets suggest-clusters`` and ``run --n-clusters auto``, with rates made by hand.

60 rows of 8 numbers and a second for each pair: 1,800 s with one cluster, 900 with two, ...
"""

import json
from pathlib import Path

import pytest

from dedup_assets.compute.cost import Rates
from dedup_assets.stages import suggestion
from dedup_assets_tests.assets.helpers import clip_ids, contents, near_duplicates, write_part
from dedup_assets_tests.command.conftest import Call, Outcome

pytestmark = pytest.mark.slow

INPUT = ("--input-embeddings-path", "in")
AUTO = ("run", *INPUT, "--output-path", "out", "--n-clusters", "auto")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds of a pair, to be changed by a test."""
    pair = {"s": 1.0}

    def rates(*_: object) -> Rates:
        return Rates(compare=pair["s"])

    monkeypatch.setattr(suggestion, "measure_rates", rates)
    return pair


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    write_part(tmp_path / "in", near_duplicates())
    return tmp_path


def recorded(root: Path) -> int:
    return json.loads((root / "out/settings.json").read_text())["settings"]["n_clusters"]


def assert_one_line(outcome: Outcome, code: int, *parts: str) -> None:
    assert outcome.code == code, outcome
    assert outcome.err.count("\n") == 1, outcome.err
    for part in parts:
        assert part in outcome.err


def test_suggestion_is_the_fewest_clusters_within_ten_minutes(
    rows: Path, call: Call, slow: dict[str, float]
):
    outcome = call("suggest-clusters", *INPUT, "--id-field", "id")
    assert outcome.code == 0, outcome.err
    assert "60 rows of 8 dimensions on cpu" in outcome.out
    chosen = next(line for line in outcome.out.splitlines() if "<- chosen" in line)
    assert chosen.split()[1:4] == ["3", "│", "20"]
    assert "3 clusters: the fewest predicted to stay within 10 min, with 10 min." in outcome.out
    assert (
        f"go on with:  dedup-assets run {' '.join(INPUT)} --id-field id --output-path out "
        "--n-clusters 3\n" in outcome.out
    )
    assert not (rows / "out").exists()


def test_command_to_go_on_with_is_quoted_and_not_wrapped(
    rows: Path, call: Call, slow: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "60")
    (rows / "in").rename(rows / "my [films]")
    outcome = call("suggest-clusters", "--input-embeddings-path", "my [films]")
    assert (
        "\ngo on with:  dedup-assets run --input-embeddings-path 'my [films]' --output-path out "
        "--n-clusters 3\n" in outcome.out
    )


def test_budget_decides(rows: Path, call: Call, slow: dict[str, float]):
    outcome = call("suggest-clusters", *INPUT, "--time-budget", "1h")
    assert "1 cluster compares all rows and misses nothing: 30 min, within 60 min." in outcome.out
    assert "--n-clusters 1\n" in outcome.out


def test_where_no_number_is_within_the_budget_it_says_so(
    rows: Path, call: Call, slow: dict[str, float]
):
    outcome = call("suggest-clusters", *INPUT, "--time-budget", "2s")
    assert outcome.code == 0
    assert "No number of clusters is predicted to stay within 2.0 s." in outcome.out
    assert "The fastest is 60, with 30 s." in outcome.out
    assert "few rows to fit on (1 a centroid, at least 39)" in outcome.out


def test_clusters_that_do_not_fit_into_memory_are_marked(
    rows: Path, call: Call, slow: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    """60 rows are 1,920 bytes; 480 leave four clusters, though the time would allow three."""
    budget = 16 << 20
    monkeypatch.setattr(suggestion, "free_memory", lambda: budget // 2 + 3 * 480)
    outcome = call("suggest-clusters", *INPUT, "--memory-budget", "16MiB")
    assert "4 clusters: the fewest that fit into the memory, within 10 min" in outcome.out
    first = next(line for line in outcome.out.splitlines() if line.startswith("│        1 "))
    assert "too large for the memory (1.9 KiB)" in first


def test_a_cluster_above_the_memory_budget_is_pointed_out(
    tmp_path: Path, call: Call, slow: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    """The budget bounds what a step holds beside its cluster."""
    monkeypatch.setattr(suggestion, "free_memory", lambda: 1 << 40)
    write_part(tmp_path / "in", near_duplicates(300, dim=20_000), clip_ids(300))
    outcome = call("suggest-clusters", *INPUT, "--memory-budget", "16MiB", "--time-budget", "20h")
    text = " ".join(outcome.out.split())
    assert "its largest cluster takes about 22.9 MiB of memory" in text
    assert "on top of --memory-budget (16.0 MiB)" in text


def test_json_is_one_document(rows: Path, call: Call, slow: dict[str, float]):
    outcome = call("suggest-clusters", *INPUT, "--json", "--output-path", "there")
    assert outcome.code == 0, outcome.err
    document = json.loads(outcome.out)
    assert (document["rows"], document["dim"], document["device"]) == (60, 8, "cpu")
    assert (document["n_clusters"], document["within_budget"]) == (3, True)
    assert document["time_budget_s"] == 600
    assert document["command"].endswith("--output-path there --n-clusters 3")
    by_number = {p["n_clusters"]: p for p in document["predictions"]}
    assert list(by_number) == [1, 2, 3, 5, 10, 20, 50, 60]
    assert by_number[1]["compare_s"] == by_number[1]["all_s"] == 1800
    assert [n for n, p in by_number.items() if p["chosen"]] == [3]


def test_auto_runs_with_a_number_and_writes_it_down(rows: Path, call: Call, slow: dict[str, float]):
    outcome = call(*AUTO, "--eps-thresholds", "0.05")
    assert outcome.code == 0, outcome.err
    assert "3 clusters: the fewest predicted to stay within 10 min" in outcome.out
    assert "60 rows of 8 dimensions in 1 file, 3 clusters" in outcome.out
    assert recorded(rows) == 3
    scores = rows / "out/extraction/semdedup_pruning_tables"
    assert len(list(scores.iterdir())) == 3


def test_auto_again_keeps_the_number_however_busy_the_machine(
    rows: Path, call: Call, slow: dict[str, float]
):
    """Another number would throw away every partition."""
    call(*AUTO)
    before = contents(rows / "out/clustering_results")
    slow["s"] = 4.0
    outcome = call(*AUTO, "--time-budget", "5m")
    assert outcome.code == 0, outcome.err
    assert f"n_clusters 3, as in {rows}/out/settings.json" in outcome.out
    assert "--refit chooses anew" in outcome.out
    assert "everything was current; nothing was computed again" in outcome.out
    assert "grown" not in outcome.out
    assert contents(rows / "out/clustering_results") == before
    assert recorded(rows) == 3


def test_auto_keeps_a_number_that_was_given(rows: Path, call: Call, slow: dict[str, float]):
    call("run", *INPUT, "--output-path", "out", "--n-clusters", "5")
    assert "n_clusters 5, as in" in call(*AUTO).out
    assert recorded(rows) == 5


def test_refit_chooses_anew(rows: Path, call: Call, slow: dict[str, float]):
    call(*AUTO)
    slow["s"] = 4.0
    outcome = call(*AUTO, "--refit")
    assert outcome.code == 0, outcome.err
    assert "12 clusters: the fewest" in outcome.out
    assert recorded(rows) == 12


def test_an_input_that_has_grown_keeps_the_number_and_is_pointed_out(
    rows: Path, call: Call, slow: dict[str, float]
):
    call(*AUTO)
    more = [f"new-{i}" for i in range(120)]
    write_part(rows / "in", near_duplicates(120, seed=1), more, "part-1.parquet")
    outcome = call(*AUTO)
    assert outcome.code == 0, outcome.err
    assert recorded(rows) == 3
    text = " ".join(outcome.out.split())
    assert "has grown from 60 to 180 rows since k-means was fitted" in text
    assert "about 9 times as long; --refit chooses anew" in text


def test_an_input_with_fewer_rows_than_clusters_chooses_anew(
    rows: Path, call: Call, slow: dict[str, float]
):
    call("run", *INPUT, "--output-path", "out", "--n-clusters", "50")
    write_part(rows / "in", near_duplicates(20))
    slow["s"] = 10.0
    outcome = call(*AUTO)
    assert outcome.code == 0, outcome.err
    assert "is more than the 20 rows there are; choosing anew" in outcome.out
    assert recorded(rows) == 4


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "settings": {}}']
)
def test_settings_that_cannot_be_read_are_named_and_the_number_chosen_anew(
    rows: Path, call: Call, slow: dict[str, float], text: str
):
    (rows / "out").mkdir()
    (rows / "out/settings.json").write_text(text)
    outcome = call(*AUTO)
    assert f"{rows}/out/settings.json: " in outcome.out
    assert "; choosing anew" in outcome.out
    assert "3 clusters: the fewest" in outcome.out
    assert recorded(rows) == 3


def test_number_of_another_dataset_is_not_kept(rows: Path, call: Call, slow: dict[str, float]):
    """One whose run failed before it had results; with results, the folder is refused."""
    flags = ("--n-clusters", "50", "--dataset", "other", "--id-field", "gone")
    assert call("run", *INPUT, "--output-path", "out", *flags).code == 1
    assert recorded(rows) == 50
    assert "3 clusters: the fewest" in call(*AUTO).out


def test_output_of_another_dataset_is_refused_before_anything_is_measured(
    rows: Path, call: Call, slow: dict[str, float]
):
    call("run", *INPUT, "--output-path", "out", "--n-clusters", "5", "--dataset", "other")
    outcome = call(*AUTO)
    assert_one_line(outcome, 1, "out holds the results of dataset 'other'")
    assert outcome.out == ""
    assert recorded(rows) == 5


@pytest.mark.parametrize("budget", ["soon", "0", "-1", "10x", ""])
@pytest.mark.parametrize("command", ["run", "suggest-clusters"])
def test_wrong_budget_ends_with_code_2_in_one_line(rows: Path, call: Call, command: str, budget):
    flags = AUTO[1:] if command == "run" else INPUT
    outcome = call(command, *flags, f"--time-budget={budget}")
    assert_one_line(outcome, 2, "--time-budget", "a time must look like 10m, 90s or 2h", "--help")
    assert outcome.out == ""
    assert not (rows / "out").exists()


def test_budget_without_auto_ends_with_code_2(rows: Path, call: Call):
    flags = ["--output-path", "out", "--n-clusters", "3", "--time-budget", "10m"]
    outcome = call("run", *INPUT, *flags)
    assert_one_line(outcome, 2, "--time-budget goes with --n-clusters auto")


@pytest.mark.parametrize("command", ["run", "suggest-clusters"])
def test_inputs_that_cannot_be_used_are_named_in_one_line(tmp_path: Path, call: Call, command: str):
    flags = AUTO[1:] if command == "run" else INPUT
    assert_one_line(call(command, *flags), 1, "does not exist", "point it at the folder")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.parquet").write_text("hello")
    assert_one_line(call(command, *flags), 1, "broken.parquet", "not a readable Parquet file")
    (tmp_path / "in/broken.parquet").unlink()
    write_part(tmp_path / "in", near_duplicates())
    wrong = ("--embedding-field", "vector")
    assert_one_line(call(command, *flags, *wrong), 1, "no column 'vector'", "id, embedding")
    assert not (tmp_path / "out/extraction").exists()


def test_suggestion_takes_no_flag_that_changes_nothing_about_it(rows: Path, call: Call):
    outcome = call("suggest-clusters", *INPUT, "--eps-thresholds", "0.1")
    assert_one_line(outcome, 2, "unrecognized arguments: --eps-thresholds")


def test_help_names_both_ways(call: Call):
    assert "--time-budget" in call("run", "--help").out
    text = " ".join(call("run", "--help").out.split())
    assert "auto: the fewest that stay within --time-budget" in text
    assert "suggest-clusters" in call("--help").out


def test_measured_for_real_it_suggests_one_cluster_for_sixty_rows(rows: Path, call: Call):
    document = json.loads(call("suggest-clusters", *INPUT, "--json").out)
    assert document["n_clusters"] == 1
    assert document["within_budget"]
