"""The command killed and run again, and two at once. ``python -m dedup_assets_tests.kills`` kills
more often.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from dedup_assets.command import instance
from dedup_assets.command.instance import use_instance
from dedup_assets.store.locks import COMMAND, FILE
from dedup_assets_tests.kills.places import Local, Place, remote
from dedup_assets_tests.kills.rounds import (
    EPS,
    FRESH,
    OTHER,
    VIDEOS,
    Harness,
    Kill,
    Outcome,
    Result,
    compare,
    wait_for,
)

pytestmark = pytest.mark.slow

ROWS = 300
SEED = 5
SCORING = Kill("pairwise_scores", "at the end of a write", 2, 0.0)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    scratch = tmp_path_factory.mktemp("local")
    return Harness(Local(scratch / "place"), scratch, rows=ROWS)


def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(harness: Harness):
    result = harness.play(3, SEED, (FRESH,))
    assert result.differences == []
    assert result.kills.total() == 3


def test_killed_over_videos_it_ends_as_if_it_had_not_been(harness: Harness):
    kills = [
        Kill("clips", "at the end of a write", 9, 0.0),
        Kill("clips", "", 0, 0.5),
        Kill("clip_embeddings", "before a rename", 4, 0.0),
    ]
    result = Result()
    harness.play_round(VIDEOS, kills, result)
    assert result.differences == []
    assert result.kills["clips"] >= 1


def test_killed_in_uploads_to_s3_it_ends_as_if_it_had_not_been(tmp_path: Path):
    kills = [
        Kill("cluster_partitions", "after put object", 5, 0.0),
        Kill(f"curated_shards {EPS[1]}", "after upload part", 2, 0.0),
    ]
    result = Result()
    with remote(tmp_path / "place") as place:
        Harness(place, tmp_path, rows=ROWS // 2).play_round(FRESH, kills, result)
    assert result.differences == []
    assert result.kills.keys() == {kill.phase for kill in kills}
    assert result.moments.keys() == {kill.kind for kill in kills}


def test_a_killed_holder_on_another_machine_holds_until_its_lease_expires(harness: Harness):
    assert harness.killed(FRESH, "elsewhere", SCORING).killed
    (name, lease) = the_lease(harness.place, "elsewhere")
    lease.update(machine="another", host="elsewhere.example")
    put_lease(harness.place, "elsewhere", name, {**lease, "expires": time.time() + 600})
    refused = harness.run(FRESH, "elsewhere")
    assert refused.code == 1
    assert_names_the_holder(refused, lease)
    put_lease(harness.place, "elsewhere", name, {**lease, "expires": time.time() - 1})
    assert_as_undisturbed(harness, harness.run(FRESH, "elsewhere"), "elsewhere")


@pytest.mark.parametrize("flags", [(), OTHER])
def test_of_two_commands_at_once_the_second_is_refused(
    harness: Harness, tmp_path: Path, flags: tuple[str, ...]
):
    """With other settings it would replace the centroids under the hands of the first."""
    output = f"two-{len(flags)}"
    go_on = tmp_path / "go-on"
    plan = {"phase": SCORING.phase, "kind": SCORING.kind, "number": SCORING.number}
    arguments = harness.command(FRESH, output)
    first = harness.start(arguments, until=str(go_on), **plan)
    try:
        wait_for(*first, lambda entry: "stopped" in entry)
        (_, lease) = the_lease(harness.place, output)
        second = harness.run(FRESH, output, flags)
    finally:
        go_on.touch()
    done = harness.finish(*first)
    assert second.code == 1
    assert_names_the_holder(second, lease)
    assert_as_undisturbed(harness, done, output)


def test_two_eps_side_by_side_both_succeed(harness: Harness, tmp_path: Path):
    """The one waits in the middle of its work until the other is done."""
    go_on = tmp_path / "go-on"
    output = harness.place.url("expected-fresh")
    plan = {"phase": "duplicate_ids 0.02", "kind": "at the end of a write", "number": 2}
    first = harness.start([output], eps="0.02", until=str(go_on), **plan)
    try:
        wait_for(*first, lambda entry: "stopped" in entry)
        second = harness.finish(*harness.start([output], eps="0.03"))
    finally:
        go_on.touch()
    done = harness.finish(*first)
    assert (done.code, second.code) == (0, 0), done.err + second.err
    names = harness.place.look("expected-fresh")
    for eps in ("0.02", "0.03"):
        assert f"extraction/dedup_summary_{eps}.csv" in names
        assert f"shards/eps={eps}/index.parquet" in names


@pytest.mark.parametrize("statement", [20, 40])
def test_a_kill_leaves_no_half_database_of_dagster(harness: Harness, statement: int):
    """Dagster would say in every later run that a table is missing."""
    kill = Kill("instance", "a statement of the database", statement, 0.0)
    result = Result()
    harness.play_round(FRESH, [kill], result)
    assert result.differences == []
    assert result.kills == {"instance": 1}


def test_a_kill_leaves_no_half_configuration_of_dagster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Half of it would switch telemetry on, in all later runs."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    write_text = Path.write_text

    def stop(path: Path, text: str) -> None:
        write_text(path, text[: len(text) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_text", stop)
        use_instance(str(tmp_path))
    use_instance(str(tmp_path))
    found = (tmp_path / ".dagster" / "dagster.yaml").read_text()
    assert found == instance._INSTANCE_YAML


def the_lease(place: Place, output: str) -> tuple[str, dict[str, Any]]:
    """That of the command that works on an output, or worked there when it was killed."""
    leases = json.loads(place.read(f"{output}/{FILE}"))
    ((name, lease),) = [item for item in leases.items() if item[1]["asset"] == COMMAND]
    return name, lease


def put_lease(place: Place, output: str, name: str, lease: dict[str, Any]) -> None:
    place.write(f"{output}/{FILE}", json.dumps({name: lease}).encode())


def assert_names_the_holder(refused: Outcome, lease: dict[str, Any]) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(lease["since"]))
    holder = f"{lease['host']} (process {lease['process']})"
    says = f"is being written by a dedup-assets command on {holder}"
    assert f"{says} since {since}" in refused.err
    assert refused.err.count("\n") == 1


def assert_as_undisturbed(harness: Harness, done: Outcome, output: str) -> None:
    assert done.code == 0, done.err
    assert compare(harness.place.look(output), harness.undisturbed(FRESH).files) == []
