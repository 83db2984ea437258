"""``dedup-assets scaffold``: YAML that Dagster's templates load back to the settings."""

import sys
import tempfile
import uuid
from pathlib import Path

import dagster as dg
import pytest
import yaml
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dedup_assets import SemanticDedup
from dedup_assets.command.settings_file import write_settings
from dedup_assets.scaffolding import component_yaml
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
