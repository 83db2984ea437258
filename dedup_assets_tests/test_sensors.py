"""New files start the graph once, when a delivery has ended, whatever came between."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from dedup_assets.component import build_definitions
from dedup_assets.runs import AUTOMATIC, RANGE_END, RANGE_START
from dedup_assets.settings import Settings
from dedup_assets_tests.assets.helpers import (
    KEYS,
    make_settings,
    near_duplicates,
    open_instance,
    run_scoring,
    write_part,
)
from dedup_assets_tests.s3 import S3Server


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(tmp_path / "dagster") as opened:
        yield opened


NOTHING_NEW = "no new files since the last run was started"


class Ticks:
    """A sensor, tick by tick, with the cursor that Dagster keeps for it."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self._definitions = build_definitions(settings)
        self._name = f"{settings.dataset}_new_files"
        self._instance = instance
        self.cursor: str | None = None

    def tick(self) -> dg.RunRequest | str:
        """The run that is asked for, or why there is none."""
        sensor = self._definitions.resolve_sensor_def(self._name)
        resources = self._definitions.get_repository_def().get_top_level_resources()
        with dg.build_sensor_context(
            instance=self._instance,
            cursor=self.cursor,
            resources={key: resources[key] for key in sensor.required_resource_keys},
            definitions=self._definitions,
        ) as context:
            answer = sensor.evaluate_tick(context)
        self.cursor = answer.cursor or self.cursor
        if answer.run_requests:
            (request,) = answer.run_requests
            return request
        return str(answer.skip_message)


def add(settings: Settings, name: str, seed: int) -> None:
    folder = Path(settings.source.input_embeddings_path)
    vectors = np.random.default_rng(seed).normal(size=(5, 8))
    write_part(folder, vectors, [f"new-{seed}-{i}" for i in range(5)], name)


def test_first_files_start_the_graph_over_all_clusters(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    ticks = Ticks(make_settings(tmp_path), instance)
    assert "waiting until it stays" in str(ticks.tick())
    request = ticks.tick()
    assert isinstance(request, dg.RunRequest)
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == (KEYS[0], KEYS[-1])
    assert request.tags[AUTOMATIC] == "true"
    assert ticks.tick() == NOTHING_NEW


def test_a_delivery_that_grows_is_waited_for_and_starts_one_run(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path)
    ticks = Ticks(settings, instance)
    for seed in (1, 2, 3):
        add(settings, f"more-{seed}.parquet", seed)
        assert "waiting until it stays" in str(ticks.tick())
    assert isinstance(ticks.tick(), dg.RunRequest)
    assert ticks.tick() == NOTHING_NEW


def test_files_that_a_run_has_read_start_no_other(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """One by hand, or by the command, while the daemon was down."""
    settings = make_settings(tmp_path)
    assert run_scoring(settings, instance).success
    ticks = Ticks(settings, instance)
    ticks.tick()
    assert "has read these files already" in str(ticks.tick())
    add(settings, "more.parquet", 1)
    ticks.tick()
    request = ticks.tick()
    assert isinstance(request, dg.RunRequest)
    (Path(settings.source.input_embeddings_path) / "more.parquet").unlink()
    ticks.tick()
    assert "has read these files already" in str(ticks.tick()), "as they were before"


def test_files_that_come_back_are_new_again(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """A run key made of the listing would have Dagster skip the run that takes one out again."""
    settings = make_settings(tmp_path)
    ticks = Ticks(settings, instance)
    ticks.tick()
    first = ticks.tick()
    assert isinstance(first, dg.RunRequest)
    assert run_scoring(settings, instance).success
    add(settings, "more.parquet", 1)
    ticks.tick()
    assert isinstance(ticks.tick(), dg.RunRequest)
    assert run_scoring(settings, instance).success
    (Path(settings.source.input_embeddings_path) / "more.parquet").unlink()
    ticks.tick()
    again = ticks.tick()
    assert isinstance(again, dg.RunRequest)
    assert first.run_key is again.run_key is None


def test_nothing_starts_beside_a_run_and_is_not_forgotten(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path)
    ticks = Ticks(settings, instance)
    ticks.tick()
    running = instance.create_run_for_job(
        build_definitions(settings).resolve_job_def(f"{settings.dataset}_scoring"),
        status=dg.DagsterRunStatus.STARTED,
    )
    assert ticks.tick() == "the last run is not finished"
    instance.report_run_canceled(running)
    assert isinstance(ticks.tick(), dg.RunRequest)


def test_an_input_without_files_is_one_line(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = make_settings(tmp_path)
    for file in Path(settings.source.input_embeddings_path).iterdir():
        file.unlink()
    with pytest.raises(dg.Failure, match="holds no"):
        Ticks(settings, instance).tick()


def test_sensor_reaches_s3_as_the_assets_do(
    tmp_path: Path, instance: dg.DagsterInstance, s3: S3Server
) -> None:
    part = write_part(tmp_path / "rows", near_duplicates())
    s3.put("in/part.parquet", part.read_bytes())
    settings = make_settings(
        tmp_path,
        input_embeddings_path=s3.url("in"),
        output_path=s3.url("out"),
        input_s3_endpoint_url=s3.endpoint,
        output_s3_endpoint_url=s3.endpoint,
    )
    ticks = Ticks(settings, instance)
    assert "waiting until it stays" in str(ticks.tick())
    assert isinstance(ticks.tick(), dg.RunRequest)
    s3.put("in/part.parquet", write_part(tmp_path / "other", near_duplicates(40)).read_bytes())
    assert "waiting until it stays" in str(ticks.tick())


@pytest.mark.parametrize("mode", ["none", "schedule", "sensor"])
def test_mode_says_what_is_on_from_the_start(tmp_path: Path, mode: str) -> None:
    definitions = build_definitions(make_settings(tmp_path, mode=mode))
    schedule = definitions.resolve_schedule_def("small_schedule").default_status
    sensor = definitions.resolve_sensor_def("small_new_files").default_status
    assert (schedule == dg.DefaultScheduleStatus.RUNNING) == (mode == "schedule")
    assert (sensor == dg.DefaultSensorStatus.RUNNING) == (mode == "sensor")


def test_cursor_is_small(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """Dagster stores it at each tick: not the names of all files."""
    ticks = Ticks(make_settings(tmp_path), instance)
    ticks.tick()
    ticks.tick()
    assert json.loads(str(ticks.cursor)).keys() == {"last", "done"}
    assert len(str(ticks.cursor)) < 300
