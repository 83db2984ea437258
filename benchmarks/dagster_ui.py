"""What the UI's server does, without a browser or HTTP: queries and launches over GraphQL.

The instance is on disk, in SQLite. The code location is served by a process of its own, which
starts a process for each run (`DefaultRunLauncher`). Runs are launched at once: with the queue
that ``dagster dev`` uses, each would also wait for the daemon, which looks every few seconds.
"""

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster_graphql.schema import create_schema

from benchmarks.rounds import seconds_of
from dedup_assets.assets.common import asset_key
from dedup_assets.command.output_definitions import OUTPUT
from dedup_assets.command.settings_file import load_settings
from dedup_assets.graph import DUPLICATE_IDS, PAIRWISE_SCORES
from dedup_assets.partitions import eps_partitions_name
from dedup_assets.runs import LOCATION, all_clusters_tags, scoring_job_name
from dedup_assets.settings import Settings

_INSTANCE_YAML = """\
run_coordinator:
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
telemetry:
  enabled: false
nux:
  enabled: false
"""
_PARTITION = "dagster/partition"
_MOST_SECONDS = 900
_PAUSE_S = 0.2

_LAUNCH = """mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
_STATUSES = """query($asset: AssetKeyInput!) {
  assetNodeOrError(assetKey: $asset) { ... on AssetNode {
    partitionKeysByDimension { name partitionKeys type }
    partitionStats { numPartitions numMaterialized }
    assetPartitionStatuses { ... on DefaultPartitionStatuses {
      materializedPartitions materializingPartitions failedPartitions
    } }
    assetChecksOrError { ... on AssetChecks { checks {
      name partitionStatuses { ... on AssetCheckDefaultPartitionStatuses {
        succeededPartitions failedPartitions skippedPartitions executionFailedPartitions
      } }
    } } }
  } }
}"""
"""What the page of a partitioned asset shows of its partitions and of those of its checks."""


class Ui:
    """A workspace of one output and an instance."""

    def __init__(
        self, settings: Settings, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext
    ) -> None:
        self.settings = settings
        self.instance = instance
        self._workspace = workspace
        self._schema = create_schema()

    def launch_eps(self, eps: str, executor: str) -> dict[str, Any]:
        """Register an eps and launch ``duplicate_ids`` at it, with its checks."""
        self.register([eps])
        path = asset_key(self.settings, DUPLICATE_IDS).path
        selection = {"jobName": "__ASSET_JOB", "assetSelection": [{"path": path}]}
        return self._launch(selection, {_PARTITION: eps}, executor)

    def launch_scoring(self, executor: str) -> dict[str, Any]:
        """Launch all up to the histogram, over all keys, with the checks."""
        selection = {"jobName": scoring_job_name(self.settings)}
        return self._launch(selection, all_clusters_tags(self.settings), executor)

    def register(self, eps: list[str]) -> None:
        self.instance.add_dynamic_partitions(eps_partitions_name(self.settings), eps)

    def statuses(self, times: int) -> dict[str, Any]:
        """How long the partitions' statuses take: at first, and then some times more.

        Dagster keeps them in the instance, and at first looks at what has happened since.
        """
        self._statuses_of(PAIRWISE_SCORES)  # what the server makes once is made
        first = seconds_of(lambda: self._statuses_of(DUPLICATE_IDS))
        again = [seconds_of(lambda: self._statuses_of(DUPLICATE_IDS)) for _ in range(times)]
        stats = self._statuses_of(DUPLICATE_IDS)["partitionStats"]
        return {"first_s": first, "again_s": again, **stats}

    def _statuses_of(self, name: str) -> dict[str, Any]:
        return self._ask(_STATUSES, asset={"path": asset_key(self.settings, name).path})

    def _launch(
        self, selection: dict[str, Any], tags: dict[str, str], executor: str
    ) -> dict[str, Any]:
        """Launch a run and wait for its end; times by the clock of the instance's events."""
        params = {
            "selector": {
                "repositoryName": "__repository__",
                "repositoryLocationName": LOCATION,
                **selection,
            },
            "runConfigData": {"execution": {"config": {executor: {}}}},
            "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in tags.items()]},
        }
        began = time.time()
        launched = self._ask(_LAUNCH, params=params)
        if launched["__typename"] != "LaunchRunSuccess":
            raise RuntimeError(f"{selection}: {launched}")
        return self._ended(launched["run"]["runId"], began)

    def _ended(self, run_id: str, began: float) -> dict[str, Any]:
        """What a run took, once it has ended."""
        while (record := self.instance.get_run_record_by_id(run_id)) is None or (
            not record.dagster_run.is_finished
        ):
            if time.time() - began > _MOST_SECONDS:
                raise RuntimeError(f"run {run_id} has not ended after {_MOST_SECONDS} s")
            time.sleep(_PAUSE_S)
        if not record.dagster_run.is_success:
            raise RuntimeError(f"run {run_id} ended as {record.dagster_run.status}")
        assert record.start_time is not None and record.end_time is not None
        steps = self.instance.get_run_step_stats(run_id)
        inside = [s.end_time - s.start_time for s in steps if s.end_time and s.start_time]
        return {
            "s": record.end_time - began,
            "until_start_s": record.start_time - began,
            "steps": len(steps),
            "in_steps_s": sum(inside),
        }

    def _ask(self, query: str, **variables: Any) -> Any:
        """The one field of an answer; a new request context each time, as for a request."""
        with self._workspace.create_request_context() as context:
            answer = asyncio.run(
                self._schema.execute_async(query, context_value=context, variable_values=variables)
            )
        if answer.errors:
            raise RuntimeError(f"{query}: {answer.errors}")
        (found,) = answer.data.values()
        return found


@contextmanager
def served(output: str, home: Path) -> Iterator[Ui]:
    """A workspace over an output, with a new instance in ``home``."""
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(_INSTANCE_YAML)
    os.environ[OUTPUT] = output  # the code server inherits it
    target = ModuleTarget("benchmarks.dagster_location", None, str(Path.cwd()), LOCATION)
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        WorkspaceProcessContext(instance, target) as workspace,
    ):
        yield Ui(load_settings(output), instance, workspace)
