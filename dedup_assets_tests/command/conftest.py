"""The command in this process, for what does not need a process of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dedup_assets.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@pytest.fixture(scope="module")
def dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One instance for the runs of a module: to make its tables takes longer than a run."""
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\nnux:\n  enabled: false\n")
    return home


@pytest.fixture
def call(
    tmp_path: Path,
    dagster_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Call:
    """Call the command below `tmp_path` with the instance in ``DAGSTER_HOME``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home))
    monkeypatch.setenv("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Outcome:
        try:
            code = main(list(arguments))
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            code = stop.code
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run
