"""``run --spec``: what a job spec says is what runs, and what is wrong with one is one line."""

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dedup_assets.command import run, suggest
from dedup_assets.settings import Settings
from dedup_assets_tests.assets.helpers import near_duplicates, write_part
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.specs import ACCEPTED, PATHS, REFUSED, job
from dedup_assets_tests.command.test_bad_input import assert_one_line
from dedup_assets_tests.s3 import S3Server


class Started:
    """What the command would have run."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self.options: dict[str, Any] = {}
        self.budget: float | None = None

    def run(
        self, settings: Settings, console: Any, options: run.RunOptions, *, complete: Any
    ) -> int:
        self.settings = settings if complete is None else complete(settings)
        self.options = vars(options)
        return 0

    def resolve(self, settings: Settings, budget: float, console: Any, *, anew: bool) -> Settings:
        self.budget = budget
        return settings.replace(n_clusters=17)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.settings, name)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Catches runs before they begin."""
    started = Started()
    monkeypatch.setattr(run, "run_and_report", started.run)
    monkeypatch.setattr(suggest, "resolve_clusters", started.resolve)
    return started


@pytest.fixture
def spec(tmp_path: Path) -> Any:
    """Writes a spec and returns the flags that name it."""

    def write(document: Any) -> list[str]:
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / "job.json").write_text(text)
        return ["run", "--spec", "job.json"]

    return write


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_spec_runs(call: Call, started: Started, spec: Any, case: str) -> None:
    outcome = call(*spec(ACCEPTED[case]))
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""


@pytest.mark.parametrize("case", REFUSED)
def test_refused_spec_ends_with_code_2_and_one_line(
    tmp_path: Path, call: Call, started: Started, spec: Any, case: str
) -> None:
    document, parts = REFUSED[case]
    outcome = call(*spec(document))
    assert outcome.code == 2
    assert_one_line(outcome.err, parts)
    assert "hidden-value" not in outcome.err
    assert started.settings is None
    assert not (tmp_path / "out").exists()


def test_spec_comes_to_the_settings_of_the_same_flags(
    call: Call, started: Started, spec: Any
) -> None:
    flags = [
        *("--input-embeddings-path", "in", "--output-path", "out", "--n-clusters", "4"),
        *("--max-iter", "7", "--tol", "1e-3", "--eps-thresholds", "0.1", "0.01"),
        *("--eps-to-extract", "0.05", "--rank-by", "a:asc,b:desc", "--memory-budget", "2GiB"),
        *("--id-field", "name", "--missed-sample", "0", "--device", "cpu"),
    ]
    assert call("run", *flags).code == 0
    expected = started.settings
    as_json = job(
        max_iter=7,
        tol=0.001,
        eps_thresholds=[0.1, 0.01],
        eps_to_extract=0.05,
        rank_by=["a:asc", "b:desc"],
        memory_budget=2 << 30,
        id_field="name",
        missed_sample=0,
        device="cpu",
    )
    as_text = job(
        num_clusters="4",
        eps_thresholds="0.1,0.01",
        rank_by="a:asc,b:desc",
        **{
            "max-iter": "7",
            "tol": "1e-3",
            "eps-to-extract": "0.05",
            "memory-budget": "2GiB",
            "id-field": "name",
            "missed-sample": "0",
            "device": "cpu",
        },
    )
    for document in (as_json, as_text):
        started.settings = None
        assert call(*spec(document)).code == 0
        assert started.settings == expected


def test_spec_extracts_at_001_unless_it_says_null(call: Call, started: Started, spec: Any) -> None:
    """As documented, and unlike the flags, which extract nothing by default."""
    call(*spec(job()))
    assert (started.thresholds.eps_to_extract, started.thresholds.eps_thresholds) == (
        "0.01",
        ["0.01"],
    )
    call(*spec(job(eps_to_extract=None)))
    assert (started.thresholds.eps_to_extract, started.thresholds.eps_thresholds) == (None, [])
    call(*spec(job(eps_to_extract=None, eps_thresholds=[0.1])))
    assert (started.thresholds.eps_to_extract, started.thresholds.eps_thresholds) == (None, ["0.1"])
    call("run", "--input-embeddings-path", "in", "--output-path", "out", "--n-clusters", "4")
    assert started.thresholds.eps_to_extract is None


