"""Automation mode eager: what the daemon asks for as assets, files and dependencies change."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from dedup_assets.component import build_definitions
from dedup_assets.runs import AUTOMATIC
from dedup_assets.settings import Settings
from dedup_assets_tests.assets.helpers import KEYS, make_settings, open_instance, run_scoring

# Dagster calls beta functions of its own when it evaluates conditions.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter .* is currently in beta")

MADE_BY = "video/clip_embeddings"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with open_instance(tmp_path / "dagster") as opened:
        yield opened


def eager(tmp_path: Path, **values: object) -> Settings:
    return make_settings(tmp_path, mode="eager", **values)


class Ticks:
    """The daemon's evaluations of the conditions, each from where the last one stopped."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        @dg.asset(key=MADE_BY.split("/"))
        def clip_embeddings() -> None:
            """What the user's own assets make."""

        self._source = clip_embeddings
        self._definitions = dg.Definitions.merge(
            build_definitions(settings), dg.Definitions(assets=[clip_embeddings])
        )
        self._instance = instance
        self._cursor: object = None

    def requested(self) -> dict[str, int]:
        """How many partitions of each asset the next tick asks for."""
        result = dg.evaluate_automation_conditions(
            self._definitions, self._instance, cursor=self._cursor
        )
        self._cursor = result.cursor
        counts = {
            evaluated.key.path[-1]: evaluated.true_subset.size for evaluated in result.results
        }
        return {name: count for name, count in counts.items() if count}

    def make_the_source(self) -> None:
        assert dg.materialize([self._source], instance=self._instance).success


STEPS = (
    {"embeddings": 1, "centroids": 1},
    {"cluster_partitions": len(KEYS), "pairwise_scores": len(KEYS)},
    {"missed_by_clustering": 1, "similarity_histogram": 1},
)
"""What one update leads to, tick by tick: Dagster joins in a run what is partitioned alike."""


def follow(ticks: Ticks, settings: Settings, instance: dg.DagsterInstance) -> None:
    """Each tick asks for the next step and, while it is at work, for nothing."""
    for step in STEPS:
        assert ticks.requested() == step
        assert ticks.requested() == {}
        assert run_scoring(settings, instance, only=list(step)).success
    assert ticks.requested() == {}


def test_updates_of_a_dependency_are_followed_once_to_the_histogram(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """However often it was updated while nobody looked; and no eps is among what is asked for."""
    settings = eager(tmp_path, deps=[MADE_BY])
    ticks = Ticks(settings, instance)
    assert ticks.requested() == {}, "what the input is made by is not there"
    ticks.make_the_source()
    follow(ticks, settings, instance)
    for _ in range(3):
        ticks.make_the_source()
    follow(ticks, settings, instance)


def test_without_dependencies_files_are_watched_and_their_run_is_not_made_again(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = eager(tmp_path)
    ticks = Ticks(settings, instance)
    assert ticks.requested() == {}
    assert run_scoring(settings, instance).success
    assert ticks.requested() == {}


def test_centroids_made_by_hand_are_followed(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = eager(tmp_path)
    ticks = Ticks(settings, instance)
    assert run_scoring(settings, instance).success
    assert ticks.requested() == {}
    assert run_scoring(settings, instance, only=["centroids"]).success
    for step in STEPS[1:]:
        assert ticks.requested() == step
        assert run_scoring(settings, instance, only=list(step)).success
    assert ticks.requested() == {}


@pytest.mark.parametrize(
    ("mode", "deps", "running"),
    [
        ("none", [], set()),
        ("schedule", [], {"schedule"}),
        ("sensor", [], {"new_files"}),
        ("eager", [], {"new_files", "conditions"}),
        ("eager", [MADE_BY], {"conditions"}),
    ],
)
def test_a_mode_switches_on_what_starts_runs_in_it(
    tmp_path: Path, mode: str, deps: list[str], running: set[str]
) -> None:
    definitions = build_definitions(make_settings(tmp_path, mode=mode, deps=deps))
    repository = definitions.get_repository_def()
    on = {
        found.name.removeprefix("small_")
        for found in [*repository.schedule_defs, *repository.sensor_defs]
        if found.default_status.value == "RUNNING"
    }
    assert on == running | {"each_eps", "upkeep"}


def after(
    settings: Settings, instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult
) -> list[dg.RunRequest | dg.SkipReason]:
    """What `each_eps` of a dataset makes of a run that has succeeded."""
    (event,) = (
        e for e in result.all_events if e.event_type == dg.DagsterEventType.PIPELINE_SUCCESS
    )
    context = dg.build_run_status_sensor_context(
        sensor_name="small_each_eps",
        dagster_event=event,
        dagster_instance=instance,
        dagster_run=result.dagster_run,
    )
    return list(build_definitions(settings).resolve_sensor_def("small_each_eps")(context))


def test_each_eps_follows_the_histogram_that_conditions_made_and_nothing_before(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = eager(tmp_path)
    conditions = build_definitions(settings).resolve_sensor_def("small_conditions")
    assert conditions.run_tags[AUTOMATIC] == "true"  # type: ignore[attr-defined]
    for step in STEPS:
        result = run_scoring(settings, instance, only=list(step), tags=conditions.run_tags)
        found = after(settings, instance, result)
        if step is STEPS[-1]:
            assert {request.partition_key for request in found} == {"0.05", "0.001"}
        else:
            assert [type(answer) for answer in found] == [dg.SkipReason]


def test_each_eps_does_not_follow_another_dataset(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """With conditions it hears of every run of the code location."""
    other = make_settings(tmp_path, dataset="other", output_path=str(tmp_path / "other"))
    result = run_scoring(other, instance, tags={AUTOMATIC: "true"})
    (skip,) = after(eager(tmp_path), instance, result)
    assert "this dataset" in str(skip.skip_message)  # type: ignore[union-attr]
