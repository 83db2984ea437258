"""A Dagster instance that cannot be used is one line that says what may be deleted."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from dedup_assets.command.instance import own_instance
from dedup_assets_tests.assets.helpers import contents, near_duplicates, write_part
from dedup_assets_tests.command.conftest import Call, Outcome
from dedup_assets_tests.command.helpers import command

pytestmark = pytest.mark.slow

FLAGS = ("run", "--input-embeddings-path", "in", "--n-clusters", "2", "--output-path")
INDEX = "history/runs/index.db"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input and the output of a run."""
    root = tmp_path_factory.mktemp("finished")
    write_part(root / "in", near_duplicates())
    done = command(*FLAGS, "out", cwd=root)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def copied(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Call]:
    """A copy of it in the working directory, without ``DAGSTER_HOME``."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)

    def run(*arguments: str) -> Outcome:
        monkeypatch.setenv("DAGSTER_HOME", "")  # a run sets it
        return call(*arguments)

    return tmp_path / "out" / ".dagster", run


def results(output: Path) -> dict[str, bytes]:
    return {n: data for n, (_, data) in contents(output).items() if n.startswith("extraction")}


def empty(file: Path) -> None:
    file.write_bytes(b"")


def other_format(file: Path) -> None:
    file.write_bytes(b"no database at all" * 100)


def drop(table: str):
    def change(file: Path) -> None:
        with sqlite3.connect(file) as connection:
            connection.execute(f"DROP TABLE {table}")
        connection.close()

    return change


def drop_column(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("ALTER TABLE runs RENAME COLUMN run_body TO another")
    connection.close()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (INDEX, empty),
        (INDEX, other_format),
        ("history/runs.db", other_format),
        ("schedules/schedules.db", other_format),
        ("history/runs.db", drop_column),
        *(("history/runs.db", drop(table)) for table in ("run_tags", "snapshots", "kvs")),
        *((INDEX, drop(table)) for table in ("event_logs", "asset_event_tags")),
        *((INDEX, drop(table)) for table in ("dynamic_partitions", "asset_check_executions")),
    ],
)
def test_a_damaged_database_names_the_folder_that_may_be_deleted(
    copied: tuple[Path, Call], name: str, change
):
    """Half of these ended in a traceback, others in advice to free space."""
    folder, call = copied
    before = results(folder.parent)
    change(folder / name)
    outcome = call(*FLAGS, "out", "--eps-thresholds", "0.3")  # something to do
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1, outcome.err
    assert f"Dagster's database in {folder} is damaged or of another version (" in outcome.err
    assert "move that folder away or delete it" in outcome.err
    assert "lost with it is what Dagster shows of earlier runs, and no result" in outcome.err
    assert results(folder.parent) == before


def test_without_its_database_an_output_is_still_current(copied: tuple[Path, Call]):
    folder, call = copied
    before = results(folder.parent)
    shutil.rmtree(folder)
    again = call(*FLAGS, "out")
    assert again.code == 0, again.err
    assert "everything was current; nothing was computed again" in again.out
    assert results(folder.parent) == before


@pytest.mark.parametrize("name", ["history/runs.db", "schedules/schedules.db"])
def test_databases_that_dagster_makes_again_stop_nothing(copied: tuple[Path, Call], name: str):
    folder, call = copied
    (folder / name).write_bytes(b"")
    assert call(*FLAGS, "out").code == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{bad", "ParserError: while parsing a flow mapping"),
        ("[1, 2]", "to parse to dictionary"),
        ("nonsense: 3", 'Received unexpected config entry "nonsense" at the root)'),
        ("storage: {sqlite: {base_dir: 4711}}", "root:storage:sqlite:base_dir.)"),
        ("run_storage: {module: nope, class: N, config: {}}", "Couldn't import module nope"),
    ],
)
def test_an_invalid_dagster_yaml_is_one_line(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, text: str, why: str
):
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(text)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    shutil.copytree(finished / "in", tmp_path / "in")
    outcome = call(*FLAGS, "out")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1, outcome.err
    assert f"Dagster cannot use {home}/dagster.yaml (" in outcome.err
    assert why in outcome.err
    assert "correct it, or set DAGSTER_HOME to another folder" in outcome.err
    assert "4711" not in outcome.err


@pytest.mark.parametrize("name", ["x[b]", "x*", "what?"])
def test_no_telemetry_where_the_path_is_a_pattern(finished: Path, tmp_path: Path, name: str):
    """Dagster looks for its configuration by a pattern, and did not find it."""
    shutil.copytree(finished / "in", tmp_path / "in")
    state = tmp_path / "state"
    done = command(*FLAGS, name, cwd=tmp_path, XDG_STATE_HOME=str(state))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert not list(tmp_path.rglob(".telemetry"))
    assert list(state.rglob("dagster.yaml"))


@pytest.mark.parametrize("name", ["h[b]", "h*", "h?", "h%20"])
def test_dagster_home_in_such_a_path_is_refused(
    finished: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, name: str
):
    (tmp_path / name).mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / name))
    shutil.copytree(finished / "in", tmp_path / "in")
    outcome = call(*FLAGS, "out")
    assert outcome.code == 1
    assert f"Dagster cannot keep its events in {tmp_path / name}: the path holds " in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / name).iterdir()) == []


def test_outputs_of_one_readable_name_have_instances_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert own_instance("/a[b]") != own_instance("/a?b")
