"""How a code location reaches S3: the store resource, its own or one of the user's."""

from pathlib import Path

import dagster as dg
import pytest
from dagster_aws.s3 import S3Resource

from dedup_assets import build_definitions
from dedup_assets.errors import SettingsError
from dedup_assets.resources import StoreResource
from dedup_assets.runs import all_clusters_tags, scoring_job_name
from dedup_assets.settings import Settings
from dedup_assets_tests.assets.helpers import (
    make_settings,
    near_duplicates,
    open_instance,
    write_part,
)
from dedup_assets_tests.command.helpers import ROOT
from dedup_assets_tests.s3 import KEY, SECRET, S3Server, forget_sessions, strip_credentials

SECRET_VARIABLE = "SECRET_OF_THE_TEST"


def bound(settings: Settings, store: StoreResource) -> dg.Definitions:
    """Definitions of a dataset, with a resource of the user's beside them."""
    return dg.Definitions.merge(
        build_definitions(settings), dg.Definitions(resources={"lake": store})
    )


def test_resource_of_the_user_says_how_s3_is_reached(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
):
    """Keys from ``EnvVar`` reach both stores in every asset, and none of them is shown."""
    strip_credentials(monkeypatch)
    forget_sessions()
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    s3.put("in/part.parquet", write_part(tmp_path / "in", near_duplicates()).read_bytes())
    settings = make_settings(
        tmp_path,
        input_embeddings_path=s3.url("in"),
        output_path=s3.url("out"),
        store_resource="lake",
    )
    reached = S3Resource(
        endpoint_url=s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=dg.EnvVar(SECRET_VARIABLE),
    )
    definitions = bound(settings, StoreResource(input=reached, output=reached))
    job = definitions.resolve_job_def(scoring_job_name(settings))
    with open_instance(tmp_path / "home") as instance:
        done = job.execute_in_process(instance=instance, tags=all_clusters_tags(settings))
        assert done.success
        logged = str([entry.dagster_event for entry in instance.all_logs(done.run_id)])
    assert SECRET not in logged
    assert "out/extraction/similarity_histogram.parquet" in s3.names()


def test_dataset_without_a_name_for_it_has_a_resource_of_its_own(tmp_path: Path):
    settings = make_settings(tmp_path, output_path="s3://bucket/out", output_s3_profile_name="ours")
    resources = build_definitions(settings).resources or {}
    store = resources[f"{settings.dataset}_store"]
    assert isinstance(store, StoreResource)
    assert (store.input.profile_name, store.output.profile_name) == (None, "ours")
    assert not build_definitions(make_settings(tmp_path)).resources


def test_resource_that_is_named_must_be_bound(tmp_path: Path):
    definitions = build_definitions(make_settings(tmp_path, store_resource="lake"))
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="lake"):
        dg.Definitions.validate_loadable(definitions)


def test_settings_come_before_the_resource(tmp_path: Path):
    s3 = S3Resource(
        profile_name="theirs",
        endpoint_url="http://theirs",
        region_name="here",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        verify=False,
    )
    settings = make_settings(
        tmp_path,
        input_s3_profile_name="ours",
        output_storage_options={
            **{"key": "ours", "anon": True},
            "client_kwargs": {"region_name": "there"},
        },
    )
    store = StoreResource(input=s3, output=s3)
    assert store.applied_to(make_settings(tmp_path)).storage.output_s3_profile_name == "theirs"
    applied = store.applied_to(settings)
    assert (applied.storage.input_s3_profile_name, applied.storage.output_s3_profile_name) == (
        "ours",
        None,
    )
    assert applied.storage.input_s3_endpoint_url == "http://theirs"
    client = {"region_name": "here", "verify": False}
    assert applied.storage.input_storage_options == {"client_kwargs": client}
    assert applied.storage.output_storage_options == {
        "key": "ours",
        "anon": True,
        "client_kwargs": {**client, "region_name": "there"},
    }


def test_resource_that_says_nothing_leaves_all_to_the_environment(tmp_path: Path):
    """An argument for boto would hide what AWS_CA_BUNDLE or AWS_REGION say."""
    settings = make_settings(tmp_path)
    nothing = StoreResource(input=S3Resource(), output=S3Resource())
    assert nothing.applied_to(settings) == settings


def test_endpoint_with_a_password_is_refused_without_it(tmp_path: Path):
    s3 = S3Resource(endpoint_url="http://me:pass@there")
    with pytest.raises(SettingsError, match="store resource: must hold no user name") as caught:
        StoreResource(input=s3, output=s3).applied_to(make_settings(tmp_path))
    assert "pass@" not in str(caught.value)


def test_logs_in_s3_as_dagster_yaml_shows_them(tmp_path: Path, s3: S3Server):
    """The commented block of the shipped file, without its marks, for a bucket of the test."""
    shown = (ROOT / "dagster.yaml").read_text()
    _, block = shown.split("#compute_logs:\n")
    block = "compute_logs:\n" + block.replace("#", "")
    (tmp_path / "home").mkdir()
    config = f"telemetry: {{enabled: false}}\n{block.replace('my-bucket', s3.bucket)}"
    (tmp_path / "home/dagster.yaml").write_text(config)
    write_part(tmp_path / "in", near_duplicates())
    settings = make_settings(tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        job = build_definitions(settings).resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey([settings.dataset, "embeddings"])]
        assert job.execute_in_process(instance=instance, asset_selection=keys).success
    logs = [s3.get(name) for name in s3.names("dagster-logs") if name.endswith(".err")]
    assert any(b"ASSET_MATERIALIZATION" in log for log in logs)
