"""An output folder that someone else has prepared: nothing runs, and nothing outside is touched."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedup_assets_tests.assets.helpers import clip_ids, near_duplicates, write_clips, write_part
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.helpers import COMMAND, clean_environment
from dedup_assets_tests.command.test_ui import start_ui
from dedup_assets_tests.conftest import bytes_of
from dedup_assets_tests.served import ask_when_ready, stop

pytestmark = pytest.mark.slow

RUN = (
    *("run", "--input-embeddings-path", "embeddings", "--clips-path", "clips"),
    *("--output-path", "output", "--n-clusters", "4", "--eps-to-extract", "0.01"),
)
EVIL = "from pathlib import Path\nPath({canary!r}).touch()\nclass Evil:\n    pass\n"
CONFIG = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"
MODULES = "yaml", "sqlalchemy", "dedup_assets", "dagster_webserver", "grpc", "sitecustomize"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Input, clips, and the output of a run with its own instance."""
    root = tmp_path_factory.mktemp("foreign")
    write_part(root / "embeddings", near_duplicates())
    write_clips(root / "clips", clip_ids())
    subprocess.run([*COMMAND, *RUN], cwd=root, env=clean_environment(), check=True)
    return root


@pytest.fixture
def folder(tmp_path: Path, finished: Path) -> Path:
    """A copy, and a folder with a file of the user's own."""
    for path in finished.iterdir():
        shutil.copytree(path, tmp_path / path.name)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    return tmp_path


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The instance of the output itself."""
    monkeypatch.delenv("DAGSTER_HOME")


def write_evil(folder: Path, canary: Path) -> None:
    for name in (*MODULES, "evil"):
        (folder / f"{name}.py").write_text(EVIL.format(canary=str(canary)))


@pytest.mark.parametrize("command", [RUN, ("ui", "output", "--port", "1")])
@pytest.mark.parametrize(
    "config",
    [
        "compute_logs:\n  module: evil\n  class: Evil\n  config: {}\n",
        "local_artifact_storage:\n  module: dagster._core.storage.root\n"
        "  class: LocalArtifactStorage\n  config:\n    base_dir: MINE\n",
    ],
)
def test_the_configuration_of_dagster_in_an_output_is_not_followed(
    call: Call, own: None, folder: Path, command: tuple[str, ...], config: str
) -> None:
    """It may name any class to load and any place to write to."""
    instance = folder / "output/.dagster"
    write_evil(instance, folder / "canary")
    text = CONFIG + config.replace("MINE", str(folder / "mine"))
    (instance / "dagster.yaml").write_text(text)
    outcome = call(*command)
    assert outcome.code == 1
    assert len(outcome.err.strip().splitlines()) == 1
    assert f"{instance}/dagster.yaml is not what dedup-assets writes" in outcome.err
    assert "set DAGSTER_HOME" in outcome.err
    assert not (folder / "canary").exists()
    assert [path.name for path in (folder / "mine").iterdir()] == ["letter.txt"]


def test_modules_in_an_output_are_not_imported_by_the_ui(folder: Path) -> None:
    instance = folder / "output/.dagster"
    for place in (folder / "output", instance):
        write_evil(place, folder / "canary")
        (place / ".env").write_text(f"PYTHONPATH={place}\nPYTHONSTARTUP={place}/evil.py\n")
    log = folder / "server.log"
    url, server = start_ui(folder, log)
    try:
        ask_when_ready(url, server, log)
    finally:
        stop(server)
    assert not (folder / "canary").exists()


def places() -> Iterator[tuple[str, str]]:
    """A name below the output that is a link, and what it leads to."""
    yield from (
        (name, "mine")
        for name in (
            *("shards/eps=0.01/old", "shards", "extraction", "embeddings", ".locks", ".tmp"),
            *("clustering_results/embs_by_nearest_center/nearest_cent=9", "rejected/x"),
        )
    )
    yield from ((name, "mine/letter.txt") for name in ("settings.json", ".locks/leases.json"))


@pytest.mark.parametrize(("name", "target"), list(places()))
def test_links_in_an_output_lead_nothing_out(
    call: Call, folder: Path, name: str, target: str
) -> None:
    """What is stale in an output is deleted, and what a link leads to would be stale."""
    link = folder / "output" / name
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder / target)
    (folder / "embeddings/more").mkdir()  # so that there is something to do
    write_part(folder / "embeddings/more", near_duplicates(seed=1), [f"n{i}" for i in range(60)])
    write_clips(folder / "clips", [f"n{i}" for i in range(60)])
    outcome = call(*RUN, "--dataset", "dedup")
    assert bytes_of(folder / "mine") == {"letter.txt": b"dear"}
    if outcome.code:
        assert len(outcome.err.strip().splitlines()) == 1
        assert "leads out of" in outcome.err or "leases.json" in name
    else:
        assert not link.is_symlink()  # a file, which was replaced


@pytest.mark.parametrize("command", [RUN, ("ui", "output", "--port", "1")])
@pytest.mark.parametrize(
    "name", ["", "dagster.yaml", ".dedup-assets.lock", "history", "history/runs.db", "storage"]
)
def test_links_in_the_instance_of_an_output_are_refused(
    call: Call, own: None, folder: Path, command: tuple[str, ...], name: str
) -> None:
    link = folder / "output/.dagster" / name
    target = folder / "mine/x"
    if link.is_dir():
        shutil.move(link, target)
    elif name == ".dedup-assets.lock":
        target = folder / "mine/letter.txt"
        link.unlink(missing_ok=True)
    else:
        shutil.move(link, target)
    link.parent.mkdir(exist_ok=True)
    Path(os.fspath(link).rstrip("/")).symlink_to(target)
    before = bytes_of(folder / "mine")
    outcome = call(*command)
    assert outcome.code == 1
    assert len(outcome.err.strip().splitlines()) == 1
    assert f"{str(link).rstrip('/')} is a link" in outcome.err
    assert "set DAGSTER_HOME" in outcome.err
    assert bytes_of(folder / "mine") == before
