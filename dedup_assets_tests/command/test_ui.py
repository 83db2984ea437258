"""``dedup-assets ui``: what the command materialized, read over GraphQL."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dedup_assets_tests.assets.helpers import near_duplicates, write_part
from dedup_assets_tests.command.helpers import COMMAND, clean_environment, command
from dedup_assets_tests.served import ask_when_ready, free_port, stop

pytestmark = pytest.mark.slow

EPS = ["0.001", "0.05"]
KEYS = [f"{cluster}" for cluster in range(6)]

STATUS = """
query Status {
  assetNodes {
    assetKey { path }
    groupName
    isPartitioned
    partitionKeys
    partitionStats { numPartitions numMaterialized numFailed }
    assetMaterializations(limit: 20) { runId partition }
    assetChecksOrError {
      ... on AssetChecks {
        checks { name blocking executionForLatestMaterialization { status runId } }
      }
    }
  }
  runsOrError { ... on Runs { results { runId status jobName } } }
  schedulesOrError(
    repositorySelector: { repositoryName: "__repository__", repositoryLocationName: "dedup_assets" }
  ) { ... on Schedules { results { name scheduleState { status } } } }
}
"""


@dataclass(frozen=True)
class Served:
    """A server of one finished output, and what it answered."""

    url: str
    data: dict[str, Any]

    def asset(self, name: str) -> dict[str, Any]:
        return next(n for n in self.data["assetNodes"] if n["assetKey"]["path"] == ["films", name])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("ui")
    write_part(root / "embeddings", near_duplicates())
    done = command(
        *("run", "--input-embeddings-path", "embeddings", "--output-path", "output"),
        *("--dataset", "films", "--n-clusters", "6"),
        *("--eps-thresholds", EPS[0], "--eps-to-extract", EPS[1]),
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    log = root / "server.log"
    url, server = start_ui(root, log)
    try:
        yield Served(url, ask_when_ready(url, server, log, STATUS))
    finally:
        stop(server)


def start_ui(root: Path, log: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """Start ``dedup-assets ui`` on ``root/output``; returns where it will answer to GraphQL."""
    port = free_port()
    with log.open("w") as file:
        server = subprocess.Popen(
            [*COMMAND, "ui", "output", "--port", str(port)],
            cwd=root,
            env=clean_environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return f"http://127.0.0.1:{port}/graphql", server


def test_ui_shows_the_keys_of_the_command_as_materialized(served: Served) -> None:
    for name in ("cluster_partitions", "pairwise_scores"):
        node = served.asset(name)
        assert node["partitionKeys"] == KEYS
        assert node["partitionStats"] == {
            "numPartitions": 6,
            "numMaterialized": 6,
            "numFailed": 0,
        }
        assert sorted(m["partition"] for m in node["assetMaterializations"]) == KEYS


def test_ui_shows_the_eps_partitions_of_the_command(served: Served) -> None:
    listed = served.asset("duplicate_ids")
    assert sorted(listed["partitionKeys"]) == EPS
    assert listed["partitionStats"]["numMaterialized"] == 2
    shards = served.asset("curated_shards")
    assert sorted(shards["partitionKeys"]) == EPS
    assert shards["partitionStats"]["numMaterialized"] == 1
    assert [m["partition"] for m in shards["assetMaterializations"]] == [EPS[1]]


def test_ui_shows_unpartitioned_assets_as_materialized_once(served: Served) -> None:
    for name in ("embeddings", "centroids", "similarity_histogram"):
        node = served.asset(name)
        assert not node["isPartitioned"]
        assert node["groupName"] == "films"
        assert len(node["assetMaterializations"]) == 1


def test_ui_lists_the_runs_of_the_command(served: Served) -> None:
    runs = {r["runId"]: (r["jobName"], r["status"]) for r in served.data["runsOrError"]["results"]}
    assert sorted(runs.values()) == [
        *[("films_curation", "SUCCESS")] * 2,
        ("films_scoring", "SUCCESS"),
    ]
    for node in served.data["assetNodes"]:
        for materialization in node["assetMaterializations"]:
            assert materialization["runId"] in runs
    scored = {m["runId"] for m in served.asset("pairwise_scores")["assetMaterializations"]}
    assert [runs[run] for run in scored] == [("films_scoring", "SUCCESS")]


def test_ui_shows_the_checks_of_an_eps_as_passed(served: Served) -> None:
    statuses = {}
    for name in ("duplicate_ids", "curated_shards"):
        for check in served.asset(name)["assetChecksOrError"]["checks"]:
            assert check["blocking"] == (check["name"] != "removed_steady")
            statuses[check["name"]] = check["executionForLatestMaterialization"]["status"]
    assert statuses == {
        "rows_conserved": "SUCCEEDED",
        "lists_match_ledger": "SUCCEEDED",
        "removed_have_match": "SUCCEEDED",
        "removed_steady": "SUCCEEDED",
        "shards_hold_kept": "SUCCEEDED",
    }


def test_ui_shows_the_schedule_switched_off(served: Served) -> None:
    (schedule,) = served.data["schedulesOrError"]["results"]
    assert schedule == {"name": "films_schedule", "scheduleState": {"status": "STOPPED"}}
