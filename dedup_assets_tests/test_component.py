"""The component as a user writes it: YAML in a project's ``defs`` folder."""

import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import pytest
import yaml
from pydantic import ValidationError

from dedup_assets import SemanticDedup, build_definitions, definitions
from dedup_assets.command import output_definitions
from dedup_assets.command.settings_file import write_settings
from dedup_assets.errors import SettingsError
from dedup_assets.graph import assets_of
from dedup_assets.settings import FIELDS, GROUPS, Settings, grouped
from dedup_assets.store.filesystem import Store
from dedup_assets_tests.assets.helpers import make_settings, near_duplicates, output_of, write_part
from dedup_assets_tests.command.helpers import ROOT, clean_environment
from dedup_assets_tests.s3 import S3Server, forget_sessions, strip_credentials

# Dagster calls beta functions of its own when it resolves a whole repository.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Parameter `execution_type` of function `AssetsDefinition.__init__` is currently in beta"
)

Project = Callable[[dict[str, dict[str, Any]]], dg.Definitions]

GPU = {"centroids", "cluster_partitions", "pairwise_scores", "missed_by_clustering"}

MINIMAL: dict[str, Any] = {
    "input_embeddings_path": "data/embeddings",
    "output_path": "data/output",
    "n_clusters": 4,
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Load a project that has one ``defs/<name>/defs.yaml`` for each given attributes."""

    def load(datasets: dict[str, dict[str, Any]]) -> dg.Definitions:
        package = f"project_{uuid.uuid4().hex}"
        (tmp_path / "pyproject.toml").write_text(
            '[tool.dg]\ndirectory_type = "project"\n\n[tool.dg.project]\n'
            f'root_module = "{package}"\ncode_location_name = "{package}"\n'
        )
        for folder in (tmp_path / package, tmp_path / package / "defs"):
            folder.mkdir()
            (folder / "__init__.py").touch()
        for name, attributes in datasets.items():
            folder = tmp_path / package / "defs" / name
            folder.mkdir()
            attributes = nested(attributes)
            text = yaml.safe_dump({"type": "dedup_assets.SemanticDedup", "attributes": attributes})
            (folder / "defs.yaml").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return dg.load_from_defs_folder(path_within_project=tmp_path / package)

    return load


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Attributes of the YAML from values by name; one that is not known goes to ``clustering``."""
    known = grouped({name: value for name, value in values.items() if name in FIELDS})
    unknown = {name: value for name, value in values.items() if name not in FIELDS}
    known["clustering"].update(unknown)
    return known


def causes(error: BaseException) -> str:
    """The messages of an error and of what it came from."""
    found = []
    cause: BaseException | None = error
    while cause is not None:
        found.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    return "\n".join(found)


def test_two_datasets_in_yaml_load_side_by_side(project: Project) -> None:
    definitions = project(
        {
            name: {**MINIMAL, "dataset": name, "output_path": f"data/{name}", "eps_thresholds": [e]}
            for name, e in (("films", 0.01), ("sport", "1e-02"))
        }
    )
    keys = {spec.key for spec in definitions.resolve_all_asset_specs()}
    assert len(keys) == 16
    assert {key.path[0] for key in keys} == {"films", "sport"}
    repository = definitions.get_repository_def()
    jobs = {f"{d}_{half}" for d in ("films", "sport") for half in ("scoring", "curation")}
    assert jobs <= set(repository.job_names)
    assert {s.name for s in repository.schedule_defs} == {"films_schedule", "sport_schedule"}
    assert {s.name for s in repository.sensor_defs} >= {
        "films_each_eps",
        "sport_each_eps",
    }
    partitions = {
        definitions.resolve_assets_def(dg.AssetKey([d, "duplicate_ids"])).partitions_def
        for d in ("films", "sport")
    }
    assert {p.name for p in partitions if isinstance(p, dg.DynamicPartitionsDefinition)} == {
        "films/eps",
        "sport/eps",
    }
    groups = {spec.group_name for spec in definitions.resolve_all_asset_specs()}
    assert groups == {"films", "sport"}


def test_relative_paths_start_at_the_project(project: Project, tmp_path: Path) -> None:
    """Wherever the server was started."""
    definitions = project({"a": {**MINIMAL, "dataset": "a"}})
    assert output_of(definitions) == str(tmp_path / "data/output")


def test_misspelt_field_is_named_with_file_and_line(project: Project) -> None:
    attributes = {**MINIMAL, "dataset": "a", "n_cluster": 5}
    with pytest.raises(Exception) as error:
        project({"a": attributes}).resolve_all_asset_specs()
    text = causes(error.value)
    text_of = yaml.safe_dump({"attributes": nested(attributes)})
    line = text_of.splitlines().index("    n_cluster: 5") + 1
    assert "n_cluster" in text
    assert f"a/defs.yaml:{line}" in text


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("eps_thresholds", [1.5], "eps must be a number from 0 to 0.99999"),
        ("eps_to_extract", 0.000001, "at most 5 decimals"),
        ("which_to_keep", "hrad", "'hard', 'easy', 'soft' or 'random'"),
        ("n_clusters", 0, "greater than or equal to 1"),
        ("rank_by", ["score"], "COLUMN:asc or COLUMN:desc"),
    ],
)
def test_value_outside_its_rule_fails_with_the_rule_and_its_place(
    project: Project, field: str, value: object, rule: str
) -> None:
    with pytest.raises(Exception) as error:
        project({"a": {**MINIMAL, field: value}}).resolve_all_asset_specs()
    text = causes(error.value)
    assert rule in text
    assert field in text
    assert re.search(r"└── a\n +└── defs.yaml \(SemanticDedup\) \(error\)", text)


