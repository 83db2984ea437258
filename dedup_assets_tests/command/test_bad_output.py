"""An output folder that cannot be written is one line, not a traceback."""

from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from sqlalchemy.exc import OperationalError

from dedup_assets.command.instance import use_instance
from dedup_assets.errors import SettingsError
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.helpers import command
from dedup_assets_tests.conftest import unit, write_inputs

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("output", ["file", "file/below"])
@pytest.mark.parametrize("home", [False, True])
def test_the_output_path_is_a_file(
    tmp_path: Path, rng: np.random.Generator, output: str, home: bool
):
    (tmp_path / "file").write_text("hello")
    (tmp_path / "home").mkdir()
    env = {"DAGSTER_HOME": "home"} if home else {}  # a relative one, too
    write_inputs(tmp_path / "in", ["a", "b"], unit(rng.normal(size=(2, 4))))
    done = command(
        *("run", "--input-embeddings-path", "in", "--output-path", output, "--n-clusters", "1"),
        cwd=tmp_path,
        **env,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 or home
    assert "cannot be read (Not a directory); choose a folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "hello"


def test_damaged_pages_name_the_file(tmp_path: Path, call: Call, rng: np.random.Generator):
    write_inputs(tmp_path / "in", [f"c{i}" for i in range(300)], unit(rng.normal(size=(300, 8))))
    file = next((tmp_path / "in").glob("*.parquet"))
    data = bytearray(file.read_bytes())
    for position in range(4, 60):
        data[position] ^= 0xFF
    file.write_bytes(data)
    flags = ["run", "--input-embeddings-path", "in", "--output-path", "out", "--n-clusters", "2"]
    outcome = call(*flags)
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert file.name in outcome.err


@pytest.mark.parametrize("name", ["50%20off", "what?"])
def test_letters_that_mean_something_in_a_url(
    tmp_path: Path, rng: np.random.Generator, name: str
) -> None:
    """Dagster writes the path of its database into a URL as it is."""
    write_inputs(tmp_path / "in", [f"clip-{i}" for i in range(20)], rng.normal(size=(20, 8)))
    flags = ["run", "--input-embeddings-path", "in", "--output-path", f"outputs/{name}"]
    state = tmp_path / "state"
    done = command(*flags, "--n-clusters", "2", cwd=tmp_path, XDG_STATE_HOME=str(state))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == [name]
    (events,) = (state / "dedup-assets").iterdir()
    assert (events / "history").is_dir()


def test_a_disk_that_is_full_when_the_database_is_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    full = OperationalError("CREATE TABLE", {}, Exception("database or disk is full"))

    def refuse(folder: str) -> None:
        raise full

    monkeypatch.setattr(dg.DagsterInstance, "from_config", refuse)
    says = r"cannot write its events to .*\.dagster \(database or disk is full\); free space"
    with pytest.raises(SettingsError, match=says):
        use_instance(str(tmp_path))


def test_working_directory_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """A run would work, and the UI could not read its settings."""
    folder = tmp_path / "d\udcff"
    folder.mkdir()
    flags = ["run", "--input-embeddings-path", "in", "--output-path", "out", "--n-clusters", "2"]
    done = command(*flags, cwd=folder)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "is not UTF-8 text; rename the folder, or start elsewhere" in done.stderr
    assert list(folder.iterdir()) == []
