"""Dagster's own daemons over one dataset, one iteration at a time."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import make_new_backfill_id
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
    QueuedRunCoordinatorDaemon,
)

from dedup_assets.assets.common import asset_key
from dedup_assets.command.output_definitions import OUTPUT
from dedup_assets.command.settings_file import write_settings
from dedup_assets.settings import Settings
from dedup_assets.store.filesystem import Store

LAUNCHER = yaml.safe_dump(
    {
        "run_launcher": {
            "module": "dagster._core.launcher.sync_in_memory_run_launcher",
            "class": "SyncInMemoryRunLauncher",
        }
    }
)
MOST_ITERATIONS = 20


@dataclass(frozen=True)
class Daemon:
    """A workspace of one data set whose runs are executed as they are launched."""

    settings: Settings
    instance: dg.DagsterInstance
    workspace: WorkspaceProcessContext

    def backfill(self, assets: Iterable[str], keys: list[str] | None) -> PartitionBackfill:
        """Launch a backfill of some keys, or of all, and go on until it has ended."""
        location = next(
            iter(self.workspace.create_request_context().get_code_location_entries().values())
        )
        assert location.code_location is not None, location.load_error
        launched = PartitionBackfill.from_asset_partitions(
            backfill_id=make_new_backfill_id(),
            asset_graph=self.workspace.create_request_context().asset_graph,
            partition_names=keys,
            asset_selection=[asset_key(self.settings, name) for name in assets],
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=self.instance,
            all_partitions=keys is None,
            title=None,
            description=None,
            run_config=None,
        )
        self.instance.add_backfill(launched)
        for _ in range(MOST_ITERATIONS):
            errors = [
                *execute_backfill_iteration(self.workspace, logging.getLogger("test")),
                *QueuedRunCoordinatorDaemon(interval_seconds=1).run_iteration(self.workspace),
            ]
            assert not any(errors), errors
            backfill = self.instance.get_backfill(launched.backfill_id)
            assert backfill is not None
            if backfill.status != BulkActionStatus.REQUESTED:
                return backfill
        raise AssertionError(f"not done after {MOST_ITERATIONS} iterations")

    def runs(self, backfill: PartitionBackfill) -> list[dg.DagsterRun]:
        filters = dg.RunsFilter(tags={"dagster/backfill": backfill.backfill_id})
        return list(self.instance.get_runs(filters))


@contextmanager
def daemon_over(settings: Settings, instance: dg.DagsterInstance) -> Iterator[Daemon]:
    """A workspace over the output of ``settings``, as `dedup-assets ui` loads it."""
    write_settings(settings, Store(settings.storage.output_path))
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(module_name="dedup_assets.command.output_definitions"),
        location_name="dedup_assets",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(OUTPUT, settings.storage.output_path)
        for keeps_the_last_one in (
            ReconstructableJob.get_repository_definition,
            ReconstructableJob.get_definition,
        ):
            keeps_the_last_one.cache_clear()
        with create_test_daemon_workspace_context(
            InProcessWorkspaceLoadTarget(origin), instance
        ) as workspace:
            yield Daemon(settings, instance, workspace)