def test_null_is_as_if_not_given(call: Call, started: Started, spec: Any) -> None:
    call(*spec(job()))
    expected = started.settings
    names = ("max_iter", "which_to_keep", "eps_thresholds", "memory_budget", "device", "refit")
    call(*spec(job(**dict.fromkeys(names))))
    assert started.settings == expected
    assert started.options == {
        "verbose": False,
        "refit": False,
        "replace_shards": False,
        "output_zip": None,
        "location": "dedup_assets",
    }


def test_switches_and_chosen_clusters_reach_the_run(
    call: Call, started: Started, spec: Any, tmp_path: Path
) -> None:
    document = job(
        n_clusters="auto",
        time_budget="2m",
        refit=True,
        replace_shards=True,
        verbose=True,
        output_zip="o.zip",
    )
    assert call(*spec(document)).code == 0
    assert started.clustering.n_clusters == 17
    assert started.budget == 120
    assert started.options == {
        "verbose": True,
        "refit": True,
        "replace_shards": True,
        "output_zip": str(tmp_path / "o.zip"),
        "location": "dedup_assets",
    }


def test_column_with_a_comma_can_be_named_in_a_list(
    call: Call, started: Started, spec: Any
) -> None:
    assert call(*spec(job(metadata_fields=["a,b"]))).code == 0
    assert started.source.metadata_fields == ["a,b"]


def test_spec_without_paths_takes_them_from_the_command_line(
    call: Call, started: Started, spec: Any, tmp_path: Path
) -> None:
    flags = spec({"pipeline": "semantic-dedup", "args": {"n_clusters": 4}})
    paths = ("--input-zip", "in.zip", "--output-path", "out")
    outcome = call(*flags, *paths, "--verbose", "--replace-shards")
    assert outcome.code == 0, outcome.err
    assert started.options["replace_shards"]
    assert started.source.input_embeddings_path == str(tmp_path / "in.zip")
    assert started.storage.output_path == str(tmp_path / "out")
    assert started.options["verbose"]
    outcome = call(*flags)
    assert outcome.code == 2
    missing = (
        "args must have input_embeddings_path, output_path (or give video_dir or --input-zip and"
    )
    assert_one_line(outcome.err, ["--spec job.json: ", missing, "--output-path)"])


@pytest.mark.parametrize(
    ("flags", "key", "same"),
    [
        (["--output-path", "out"], "output_path", True),
        (["--output-path", "other"], "output_path", False),
        (["--output-s3-endpoint-url", "http://a"], "output_s3_endpoint_url", False),
        (["--output-zip", "other.zip"], "output-zip", False),
        (["--verbose"], "verbose", False),
    ],
)
def test_flag_beside_a_spec_must_say_the_same(
    call: Call, started: Started, spec: Any, flags: list[str], key: str, same: bool
) -> None:
    more = {
        "output_s3_endpoint_url": "http://b",
        "output-zip": "o.zip",
        "verbose": False,
    }
    outcome = call(*spec(job(**more)), *flags)
    assert (outcome.code == 0) == same
    if not same:
        assert outcome.code == 2
        assert_one_line(outcome.err, [f"{flags[0]} and args.{key} differ"])


