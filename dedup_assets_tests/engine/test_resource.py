"""The Ray cluster of a resource of dagster-ray's, bound in a user's Definitions."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dedup_assets.component import build_definitions
from dedup_assets.partitions import cluster_partitions_def
from dedup_assets.runs import RANGE_END, RANGE_START, scoring_job_name
from dedup_assets.settings import Settings
from dedup_assets_tests.assets.helpers import make_settings, open_instance, run_scoring
from dedup_assets_tests.conftest import bytes_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:ray.*"),
]


def run(settings: Settings, resource: Any, folder: Path) -> dg.ExecuteInProcessResult:
    bound = dg.Definitions.merge(
        build_definitions(settings), dg.Definitions(resources={"ray_cluster": resource})
    )
    keys = cluster_partitions_def(settings).get_partition_keys()
    with open_instance(folder) as instance:
        return bound.resolve_job_def(scoring_job_name(settings)).execute_in_process(
            instance=instance, tags={RANGE_START: keys[0], RANGE_END: keys[-1]}
        )


def test_a_run_uses_the_cluster_of_its_resource(cluster: Any, tmp_path: Path):
    dagster_ray = pytest.importorskip("dagster_ray")
    import ray

    connected: list[str] = []

    class Noted(dagster_ray.LocalRay):  # type: ignore[name-defined, misc]
        """LocalRay, but of the cluster of these tests."""

        @property
        def ray_address(self) -> str:
            return str(cluster.address)

        def on_connect(self, context: Any) -> None:
            connected.append(ray.get_runtime_context().gcs_address)

    there = make_settings(tmp_path, output_path=str(tmp_path / "there"), engine="ray",
                          ray_resource="ray_cluster")  # fmt: skip
    assert run(there, Noted(), tmp_path / "instance").success
    assert connected == [cluster.address]
    here = make_settings(tmp_path, output_path=str(tmp_path / "here"))
    with open_instance(tmp_path / "other") as instance:
        assert run_scoring(here, instance).success
    assert bytes_of(tmp_path / "there") == bytes_of(tmp_path / "here")


def test_an_unbound_resource_is_named(tmp_path: Path):
    settings = make_settings(tmp_path, engine="ray", ray_resource="ray_cluster")
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="ray_cluster"):
        build_definitions(settings).resolve_job_def(scoring_job_name(settings))
