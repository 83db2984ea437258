"""``dedup-assets scaffold``: YAML that Dagster's templates load back to the settings."""

import re
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dedup_assets import SemanticDedup
from dedup_assets.command.settings_file import write_settings
from dedup_assets.scaffolding import Scaffolder, ScaffoldParams, component_yaml
from dedup_assets.settings import Settings
from dedup_assets.store.filesystem import Store
from dedup_assets_tests import hostile
from dedup_assets_tests.assets.helpers import make_settings
from dedup_assets_tests.command.conftest import Call

pytestmark = pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated")  # Dagster calls it


def load_project(text: str) -> SemanticDedup:
    """The component of a project that has one ``defs/films/defs.yaml`` of this text."""
    package = f"project_{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder)
        films = root / package / "defs" / "films"
        films.mkdir(parents=True)
        for made in (root / package, root / package / "defs"):
            (made / "__init__.py").touch()
        (films / "defs.yaml").write_text(text)
        (root / "pyproject.toml").write_text(
            '[tool.dg]\ndirectory_type = "project"\n\n[tool.dg.project]\n'
            f'root_module = "{package}"\ncode_location_name = "{package}"\n'
        )
        patch.syspath_prepend(root)
        tree = dg.ComponentTree.for_project(root)
        (component,) = tree.get_all_components(of_type=SemanticDedup)
        for name in [name for name in sys.modules if name.startswith(package)]:
            del sys.modules[name]
    return component


@given(hostile.settings)
@hypothesis_settings(max_examples=40, deadline=None)
def test_project_of_any_settings_loads_back_to_them(settings: Settings) -> None:
    assert load_project(component_yaml(settings)).model_dump() == settings.model_dump()


def with_text(text: str) -> Settings:
    values = {"input_embeddings_path": "/in", "output_path": "/out", "n_clusters": 4}
    return Settings.of(**{**values, "id_field": text, "metadata_fields": [text]})


@given(hostile.texts | st.text(st.characters(max_codepoint=127), min_size=1, max_size=30))
@example("None ")
@example("None")
@example("a.b." * 5000)
@example("-" * 3000 + "1")
@example("(" * 500)
@example("x\0y")
@example("a\n")
@example("{% raw %}{{ 1 }}{% endraw %}")
@example("\"'{{ 1 }}'\"")
@hypothesis_settings(max_examples=400, deadline=None)
def test_any_text_is_rendered_to_itself(text: str) -> None:
    settings = with_text(text)
    attributes = yaml.safe_load(component_yaml(settings))["attributes"]
    component = SemanticDedup.from_attributes_dict(attributes=attributes)
    assert component.model_dump() == settings.model_dump()


def test_plain_texts_stay_readable() -> None:
    settings = Settings.of(
        **{
            "dataset": "films",
            "input_embeddings_path": "/data/films/embeddings",
            "output_path": "s3://curated/films",
            "n_clusters": 1000,
            "eps_thresholds": [0.001, "1e-5"],
            "eps_to_extract": 0.01,
            "rank_by": ["bytes:desc"],
            "metadata_fields": ["a{{b}}"],
        }
    )
    assert component_yaml(settings) == (
        "type: dedup_assets.SemanticDedup\n"
        "attributes:\n"
        "  dataset: films\n"
        "  source:\n"
        "    input_embeddings_path: /data/films/embeddings\n"
        "    metadata_fields:\n"
        "    - '{{ \"''a{{b}}''\" }}'\n"
        "  clustering:\n"
        "    n_clusters: 1000\n"
        "  ranking:\n    rank_by:\n    - bytes:desc\n"
        "  thresholds:\n"
        "    eps_thresholds:\n    - 0.001\n    - 1.0e-05\n    - 0.01\n"
        "    eps_to_extract: 0.01\n"
        "  storage:\n"
        "    output_path: s3://curated/films\n"
    )


def test_command_prints_what_a_project_loads(tmp_path: Path, call: Call) -> None:
    settings = make_settings(tmp_path, metadata_fields=["{{ env.HOME }}"])
    write_settings(settings, Store(settings.storage.output_path))
    outcome = call("scaffold", "output")
    assert (outcome.code, outcome.err) == (0, "")
    assert load_project(outcome.out).model_dump() == settings.model_dump()


def test_folder_without_a_run_is_one_line(tmp_path: Path, call: Call) -> None:
    outcome = call("scaffold", "nowhere")
    assert outcome.code == 1
    assert outcome.err.strip() == (
        f"dedup-assets scaffold: {tmp_path}/nowhere/settings.json does not exist; give the output "
        "folder of dedup-assets run"
    )


def scaffolded(folder: Path, *, scaffold_format: str = "yaml", **params: Any) -> Path:
    """What `dg scaffold defs` writes into a folder."""
    folder.mkdir()
    request = dg.ScaffoldRequest(
        type_name="dedup_assets.SemanticDedup",
        target_path=folder,
        scaffold_format=scaffold_format,  # type: ignore[arg-type]
        project_root=folder.parent,
        params=ScaffoldParams(**params),
    )
    Scaffolder().scaffold(request)
    (file,) = folder.iterdir()
    return file


GIVEN: dict[str, Any] = {"input": "s3://films/in", "output": "out", "n_clusters": 4, "eps": 0.010}


def test_scaffolded_yaml_loads_to_what_was_given(tmp_path: Path) -> None:
    """A template in a path is one letter after the other, as the shell gave it."""
    given = {**GIVEN, "clips": "clips {{ env.HOME }}"}
    settings = load_project(scaffolded(tmp_path / "3d-clips", **given).read_text())
    assert settings.dataset == "_3d_clips"
    assert settings.source.input_embeddings_path == "s3://films/in"
    assert settings.source.clips_path == "clips {{ env.HOME }}"
    assert settings.clustering.n_clusters == 4
    assert settings.thresholds.eps_thresholds == ["0.01"]
    assert settings.thresholds.eps_to_extract == "0.01"


def test_scaffolded_python_builds_what_was_given(tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(scaffolded(tmp_path / "films", scaffold_format="python", **GIVEN).read_text(), names)
    settings = names["load"](None)
    assert isinstance(settings, SemanticDedup)
    assert (settings.dataset, settings.thresholds.eps_to_extract) == ("films", "0.01")


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"n_clusters": 0}, "greater than or equal to 1"),
        ({"eps": 2}, "eps must be a number from 0"),
        ({"input": "gs://films"}, "local path or s3://bucket/prefix"),
        ({"output": ""}, "at least 1 character"),
    ],
)
def test_wrong_values_are_refused_before_a_folder_is_made(wrong: dict, rule: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(rule)):
        ScaffoldParams(**{**GIVEN, **wrong})