def test_other_flags_beside_a_spec_are_refused_by_name(
    call: Call, started: Started, spec: Any
) -> None:
    outcome = call(*spec(job()), "--max-iter", "7", "--refit", "--time-budget", "1h")
    assert outcome.code == 2
    parts = ["--max-iter", "--refit", "--time-budget", "cannot be given beside a spec"]
    assert_one_line(outcome.err, parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('{"pipeline": "dedup",\n "args": {,}}', ["wrong JSON in line 2, column 11"]),
        ("", ["wrong JSON in line 1, column 1"]),
        ('{"pipeline": "dedup", "args": {"tol": NaN}}', ["NaN is not a JSON number"]),
        ('{"pipeline": "dedup", "pipeline": "dedup"}', ["key 'pipeline' is given twice"]),
        ('{"args": {"tol": 1, "tol": 1}}', ["key 'tol' is given twice"]),
        ('{"args": {"max_iter": 1, "max-iter": 1}, "pipeline": "dedup"}', ["are the same"]),
        ("[" * 100_000, ["is nested too deeply"]),
        (f'{{"args": {"9" * 5000}}}', ["wrong JSON"]),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_wrong_json_is_said_with_its_place(
    call: Call, spec: Any, text: str, parts: list[str]
) -> None:
    outcome = call(*spec(text))
    assert outcome.code == 2
    assert_one_line(outcome.err, ["--spec job.json: ", *parts])


def test_spec_that_cannot_be_read_is_named(call: Call, tmp_path: Path) -> None:
    (tmp_path / "bytes.json").write_bytes(b'{"\xff\xfe')
    for name, reason in (
        ("gone.json", "No such file"),
        (".", "Is a directory"),
        ("bytes.json", "is not UTF-8 text"),
        ("gs://bucket/job.json", "must be a file, s3://bucket/key or -"),
        ("s3://job.json", "must be a file, s3://bucket/key or -"),
    ):
        outcome = call("run", "--spec", name)
        assert outcome.code == 2
        assert_one_line(outcome.err, [f"--spec {name}: ", reason])


def test_a_spec_that_is_too_large_is_refused(call: Call, tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate((16 << 20) + 1)
    outcome = call("run", "--spec", "large.json")
    assert outcome.code == 2
    assert_one_line(outcome.err, ["--spec large.json: is larger than 16.0 MiB"])


def test_spec_of_many_keys_is_refused_at_once(call: Call, spec: Any) -> None:
    text = json.dumps({"pipeline": "dedup", "args": {f"key{i}": i for i in range(100_000)}})
    start = time.monotonic()
    outcome = call(*spec(text))
    assert time.monotonic() - start < 20  # minutes, if each key is compared with all
    assert outcome.code == 2
    assert_one_line(outcome.err, ["unknown key 'key0' in args"])


def test_dash_is_the_standard_input(
    call: Call, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(job(max_iter=3)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert call("run", "--spec", "-").code == 0
    assert started.clustering.max_iter == 3


def test_spec_may_lie_on_s3(call: Call, started: Started, s3: S3Server) -> None:
    s3.put("jobs/job.json", json.dumps(job(max_iter=3)).encode())
    outcome = call("run", "--spec", s3.url("jobs/job.json"))
    assert outcome.code == 0, outcome.err
    assert started.clustering.max_iter == 3
    outcome = call("run", "--spec", s3.url("jobs/gone.json"))
    assert outcome.code == 2
    assert_one_line(outcome.err, ["jobs/gone.json", "cannot be read (No such file or directory)"])


def test_input_zip_is_the_input_path_for_a_zip(
    call: Call, started: Started, tmp_path: Path
) -> None:
    flags = ["run", "--output-path", "out", "--n-clusters", "4"]
    assert call(*flags, "--input-zip", "in.ZIP").code == 0
    assert started.source.input_embeddings_path == str(tmp_path / "in.ZIP")
    same = ["--input-zip", "in.zip", "--input-embeddings-path"]
    assert call(*flags, *same, "in.zip").code == 0
    outcome = call(*flags, *same, "in")
    assert outcome.code == 2
    assert_one_line(outcome.err, ["--input-zip and --input-embeddings-path differ"])
    outcome = call(*flags, "--input-zip", "in")
    assert outcome.code == 2
    assert_one_line(outcome.err, ["--input-zip: must end in .zip, got 'in'"])
    outcome = call(*flags, "--input-zip", "gs://bucket/in.zip")
    assert outcome.code == 2
    assert_one_line(outcome.err, ["--input-zip: must be a local path or s3://"])


def test_endpoint_with_a_password_is_not_repeated(call: Call, started: Started) -> None:
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in PATHS.items()]
    url = "https://me:hidden-value@store"
    outcome = call("run", *flags, "--n-clusters", "4", "--output-s3-endpoint-url", url)
    assert outcome.code == 2
    assert_one_line(outcome.err, ["--output-s3-endpoint-url: must hold no user name or password"])
    assert "hidden-value" not in outcome.err


def test_example_of_the_readme_runs(tmp_path: Path, call: Call) -> None:
    """The spec and the command line of its section, word for word."""
    readme = (Path(run.__file__).parents[2] / "README.md").read_text()
    section = readme.split("## Job specs\n")[1].split("\n## ")[0]
    (tmp_path / "job.json").write_text(section.split("```json\n")[1].split("```")[0])
    line = section.split("```sh\n")[1].split("```")[0].splitlines()[0]
    write_part(tmp_path / "embeddings", near_duplicates())
    outcome = call(*line.removeprefix(".venv/bin/dedup-assets ").split())
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out/extraction/dedup_summary_0.01.csv").exists()
    assert (tmp_path / "results.zip").exists()
    assert f"packed into:  {tmp_path}/results.zip" in outcome.out