def test_numbers_in_yaml_become_canonical_eps() -> None:
    component = SemanticDedup.from_attributes_dict(
        attributes=nested(
            {**MINIMAL, "eps_thresholds": [0.010, "1e-05", 0, 0.01], "eps_to_extract": 0.2}
        )
    )
    assert component.thresholds.eps_thresholds == ["0.01", "0.00001", "0", "0.2"]
    assert component.thresholds.eps_to_extract == "0.2"


@pytest.mark.parametrize("field", ["dataset", "output_path"])
def test_two_datasets_with_one_name_or_place_are_refused(tmp_path: Path, field: str) -> None:
    first = make_settings(tmp_path, dataset="first", output_path=str(tmp_path / "first"))
    second = make_settings(tmp_path, dataset="second", output_path=str(tmp_path / "second"))
    clash = second.replace(**{field: first.values()[field]})
    assert build_definitions(first, second)
    with pytest.raises(SettingsError, match=f"each dataset needs its own {field}, and two have"):
        build_definitions(first, clash)


def test_two_yaml_files_with_one_dataset_are_refused(project: Project) -> None:
    with pytest.raises(Exception) as error:
        project(
            {name: {**MINIMAL, "output_path": f"data/{name}"} for name in ("a", "b")}
        ).get_repository_def()
    assert "dedup" in causes(error.value)


def test_settings_of_the_assets_reach_every_asset(project: Project) -> None:
    tags = {"dagster-k8s/config": {"container_config": {"resources": {"limits": {"gpu": 1}}}}}
    definitions = project(
        {
            "a": {
                **MINIMAL,
                "key_prefix": ["video", "curation"],
                "owners": ["team:data", "ann@example.com"],
                "tags": {"domain": "video"},
                "deps": ["video/clip_embeddings"],
                "op_tags": {"pairwise_scores": tags},
                "pool": "h200",
            }
        }
    )
    specs = {s.key.path[-1]: s for s in definitions.resolve_all_asset_specs()}
    ours = {name: specs[name] for name in assets_of(videos=False)}
    for name, spec in ours.items():
        assert spec.key.path[:-1] == ["video", "curation", "dedup"]
        assert spec.owners == ["team:data", "ann@example.com"]
        assert spec.tags["domain"] == "video"
        op = definitions.resolve_assets_def(spec.key).op
        assert ("dagster-k8s/config" in op.tags) == (name == "pairwise_scores")
        assert op.pool == ("h200" if name in GPU else None)
    (before,) = ours["embeddings"].deps
    assert before.asset_key == dg.AssetKey(["video", "clip_embeddings"])
    repository = definitions.get_repository_def()
    assert repository.has_job("dedup_scoring")
    checks = repository.asset_graph.asset_check_keys
    assert {key.asset_key.path[0] for key in checks} == {"video"}


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("key_prefix", ["a/b"], "segments of letters, digits"),
        ("deps", ["a//b"], "asset keys such as"),
        ("owners", ["ann"], "email addresses and team:NAME, got 'ann'"),
        ("tags", {"a b": "c"}, "invalid tag keys"),
        ("op_tags", {"scores": {"a": "b"}}, "pairwise_scores, missed_by_clustering"),
        ("pool", "a b", "should match pattern"),
    ],
)
def test_settings_of_the_assets_are_checked(field: str, value: object, rule: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(rule)):
        Settings.of(**MINIMAL, **{field: value})


def test_every_setting_has_a_description_and_an_example_in_the_schema() -> None:
    """What `dg` shows in its documentation of the component, and editors beside the YAML."""
    for group in (SemanticDedup, *GROUPS.values()):
        for name, field in group.model().model_fields.items():
            assert field.description, name
            assert field.examples or name in GROUPS, name


