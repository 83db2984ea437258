"""A user's way through the UI: the mutations that its buttons send to a running ``dg dev``."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dedup_assets.checks import BLOCKING
from dedup_assets.graph import CURATION, SCORING
from dedup_assets.runs import AUTOMATIC, RANGE_END, RANGE_START
from dedup_assets_tests.assets.helpers import (
    INSTANCE_YAML,
    clip_ids,
    near_duplicates,
    write_clips,
    write_part,
)
from dedup_assets_tests.command.helpers import clean_environment
from dedup_assets_tests.served import ask, dg_dev

pytestmark = pytest.mark.slow

MOST_SECONDS = 180
ROWS = 300
KEYS = ["0-1", "2-3"]
"""The partitions of four clusters, two in each."""

REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "films"}
DEFINITIONS = """
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(found, dg.Definitions(executor=dg.in_process_executor))
"""
ASSETS = """{
  assetNodes {
    assetKey { path } partitionKeys staleStatus
    partitionStats { numMaterialized numFailed }
    assetMaterializations(limit: 1) { runId }
    assetChecksOrError { ... on AssetChecks { checks {
      name executionForLatestMaterialization { status }
      partitionStatuses { ... on AssetCheckDefaultPartitionStatuses {
        succeededPartitions failedPartitions skippedPartitions executionFailedPartitions
      } }
    } } }
  }
}"""
LAUNCH = """mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
RUN = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
TAGGED = """query($tag: ExecutionTag!) {
  runsOrError(filter: { tags: [$tag] }) { ... on Runs { results {
    runId status jobName tags { key value }
  } } }
}"""
ADD_EPS = """mutation($repository: RepositorySelector!, $set: String!, $eps: String!) {
  addDynamicPartition(
    repositorySelector: $repository, partitionsDefName: $set, partitionKey: $eps
  ) { __typename }
}"""
BACKFILL = """mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
CHECK_HISTORY = """query($asset: AssetKeyInput!, $check: String!) {
  assetCheckExecutions(assetKey: $asset, checkName: $check, limit: 1) {
    status runId partition evaluation { description }
  }
}"""
STALE = """query($asset: AssetKeyInput!, $partitions: [String!]) {
  assetNodeOrError(assetKey: $asset) { ... on AssetNode {
    staleStatusByPartition(partitions: $partitions)
  } }
}"""
RELOAD = """mutation($location: String!) {
  reloadRepositoryLocation(repositoryLocationName: $location) {
    ... on WorkspaceLocationEntry { locationOrLoadError { __typename } }
    ... on PythonError { message }
  }
}"""
DRY_RUN = """mutation($sensor: SensorSelector!, $cursor: String) {
  sensorDryRun(selectorData: $sensor, cursor: $cursor) { ... on DryRunInstigationTick {
    evaluationResult { skipReason cursor runRequests { tags { key value } } error { message } }
  } }
}"""
SET_CURSOR = """mutation($sensor: SensorSelector!, $cursor: String) {
  setSensorCursor(sensorSelector: $sensor, cursor: $cursor) { __typename }
}"""
SWITCH_ON = """mutation($sensor: SensorSelector!) {
  startSensor(sensorSelector: $sensor) { ... on Sensor { sensorState { status } } }
}"""


def selector(asset: str) -> dict[str, list[str]]:
    return {"path": ["films", asset]}


@dataclass(frozen=True)
class Ui:
    """A running server, and the project of one dataset that it serves."""

    root: Path
    url: str

    def ask(self, query: str, **variables: Any) -> Any:
        """The one field of an answer."""
        (found,) = ask(self.url, query, **variables).values()
        return found

    def assets(self) -> dict[str, dict[str, Any]]:
        return {node["assetKey"]["path"][1]: node for node in self.ask(ASSETS)}

    def launch(self, selection: dict[str, Any], tags: dict[str, str] | None = None) -> str:
        """Launch a run and wait until it has succeeded; returns its id."""
        params = {
            "selector": {**REPOSITORY, **selection},
            "mode": "default",
            "runConfigData": "{}",
            "executionMetadata": {"tags": as_tags(tags or {})},
        }
        launched = self.ask(LAUNCH, params=params)
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run = launched["run"]["runId"]
        status = when(lambda: finished(self.ask(RUN, run=run)["status"]))
        assert status == "SUCCESS"
        return run

    def checks(self, asset: str) -> dict[str, dict[str, Any]]:
        found = self.assets()[asset]["assetChecksOrError"]["checks"]
        return {check["name"]: check for check in found}

    def unsynced(self) -> set[str]:
        """The assets, and of partitioned ones those with a partition, that the UI calls so."""
        found = set()
        for name, node in self.assets().items():
            statuses = [node["staleStatus"]]
            if keys := node["partitionKeys"]:
                statuses = self.ask(STALE, asset=selector(name), partitions=keys)[
                    "staleStatusByPartition"
                ]
            if "STALE" in statuses:
                found.add(name)
        return found

    def edit(self, **groups: dict[str, Any]) -> None:
        """Add groups of settings to the YAML and press "Reload definitions"."""
        file = self.root / "films/defs/films/defs.yaml"
        document = yaml.safe_load(file.read_text())
        document["attributes"].update(groups)
        file.write_text(yaml.safe_dump(document))
        loaded = self.ask(RELOAD, location="films")
        assert loaded["locationOrLoadError"]["__typename"] == "RepositoryLocation", loaded


def as_tags(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in tags.items()]


def finished(status: str) -> str | None:
    return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None


def tags_of(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def when(holds: Callable[[], Any]) -> Any:
    """What a condition gives once it holds."""
    end = time.monotonic() + MOST_SECONDS
    while not (found := holds()):
        assert time.monotonic() < end, f"not so within {MOST_SECONDS} s"
        time.sleep(0.5)
    return found


def write_project(root: Path) -> None:
    vectors = near_duplicates(ROWS)
    write_part(root / "embeddings", vectors, clip_ids(ROWS))
    write_clips(root / "clips", clip_ids(ROWS))
    document = {
        "type": "dedup_assets.SemanticDedup",
        "attributes": {
            "dataset": "films",
            "source": {"input_embeddings_path": "embeddings", "clips_path": "clips"},
            "clustering": {"n_clusters": 4, "clusters_per_partition": 2},
            "storage": {"output_path": "output"},
        },
    }
    files = {
        "pyproject.toml": '[tool.dg]\ndirectory_type = "project"\n\n[tool.dg.project]\n'
        'root_module = "films"\ncode_location_name = "films"\n',
        "films/__init__.py": "",
        "films/definitions.py": DEFINITIONS,
        "films/defs/__init__.py": "",
        "films/defs/films/defs.yaml": yaml.safe_dump(document),
        "home/dagster.yaml": INSTANCE_YAML,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    root = tmp_path_factory.mktemp("dev")
    write_project(root)
    environment = clean_environment(
        DAGSTER_HOME=str(root / "home"),
        DG_CLI_CONFIG=str(root / "none"),
        DAGSTER_DISABLE_TELEMETRY="1",
    )
    with dg_dev(root, root / "server.log", environment) as url:
        yield Ui(root, url)


def test_the_buttons_of_the_ui_do_what_they_say(ui: Ui) -> None:
    """One test, since each step starts from what the last one has left."""
    materialize_all(ui)
    backfill_two_eps(ui)
    execute_all_checks(ui)
    edit_the_yaml(ui)
    switch_on_the_sensor(ui)


def materialize_all(ui: Ui) -> None:
    ui.launch({"jobName": "films_scoring"}, {RANGE_START: KEYS[0], RANGE_END: KEYS[-1]})
    for name, node in ui.assets().items():
        assert bool(node["assetMaterializations"]) == (name in SCORING), name
        if node["partitionKeys"]:
            assert node["partitionStats"] == {"numMaterialized": len(KEYS), "numFailed": 0}
    assert ui.unsynced() == set()


def backfill_two_eps(ui: Ui) -> None:
    """The status of a check that belongs to an eps must be there for each."""
    eps = ["0.001", "0.1"]
    for value in eps:
        added = ui.ask(ADD_EPS, repository=REPOSITORY, set="films/eps", eps=value)
        assert added["__typename"] == "AddDynamicPartitionSuccess"
    launched = ui.ask(
        BACKFILL,
        params={"assetSelection": [selector(name) for name in CURATION], "partitionNames": eps},
    )
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    tag = {"key": "dagster/backfill", "value": launched["backfillId"]}

    def ended() -> list[dict[str, Any]] | None:
        runs = ui.ask(TAGGED, tag=tag)["results"]
        return runs if len(runs) == 2 and all(finished(run["status"]) for run in runs) else None

    runs = when(ended)
    assert [run["status"] for run in runs] == ["SUCCESS"] * 2
    for asset in CURATION:
        checks = ui.checks(asset)
        assert checks.keys() >= set(BLOCKING[asset])
        for name in checks:
            statuses = checks[name]["partitionStatuses"]
            assert sorted(statuses.pop("succeededPartitions")) == eps, name
            assert not any(statuses.values()), (name, statuses)


def execute_all_checks(ui: Ui) -> None:
    """The button sends no partition, and every eps that was made is verified."""
    selected = [
        {"assetKey": selector(asset), "name": name}
        for asset in CURATION
        for name in BLOCKING[asset]
    ]
    run = ui.launch(
        {"jobName": "__ASSET_JOB", "assetSelection": [], "assetCheckSelection": selected}
    )
    for check in selected:
        (latest,) = ui.ask(CHECK_HISTORY, asset=check["assetKey"], check=check["name"])
        assert latest["evaluation"]["description"] == "holds at each eps: 0.001, 0.1"
        del latest["evaluation"]
        assert latest == {"status": "SUCCEEDED", "runId": run, "partition": None}


def edit_the_yaml(ui: Ui) -> None:
    """Thresholds decide no asset, and the ranking decides only the scores."""
    ui.edit(
        thresholds={"eps_thresholds": [0.05], "eps_to_extract": 0.05},
        ranking={"which_to_keep": "easy"},
    )
    assert ui.unsynced() == {"pairwise_scores"}


def switch_on_the_sensor(ui: Ui) -> None:
    """A delivery has to stay as it is from one evaluation to the next, which is a minute later;
    here the first one is a dry run, whose cursor is set as the UI lets one.
    """
    sensor = {**REPOSITORY, "sensorName": "films_new_files"}
    more = near_duplicates(20, seed=1)
    ids = [f"late-{i}" for i in range(len(more))]
    write_part(ui.root / "embeddings", more, ids, "part-1.parquet")
    first = ui.ask(DRY_RUN, sensor=sensor, cursor=None)["evaluationResult"]
    assert first["skipReason"] == "the input has changed; waiting until it stays as it is"
    second = ui.ask(DRY_RUN, sensor=sensor, cursor=first["cursor"])["evaluationResult"]
    assert second["error"] is None
    (request,) = second["runRequests"]
    ui.ask(SET_CURSOR, sensor=sensor, cursor=first["cursor"])
    assert ui.ask(SWITCH_ON, sensor=sensor)["sensorState"]["status"] == "RUNNING"
    tag = {"key": "dagster/sensor_name", "value": "films_new_files"}

    def ended() -> dict[str, Any] | None:
        runs = ui.ask(TAGGED, tag=tag)["results"]
        return runs[0] if runs and finished(runs[0]["status"]) else None

    run = when(ended)
    assert (run["jobName"], run["status"]) == ("films_scoring", "SUCCESS")
    assert AUTOMATIC in tags_of(request)
    assert tags_of(request).items() <= tags_of(run).items()
    assert ui.unsynced() == set(CURATION)
