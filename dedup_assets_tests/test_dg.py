"""`dg`, in this repository and in a new project that the wheel is installed in."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dedup_assets_tests.assets.helpers import near_duplicates, write_part
from dedup_assets_tests.command.helpers import ROOT, clean_environment
from dedup_assets_tests.served import ask, dg_dev

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
SCORING = 'group:my_clips and not (key:"my_clips/duplicate_ids" or key:"my_clips/curated_shards")'

Dg = Callable[..., str]


def call(*command: str | Path, cwd: Path, env: dict[str, str]) -> str:
    """What a command that succeeds prints."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project, beside the packages that it imports."""
    folder = tmp_path_factory.mktemp("dg")
    env = clean_environment(DG_CLI_CONFIG=str(folder / "none"), DAGSTER_DISABLE_TELEMETRY="1")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    wheel = ("wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    call(*pip, *wheel, cwd=ROOT, env=env)
    (built,) = folder.glob("*.whl")
    call(*pip, "install", "--no-deps", "--target", folder / "site", built, cwd=folder, env=env)
    made = (BIN / "create-dagster", "project", "--no-uv-sync", "my-project")
    call(*made, cwd=folder, env=env)
    return folder / "my-project"


@pytest.fixture
def environment(project: Path) -> dict[str, str]:
    """Of the new project, which finds the wheel and not this repository."""
    home = project / "home"
    home.mkdir(exist_ok=True)
    return clean_environment(
        PYTHONPATH=f"{project.parent / 'site'}:{project / 'src'}",
        DAGSTER_HOME=str(home),
        DAGSTER_DISABLE_TELEMETRY="1",
    )


@pytest.fixture
def dg(project: Path, environment: dict[str, str]) -> Dg:
    """`dg` in the new project."""
    return lambda *arguments: call(BIN / "dg", *arguments, cwd=project, env=environment)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "components", "--json"), "dedup_assets.SemanticDedup"),
        (("check", "yaml"), "validated successfully"),
        (("check", "defs"), "loaded successfully"),
    ],
)
def test_dg_accepts_the_repository(arguments: tuple[str, ...], says: str) -> None:
    """Each of these refused the shipped demo: ``dg`` saw no component, and no number for an eps."""
    env = clean_environment(DAGSTER_DISABLE_TELEMETRY="1")
    assert says in call(BIN / "dg", *arguments, cwd=ROOT, env=env)


def test_dg_dev_serves_the_repository(tmp_path: Path) -> None:
    env = clean_environment(DAGSTER_HOME=str(tmp_path), DAGSTER_DISABLE_TELEMETRY="1")
    with dg_dev(ROOT, tmp_path / "server.log", env) as url:
        assert locations(url) == ["dedup_assets"]


def locations(url: str) -> list[str]:
    query = (
        "{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } } } } }"
    )
    return [node["location"]["name"] for node in ask(url, query)["repositoriesOrError"]["nodes"]]


def test_a_scaffolded_component_checks_and_runs_to_shards(
    project: Path, dg: Dg, environment: dict[str, str], tmp_path: Path
) -> None:
    assert "dedup_assets.SemanticDedup" in dg("list", "components", "--json")
    write_part(project / "data", near_duplicates(60, 8), [f"c-{i}" for i in range(60)])
    scaffold = ("scaffold", "defs", "dedup_assets.SemanticDedup", "my_clips")
    dg(*scaffold, "--input", "data", "--output", "out", "--n-clusters", "2", "--eps", "0.01")
    written = yaml.safe_load((project / "src/my_project/defs/my_clips/defs.yaml").read_text())
    assert written["attributes"]["dataset"] == "my_clips"
    assert "validated successfully" in dg("check", "yaml")
    assert "loaded successfully" in dg("check", "defs")
    dg("launch", "--assets", SCORING, "--partition-range", "0...1")
    dg("launch", "--assets", 'key:"my_clips/duplicate_ids"+', "--partition", "0.01")
    assert (project / "out/shards/eps=0.01/index.parquet").exists()
    with dg_dev(project, tmp_path / "server.log", environment) as url:
        assert locations(url) == ["my-project"]
        nodes = ask(url, "{ assetNodes { assetKey { path } assetMaterializations { runId } } }")
        made = [n["assetKey"]["path"] for n in nodes["assetNodes"] if n["assetMaterializations"]]
        assert ["my_clips", "curated_shards"] in made