def test_definitions_of_the_repository_validate(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        cwd=ROOT,
        env=clean_environment(DAGSTER_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "dedup_assets" in result.stdout + result.stderr
    assert "DeprecationWarning" not in result.stderr


def test_code_location_loads_the_defs_folder_whatever_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that `dedup-assets ui` has left behind must not replace the datasets."""
    settings = make_settings(tmp_path)
    write_settings(settings, Store(settings.storage.output_path))
    monkeypatch.setenv(output_definitions.OUTPUT, settings.storage.output_path)
    datasets = {spec.key.path[0] for spec in definitions.defs().resolve_all_asset_specs()}
    assert datasets == {"demo"}
    assert output_of(output_definitions.defs()) == settings.storage.output_path


def test_both_code_locations_run_steps_in_the_process_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path)
    write_settings(settings, Store(settings.storage.output_path))
    monkeypatch.setenv(output_definitions.OUTPUT, settings.storage.output_path)
    for location in (definitions, output_definitions):
        assert location.defs().executor is dg.in_process_executor


def test_auto_is_no_number_of_clusters_in_yaml(project: Project) -> None:
    """Partitions are made from it while definitions load, so it cannot wait for a measurement."""
    with pytest.raises(Exception) as raised:
        project({"films": {**MINIMAL, "n_clusters": "auto"}})
    assert "n_clusters must be a number here" in causes(raised.value)


def test_storage_options_take_secrets_from_the_environment_and_show_them_nowhere(
    project: Project, s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    strip_credentials(monkeypatch)
    forget_sessions()
    monkeypatch.setenv("BUCKET_KEY", "key-that-nobody-may-see")
    monkeypatch.setenv("BUCKET_SECRET", "secret-that-nobody-may-see")
    path = write_part(tmp_path / "rows", near_duplicates())
    s3.put("in/part.parquet", path.read_bytes())
    options = {
        "key": "{{ env.BUCKET_KEY }}",
        "secret": "{{ env.BUCKET_SECRET }}",
        "endpoint_url": s3.endpoint,
    }
    definitions = project(
        {
            "films": {
                "dataset": "films",
                "input_embeddings_path": s3.url("in"),
                "output_path": s3.url("out"),
                "n_clusters": 4,
                "input_storage_options": options,
                "output_storage_options": options,
            }
        }
    )
    home = tmp_path / "home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        job = definitions.resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey(["films", name]) for name in ("embeddings", "centroids")]
        result = job.execute_in_process(instance=instance, asset_selection=keys)
        assert result.success
        events = "\n".join(str(record) for record in instance.all_logs(result.run_id))
        stored = b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file())
    repository = definitions.get_repository_def()
    shown = str(repository.get_top_level_resources()) + str(
        [
            resource.config_schema.default_value
            for resource in job.resource_defs.values()
            if resource.config_schema.default_provided
        ]
    )
    objects = b"".join(s3.get(name) for name in s3.names("out"))
    assert "out/clustering_results/kmeans_centroids.npy" in s3.names("out")
    for secret in ("key-that-nobody-may-see", "secret-that-nobody-may-see"):
        assert secret not in events + shown
        assert secret.encode() not in stored + objects


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("url", ["http://me:hidden@host:9000", "hidden"])
def test_wrong_endpoint_of_storage_options_is_refused_without_showing_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, url: str, nested: bool
) -> None:
    """A store that does not answer is named by its URL, in the log and in the events."""
    monkeypatch.setenv("BUCKET_ENDPOINT", url)
    options: dict[str, Any] = {"endpoint_url": "{{ env.BUCKET_ENDPOINT }}"}
    options = {"client_kwargs": options} if nested else options
    with pytest.raises(Exception, match="Error while loading component films") as caught:
        project({"films": {**MINIMAL, "input_storage_options": options}})
    assert "endpoint_url must" in causes(caught.value)
    assert "hidden" not in causes(caught.value)


def test_storage_options_of_a_wrong_type_are_not_repeated(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUCKET_SECRET", "secret-that-nobody-may-see")
    with pytest.raises(Exception, match="Error while loading component films") as caught:
        project({"films": {**MINIMAL, "input_storage_options": "{{ env.BUCKET_SECRET }}"}})
    assert "input_storage_options" in causes(caught.value)
    assert "secret-that-nobody-may-see" not in causes(caught.value)


def test_every_field_keeps_its_description_and_numbers_are_numbers() -> None:
    schema = SemanticDedup.model().model_json_schema()
    groups = schema["properties"]
    assert groups.keys() == GROUPS.keys() | {"dataset"}
    assert all(field["description"] for field in groups.values())
    fields = {"dataset": groups["dataset"]}
    for group in GROUPS:
        reference = groups[group]["$ref"].removeprefix("#/$defs/")
        fields |= schema["$defs"][reference]["properties"]
    assert fields.keys() == FIELDS.keys()
    for name, field in fields.items():
        assert field["description"] == FIELDS[name].description
    jsonschema.validate([0.01, "0.001"], fields["eps_thresholds"])
    jsonschema.validate(0.01, fields["eps_to_extract"])
    jsonschema.validate("2GiB", fields["memory_budget"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([True, {}], fields["eps_thresholds"])
