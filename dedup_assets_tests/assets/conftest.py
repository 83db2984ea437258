"""A Dagster instance on disk, and one finished graph for the tests that only read it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from dedup_assets.settings import Settings
from dedup_assets_tests.assets.helpers import (
    clip_ids,
    make_settings,
    open_instance,
    run_curation,
    run_scoring,
    write_clips,
)


@dataclass(frozen=True)
class Finished:
    """A graph that was run twice, with the results of both runs."""

    settings: Settings
    instance: dg.DagsterInstance
    scoring: list[dg.ExecuteInProcessResult]
    curation: list[dg.ExecuteInProcessResult]

    @property
    def output(self) -> Path:
        return Path(self.settings.storage.output_path)


@pytest.fixture(scope="session")
def empty_instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance with its tables made, which takes longer than to copy them."""
    folder = tmp_path_factory.mktemp("empty-instance")
    with open_instance(folder) as opened:
        assert opened.get_runs_count() == 0
        assert opened.get_dynamic_partitions("none") == []
    return folder


@pytest.fixture
def instance(tmp_path: Path, empty_instance: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(tmp_path / "dagster", template=empty_instance) as opened:
        yield opened


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    root = tmp_path_factory.mktemp("finished")
    write_clips(root / "clips", clip_ids())
    settings = make_settings(root, clips_path=str(root / "clips"))
    with open_instance(root / "dagster") as opened:
        scoring, curation = [], []
        for _ in range(2):
            scoring.append(run_scoring(settings, opened))
            curation.append(run_curation(settings, opened, "0.05"))
        yield Finished(settings, opened, scoring, curation)
