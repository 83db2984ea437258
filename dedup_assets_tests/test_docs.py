"""What docs/dagster.md and README.md show for a project, loaded as a user would."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dedup_assets.component import build_definitions
from dedup_assets.partitions import cluster_partitions_def
from dedup_assets.settings import Settings
from dedup_assets_tests.command.helpers import ROOT

# Dagster calls beta functions of its own when it resolves a whole repository.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter .* is currently in beta")

PAGE = ROOT / "docs" / "dagster.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def components(page: Path) -> list[str]:
    return [b for b in blocks(page, "yaml") if b.startswith("type: dedup_assets.SemanticDedup")]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Load a project that has one ``defs.yaml`` of this text."""
    package = f"docs_{tmp_path.name}"

    def load_text(text: str) -> dg.Definitions:
        folder = tmp_path / package / "defs" / "web_clips"
        folder.mkdir(parents=True)
        for made in (tmp_path / package, tmp_path / package / "defs"):
            (made / "__init__.py").touch()
        (folder / "defs.yaml").write_text(text)
        (tmp_path / "pyproject.toml").write_text(
            '[tool.dg]\ndirectory_type = "project"\n\n[tool.dg.project]\n'
            f'root_module = "{package}"\ncode_location_name = "{package}"\n'
        )
        monkeypatch.syspath_prepend(tmp_path)
        return dg.load_from_defs_folder(path_within_project=tmp_path / package)

    yield load_text
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("page", "number"),
    [(PAGE, 0), (PAGE, 1), (ROOT / "README.md", 0), (ROOT / "docs/videos.md", 0)],
    ids=str,
)
def test_yaml_of_the_docs_loads(load: Any, page: Path, number: int) -> None:
    found = components(page)
    definitions = load(found[number])
    specs = {spec.key.path[-1]: spec for spec in definitions.resolve_all_asset_specs()}
    assert {"embeddings", "curated_shards"} <= specs.keys()
    assert ("clips" in specs) == (page.name == "videos.md")
    if "post_processing" in found[number]:
        assert specs["embeddings"].metadata["cost_centre"] == "films"
        assert {s.group_name for s in specs.values()} == {"curation"}
        assert specs["curated_shards"].owners == ["training@example.com"]
        assert specs["curated_shards"].tags["tier"] == "gold"
        assert specs["embeddings"].owners == []
    if "deps:" in found[number]:
        assert specs["embeddings"].automation_condition is not None
        assert specs["similarity_histogram"].freshness_policy is not None
    assert definitions.get_repository_def()


def test_python_of_the_docs_builds_definitions() -> None:
    (code,) = blocks(PAGE, "python")
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(list(names["defs"].resolve_all_asset_specs())) == 8


def test_kuberay_of_the_docs_is_a_cluster_with_gpus() -> None:
    pytest.importorskip("dagster_ray", reason="needs dagster-ray: pip install '.[dev]'")
    (code,) = blocks(ROOT / "docs" / "scaling.md", "python")
    found: dict[str, Any] = {}
    exec(code, found)
    ray_cluster = found["defs"].resources["ray_cluster"]
    context = dg.build_op_context()
    cluster = ray_cluster.ray_cluster.to_k8s(context, image=ray_cluster.image)
    (group,) = cluster["spec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert group["maxReplicas"] == 8
    assert container["image"] == "dedup-assets:gpu"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_range_of_the_docs_is_that_of_a_thousand_clusters() -> None:
    settings = Settings.of(input_embeddings_path="in", output_path="out", n_clusters=1000)
    keys = cluster_partitions_def(settings).get_partition_keys()
    assert f"--partition-range {keys[0]}...{keys[-1]}" in PAGE.read_text()


def test_checks_of_the_docs_are_those_that_there_are() -> None:
    settings = Settings.of(input_embeddings_path="in", output_path="out", n_clusters=1000)
    table = PAGE.read_text().partition("## Checks")[2]
    there = {
        key.name
        for check in build_definitions(settings).asset_checks or ()
        for key in check.check_keys
    }
    assert set(re.findall(r"`(\w+)`: ", table)) == there
