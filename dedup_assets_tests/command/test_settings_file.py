"""``settings.json`` is data: what was written is read, nothing of it is rendered or run."""

import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from dedup_assets.command import output, output_definitions
from dedup_assets.command.arguments import SECRET
from dedup_assets.command.output_definitions import COPY, OUTPUT
from dedup_assets.command.settings_file import (
    UNWRITTEN,
    load_settings,
    read_settings,
    write_settings,
)
from dedup_assets.settings import FIELDS, Settings
from dedup_assets.store.filesystem import Store
from dedup_assets_tests import hostile
from dedup_assets_tests.assets.helpers import make_settings, near_duplicates, output_of, write_part
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.test_bad_input import assert_one_line
from dedup_assets_tests.s3 import S3Server

GOOD = {"input_embeddings_path": "/in", "output_path": "/out", "n_clusters": 4}

pytestmark = pytest.mark.filterwarnings(
    "ignore:Parameter `execution_type` of function `AssetsDefinition.__init__` is currently in beta"
)


def test_every_setting_is_drawn() -> None:
    assert hostile.SETTINGS.keys() == FIELDS.keys() - UNWRITTEN


@given(hostile.settings)
@hypothesis_settings(max_examples=200, deadline=None)
def test_any_settings_load_back_as_they_were(settings: Settings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        write_settings(settings, store)
        assert read_settings(store) == settings
        loaded = load_settings(folder)
        assert loaded == settings.replace(output_path=folder)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environment of each server that ``ui`` would have started."""
    found: list[dict[str, str]] = []

    def start(command: list[str], cwd: str, env: dict[str, str]) -> int:
        found.append(env)
        return 0

    monkeypatch.setattr(output, "supervise", start)
    monkeypatch.setattr(output, "refuse_taken_port", lambda port: None)
    return found


def loaded(monkeypatch: pytest.MonkeyPatch, folder: Path | str) -> dg.Definitions:
    """The definitions of a code location on an output folder, resolved."""
    monkeypatch.setenv(OUTPUT, str(folder))
    found = output_definitions.defs()
    found.get_repository_def()
    return found


def test_values_of_a_job_spec_are_neither_run_nor_expanded(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    columns = [
        f"{{{{ lipsum.__globals__['os'].system('touch {ran}') }}}}",
        "{{ env.SOME_SECRET }}",
        "{% set a = 1 %}",
    ]
    monkeypatch.setenv("SOME_SECRET", "hidden-value")
    write_part(tmp_path / "in", near_duplicates(), **{name: [1] * 60 for name in columns})
    args = {"input_embeddings_path": "in", "output_path": "out", "n_clusters": 2}
    document = {"pipeline": "dedup", "args": {**args, "metadata_fields": columns}}
    (tmp_path / "job.json").write_text(json.dumps(document))
    outcome = call("run", "--spec", "job.json")
    assert outcome.code == 0, outcome.err
    loaded(monkeypatch, tmp_path / "out")
    assert load_settings(str(tmp_path / "out")).source.metadata_fields == columns
    outcome = call("scaffold", "out")
    assert outcome.code == 0, outcome.err
    assert not ran.exists()
    assert "hidden-value" not in outcome.out
    assert b"hidden-value" not in b"".join(
        path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("name", ["a{{b}}", "run{{1}}", "a{#1#}b", "a{%b", "{{ env.HOME }}"])
def test_folders_named_as_templates_are_plain_names(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_part(tmp_path / f"in {name}", near_duplicates())
    flags = ("--input-embeddings-path", f"in {name}", "--output-path", f"out {name}")
    outcome = call("run", *flags, "--n-clusters", "2", "--eps-to-extract", "0.05")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / f"out {name}"
    found = loaded(monkeypatch, folder)
    assert output_of(found) == str(folder)
    (folder / "embeddings/manifest.parquet").unlink()
    with dg.DagsterInstance.ephemeral() as instance:
        job = found.resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey(["dedup", "embeddings"])]
        assert job.execute_in_process(instance=instance, asset_selection=keys).success
    assert (folder / "embeddings/manifest.parquet").exists()
    assert {path.name for path in tmp_path.iterdir()} == {f"in {name}", f"out {name}"}


def test_folder_that_was_moved_is_where_its_results_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so is one whose settings name a folder of somebody else's choice."""
    settings = make_settings(tmp_path, output_path=str(tmp_path / "elsewhere"))
    write_settings(settings, Store(str(tmp_path / "here")))
    assert output_of(loaded(monkeypatch, tmp_path / "here")) == str(tmp_path / "here")


def test_storage_options_are_not_written(tmp_path: Path) -> None:
    options = {"key": "some-key", "secret": "hidden-value"}
    settings = make_settings(
        tmp_path, input_storage_options=options, output_storage_options=options
    )
    store = Store(str(tmp_path / "out"))
    write_settings(settings, store)
    text = (tmp_path / "out/settings.json").read_text()
    assert "hidden-value" not in text
    assert not SECRET & json.loads(text)["settings"].keys()
    assert load_settings(str(tmp_path / "out")).storage.output_storage_options == {}


def file(**settings: Any) -> str:
    return json.dumps({"version": 1, "settings": {**GOOD, **settings}})


REFUSED = {
    "empty": ("", "wrong JSON in line 1, column 1"),
    "YAML": ("type: dedup_assets.SemanticDedup\n", "wrong JSON in line 1, column 1"),
    "list": ("[]", "is not a file that dedup-assets run writes"),
    "text": ('"settings"', "is not a file that dedup-assets run writes"),
    "no version": (json.dumps(GOOD), "is not a file that dedup-assets run writes"),
    "version true": ('{"version": true, "settings": {}}', "is not a file that dedup-assets run"),
    "no settings": ('{"version": 1}', "is not a file that dedup-assets run writes"),
    "settings a list": ('{"version": 1, "settings": []}', "is not a file that dedup-assets run"),
    "newer": ('{"version": 2, "settings": {}}', "is of version 2, and this dedup-assets reads"),
    "much newer": (f'{{"version": {"9" * 4000}}}', "; update dedup-assets"),
    "twice": ('{"version": 1, "version": 1}', "key 'version' is given twice"),
    "NaN": ('{"version": 1, "settings": {"tol": NaN}}', "NaN is not a JSON number"),
    "infinite": ('{"version": 1, "settings": {"tol": 1e999}}', "'1e999' is too large a number"),
    "deep": ("[" * 200 + "]" * 200, "is nested too deeply"),
    "very deep": ("[" * 200_000, "is nested too deeply"),
    "large": (f'"{"x" * (16 << 20)}"', "is larger than 16.0 MiB"),
    "not UTF-8": ("\udcff", "is not UTF-8 text"),
    "auto": (file(n_clusters="auto"), "n_clusters: n_clusters must be a number here"),
    "unknown": (file(colour="red"), "'colour' is not a setting"),
    "unknown and long": (file(**{"x\n" * 9000: 1}), "is not a setting"),
    "long value": (file(which_to_keep="x" * 90_000), "which_to_keep: input should be 'hard'"),
    "long rule": (file(rank_by=["x" * 90_000]), "rank_by: rank_by takes COLUMN:asc"),
    "missing": ('{"version": 1, "settings": {"n_clusters": 1}}', "output_path: Field required"),
    "relative": (file(input_embeddings_path="in"), "must be an absolute path, got 'in'"),
    "home": (file(clips_path="~/clips"), "clips_path: must be an absolute path, got '~/clips'"),
    "secrets": (file(input_storage_options={"secret": "hidden-value"}), "must not be in it"),
    "a cluster": (file(engine="ray", address="ray://evil:1"), "address must not be in it"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("command", ["ui", "scaffold"])
def test_file_that_breaks_a_rule_is_one_line_that_says_what_to_do(
    tmp_path: Path, call: Call, served: list[dict[str, str]], case: str, command: str
) -> None:
    text, reason = REFUSED[case]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/settings.json").write_text(text, errors="surrogateescape")
    outcome = call(command, "out")
    assert outcome.code == 1
    step = "update dedup-assets" if "newer" in case else "run dedup-assets run with this output"
    assert_one_line(outcome.err, [f"{tmp_path}/out/settings.json: ", reason, step])
    assert len(outcome.err) < 1000
    assert "hidden-value" not in outcome.err
    assert served == []


def test_file_that_cannot_be_read_is_one_line(tmp_path: Path, call: Call) -> None:
    (tmp_path / "out/settings.json").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name, reason in (("out", "Is a directory"), ("file", "Not a directory")):
        outcome = call("ui", name)
        assert outcome.code == 1
        assert_one_line(outcome.err, [f"{name}/settings.json cannot be read ({reason})"])


def test_ui_of_a_local_folder_reads_it_again_when_it_reloads(
    tmp_path: Path, call: Call, served: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(COPY, "/of/another/server")
    write_settings(make_settings(tmp_path, n_clusters=7), Store(str(tmp_path / "output")))
    outcome = call("ui", "output")
    assert outcome.err == ""
    (environment,) = served
    assert environment[OUTPUT] == str(tmp_path / "output")
    assert COPY not in environment


def test_a_port_that_is_taken_is_named_before_anything_starts(tmp_path: Path, call: Call) -> None:
    """Dagster's web server would say so in its log, and its daemon go on."""
    write_settings(make_settings(tmp_path), Store(str(tmp_path / "output")))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        outcome = call("ui", "output", "--port", str(port))
    assert outcome.code == 1
    assert_one_line(outcome.err, [f"port {port} of 127.0.0.1", "in use", "choose another"])


def test_access_comes_from_flags_then_the_spec_then_the_folder(
    tmp_path: Path,
    call: Call,
    served: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    s3: S3Server,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    settings = make_settings(
        tmp_path,
        output_path=s3.url("out"),
        input_s3_profile_name="of-the-run",
        input_s3_endpoint_url="http://of-the-run",
        output_s3_profile_name=None,
        output_s3_endpoint_url="http://127.0.0.1:9",
    )
    write_settings(
        settings, settings.replace(output_s3_endpoint_url=s3.endpoint).storage.open_output()
    )
    spec = {"input_s3_profile_name": "of-the-spec", "input_s3_endpoint_url": "http://of-the-spec"}
    (tmp_path / "job.json").write_text(json.dumps({"pipeline": "dedup", "args": spec}))
    flags = ("--output-s3-endpoint-url", s3.endpoint, "--input-s3-profile-name", "of-the-flag")
    outcome = call("ui", s3.url("out"), "--spec", "job.json", *flags)
    assert outcome.err == ""
    (environment,) = served
    copy = environment[COPY]
    assert Path(copy).is_relative_to(tmp_path / "state")
    served_settings = load_settings(environment[OUTPUT], copy=copy)
    assert served_settings == settings.replace(
        input_s3_profile_name="of-the-flag",
        input_s3_endpoint_url="http://of-the-spec",
        output_s3_endpoint_url=s3.endpoint,
    )
    monkeypatch.setenv(COPY, copy)
    assert output_of(loaded(monkeypatch, environment[OUTPUT])) == s3.url("out")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--spec", "gone.json"], "--spec gone.json: cannot be read (No such file or directory)"),
        (["--spec", "job.json"], "args.input_s3_endpoint_url: must look like https://host:port"),
        (["--output-s3-endpoint-url", "host"], "--output-s3-endpoint-url: must look like https"),
        (["--n-clusters", "2"], "unrecognized arguments: --n-clusters"),
    ],
)
@pytest.mark.parametrize("command", ["ui", "scaffold"])
def test_wrong_access_ends_with_code_2(
    tmp_path: Path, call: Call, flags: list[str], says: str, command: str
) -> None:
    document = {"pipeline": "dedup", "args": {"input_s3_endpoint_url": "host"}}
    (tmp_path / "job.json").write_text(json.dumps(document))
    write_settings(make_settings(tmp_path), Store(str(tmp_path / "output")))
    outcome = call(command, "output", *flags)
    assert outcome.code == 2
    assert_one_line(outcome.err, [says])
