"""A dataset that begins with videos: its assets, what is planned, and what starts a run."""

import json
import os
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from dedup_assets.assets.common import asset_key
from dedup_assets.component import build_definitions
from dedup_assets.graph import EMBEDDINGS, READS
from dedup_assets.partitions import eps_partitions_name
from dedup_assets.runs import AUTOMATIC, RANGE_END, RANGE_START, all_videos_tags, splitting_job_name
from dedup_assets.settings import Settings
from dedup_assets.stages.plan import plan_splitting, plan_work
from dedup_assets.store import processed
from dedup_assets.store.locks import WHOLE, writing
from dedup_assets_tests.assets.daemon import LAUNCHER, daemon_over
from dedup_assets_tests.assets.helpers import open_instance, run_curation, run_scoring
from dedup_assets_tests.conftest import bytes_of
from dedup_assets_tests.s3 import KEY, SECRET, S3Server
from dedup_assets_tests.test_sensors import Ticks
from dedup_assets_tests.video.movies import regular


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for number, frames in enumerate((90, 60, 75)):
        (tmp_path / "videos").mkdir(exist_ok=True)
        regular(tmp_path / f"videos/{number}.mp4", frames)
    return Settings.of(
        dataset="films",
        video_dir=str(tmp_path / "videos"),
        output_path=str(tmp_path / "output"),
        fixed_stride_split_duration=1.0,
        fixed_stride_min_clip_length_s=0.5,
        n_clusters=2,
        rank_by=["best_quality"],
        eps_thresholds=["0.05"],
        eps_to_extract="0.05",
    )


def run_splitting(
    settings: Settings,
    instance: dg.DagsterInstance,
    only: list[str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    job = build_definitions(settings).resolve_job_def(splitting_job_name(settings))
    return job.execute_in_process(
        instance=instance,
        tags={**all_videos_tags(), **(tags or {})},
        asset_selection=None if only is None else [asset_key(settings, name) for name in only],
        raise_on_error=False,
    )


def planned(settings: Settings) -> dict[str, str]:
    work = plan_work(settings, settings.storage.open_output())
    return {item.asset: item.reason for item in work}


def splitting_planned(settings: Settings) -> dict[str, Any]:
    work = plan_splitting(settings, settings.storage.open_output())
    return {item.asset: len(item.keys) or item.reason for item in work}


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.get_step_failure_events()
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return str(data.description)


def test_assets_of_videos_are_there_where_a_dataset_begins_with_them(settings: Settings) -> None:
    graph = build_definitions(settings).resolve_asset_graph()
    found = {
        key.path[-1]: {parent.path[-1] for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert found == {name: set(reads) for name, reads in READS.items()}


def test_from_videos_to_shards(settings: Settings, instance: dg.DagsterInstance) -> None:
    assert planned(settings)["embeddings"] == "follows clip_embeddings"
    assert run_splitting(settings, instance).success
    assert splitting_planned(settings) == {}
    assert planned(settings)["embeddings"] == "not listed yet"
    assert run_scoring(settings, instance).success
    assert run_curation(settings, instance, "0.05").success
    assert planned(settings) == {}
    out = Path(settings.storage.output_path)
    clips = {path.stem for path in (out / "split/clips").iterdir()}
    assert len(clips) == 8
    assert settings.ranking.rank_by == ["resolution:desc", "bit_rate:desc", "duration:desc"]
    index = pq.read_table(out / "shards/eps=0.05/index.parquet")
    assert set(index["id"].to_pylist()) <= clips
    assert list((out / "shards/eps=0.05").rglob("*.tar"))


def test_a_new_a_changed_and_a_gone_video(settings: Settings, instance: dg.DagsterInstance) -> None:
    run_splitting(settings, instance)
    run_scoring(settings, instance)
    videos, out = Path(settings.videos.video_dir or ""), Path(settings.split_path)
    before = bytes_of(out / "clips")
    (videos / "0.mp4").unlink()
    regular(videos / "new.mp4", 45)
    os.utime(videos / "1.mp4", ns=(1, 1))
    assert "1 new, 1 changed, 1 gone" in planned(settings)["videos"]
    result = run_splitting(settings, instance)
    assert result.success
    metadata = [
        event.step_materialization_data.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key == asset_key(settings, "clips")
    ]
    assert sum(entry["videos_split"].value for entry in metadata) == 2  # type: ignore[misc]
    after = bytes_of(out / "clips")
    assert len(before.keys() - after.keys()) == 3
    assert len(after.keys() - before.keys()) == 2
    assert (
        "1 new" in planned(settings)["embeddings"] or "changed" in planned(settings)["embeddings"]
    )


def test_one_partition_can_be_made_alone(settings: Settings, instance: dg.DagsterInstance) -> None:
    assert run_splitting(settings, instance, ["videos"]).success
    (key,) = {
        item.keys[0]
        for item in plan_splitting(settings, settings.storage.open_output())
        if item.asset == "clips"
    }
    one = {RANGE_START: key, RANGE_END: key}
    before = splitting_planned(settings)
    assert run_splitting(settings, instance, ["clips", "clip_embeddings"], one).success
    assert splitting_planned(settings).get("clips", 0) == before["clips"] - 1
    assert len(list((Path(settings.split_path) / "perceptual_embd_parquet").iterdir())) == 1


def test_clips_without_a_list_of_videos_say_what_to_do(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    assert failure(run_splitting(settings, instance, ["clips"])).endswith("materialize videos")


def test_a_video_that_failed_is_planned_again_only_when_it_changes(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    bad = Path(settings.videos.video_dir or "") / "bad.mp4"
    bad.write_bytes(b"no video")
    result = run_splitting(settings, instance)
    assert result.success
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("videos_split", False)
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert "1 of 4 videos" in str(check.description)
    assert "bad.mp4" in str(check.description)
    assert splitting_planned(settings) == {}
    regular(bad, 60)
    assert splitting_planned(settings)["videos"] == "video files: 1 changed"
    result = run_splitting(settings, instance)
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]


def test_the_split_command_and_a_run_exclude_each_other(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    assert run_splitting(settings, instance, ["videos"]).success
    store = settings.storage.open_output()
    where = type(store)(settings.split_path, settings.storage.output_access)
    with writing(where, "clips", [WHOLE], reads={}):
        said = failure(run_splitting(settings, instance, ["clips"]))
    assert "is being written by a dedup-assets command" in said


def test_new_videos_start_the_splitting_job_and_scoring_follows(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    ticks = Ticks(settings, instance)
    assert "waiting until it stays" in str(ticks.tick())
    request = ticks.tick()
    assert isinstance(request, dg.RunRequest)
    assert (request.tags[RANGE_START], request.tags[RANGE_END]) == ("00", "15")
    assert request.tags[AUTOMATIC] == "true"
    definitions = build_definitions(settings)
    sensor = definitions.resolve_sensor_def("films_after_splitting")
    for tags, asked in ((request.tags, 1), ({}, 0)):
        result = run_splitting(settings, instance, tags=tags)
        assert result.success
        context = dg.build_run_status_sensor_context(
            sensor_name=sensor.name,
            dagster_event=result.get_run_success_event(),
            dagster_instance=instance,
            dagster_run=result.dagster_run,
        )
        answer = sensor(context)  # type: ignore[operator]
        assert isinstance(answer, dg.RunRequest) == bool(asked)
    schedule = definitions.resolve_schedule_def("films_schedule")
    assert schedule.job_name == splitting_job_name(settings)


def test_what_was_split_by_hand_is_scored_when_its_files_are_seen(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    assert run_splitting(settings, instance).success
    ticks = Ticks(settings, instance)
    assert "waiting until it stays" in str(ticks.tick())
    request = ticks.tick()
    assert isinstance(request, dg.RunRequest)
    assert request.job_name == "films_scoring"
    assert "no new files" in str(ticks.tick())


def test_clips_are_not_replaced_while_shards_are_packed(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    assert run_splitting(settings, instance).success
    store = settings.storage.open_output()
    reads = {name: [WHOLE] for name in settings.reads("curated_shards")}
    with writing(store, "curated_shards", ["0.05"], reads=reads):
        said = failure(run_splitting(settings, instance, ["clips"]))
    assert "is being read by" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input_embeddings_path": "in"}, "exclude each other"),
        ({"video_dir": None}, "input_embeddings_path is required, or video_dir"),
        ({"video_dir": "http://host/videos"}, "must be a local path or s3://"),
        ({"output_clip_path": "gs://bucket"}, "must be a local path or s3://"),
    ],
)
def test_settings_that_contradict_each_other(
    settings: Settings, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Settings.of(**{**settings.values(), **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"output_path": "videos/out"}, "output_path"),
        ({"output_clip_path": "videos/clips"}, "output_clip_path"),
        ({"output_clip_path": "output/other"}, "output_clip_path"),
        ({"output_clip_path": "."}, "output_clip_path"),
        ({"output_clip_path": "output/split"}, None),
        ({"output_clip_path": "output"}, None),
        ({"output_clip_path": "clips"}, None),
    ],
)
def test_what_is_written_lies_apart_from_what_is_read(
    settings: Settings,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    changes: dict[str, str],
    said: str | None,
) -> None:
    places = {name: str(tmp_path / path) for name, path in changes.items()}
    result = run_splitting(settings.replace(**places), instance, ["videos"])
    assert result.success == (said is None)
    if said is not None:
        assert f"{said} {places[said]}" in failure(result)
        assert "must not overlap" in failure(result)


def test_embeddings_depend_on_the_clips_alone(settings: Settings) -> None:
    assert settings.reads(EMBEDDINGS) == ("clip_embeddings",)
    assert settings.replace(video_dir=None).reads(EMBEDDINGS) == ()


def test_on_s3_from_videos_to_shards(
    settings: Settings, instance: dg.DagsterInstance, s3: S3Server
) -> None:
    for path in sorted(Path(settings.videos.video_dir or "").iterdir()):
        s3.put(f"videos/{path.name}", path.read_bytes())
    remote = settings.replace(video_dir=s3.url("videos"), output_path=s3.url("output"))
    assert run_splitting(remote, instance).success
    assert run_scoring(remote, instance).success
    assert run_curation(remote, instance, "0.05").success
    assert planned(remote) == {}
    names = s3.names("output/")
    assert sum(name.startswith("output/split/clips/") for name in names) == 8
    assert any(name.endswith(".tar") for name in names)


def test_clips_are_read_as_they_are_written(
    settings: Settings, instance: dg.DagsterInstance, s3: S3Server
) -> None:
    """Videos on a disk, and the output in a store that only the output's access reaches."""
    options = {"key": KEY, "secret": SECRET, "client_kwargs": {"endpoint_url": s3.endpoint}}
    remote = settings.replace(
        output_path=s3.url("other"),
        output_storage_options=options,
        input_s3_endpoint_url="http://127.0.0.1:9",
        storage_retries=0,
    )
    assert run_splitting(remote, instance).success
    assert run_scoring(remote, instance).success
    assert run_curation(remote, instance, "0.05").success


def test_samples_say_which_part_of_which_video_they_are(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    settings = settings.replace(bucket_by=["resolution", "duration"])
    assert run_splitting(settings, instance).success
    assert run_scoring(settings, instance).success
    assert run_curation(settings, instance, "0.05").success
    shards = Path(settings.storage.output_path) / "shards/eps=0.05"
    (tar,) = shards.rglob("*.tar")
    assert tar.parent.relative_to(tar.parents[2]) == Path("resolution_lt_720/duration_0_5")
    with tarfile.open(tar) as members:
        records = [json.load(members.extractfile(m)) for m in members if m.name.endswith(".json")]
    assert records
    for record in records:
        metadata = record["metadata"]
        assert Path(metadata["source_video"]).parent == Path(settings.videos.video_dir or "")
        assert 0 <= metadata["span_start"] < metadata["span_end"] <= 3


@pytest.mark.filterwarnings(
    # Dagster's daemon calls what Dagster itself has deprecated.
    "ignore:.* is deprecated and will be removed in 2.0:DeprecationWarning"
)
@pytest.mark.parametrize("keys", [None, ["03", "04"]])
def test_a_backfill_as_the_ui_launches_it(
    settings: Settings, tmp_path: Path, keys: list[str] | None
) -> None:
    """Of everything, or of some partitions of the videos."""
    with (
        open_instance(tmp_path / "dagster", LAUNCHER) as instance,
        daemon_over(settings, instance) as daemon,
    ):
        instance.add_dynamic_partitions(eps_partitions_name(settings), ["0.05"])
        if keys is not None:
            assert run_splitting(settings, instance, ["videos"]).success
        of_videos = ["clips", "clip_embeddings"]
        done = daemon.backfill(settings.assets_made if keys is None else of_videos, keys)
        assert done.status == BulkActionStatus.COMPLETED_SUCCESS
        made = {
            name: instance.get_materialized_partitions(asset_key(settings, name))
            for name in of_videos
        }
        expected = set(processed.KEY_NAMES if keys is None else keys)
        assert made == dict.fromkeys(of_videos, expected)
        by_asset = Counter(
            key.path[-1] for run in daemon.runs(done) for key in run.asset_selection or ()
        )
        assert set(by_asset.values()) == {1}, "one run for all keys of an asset"
    if keys is None:
        assert planned(settings) == {}


@pytest.mark.filterwarnings("ignore:Parameter .* is currently in beta")
def test_conditions_follow_from_new_videos_to_the_histogram(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """Once each; the sensor starts the first part, and nothing else follows it."""
    eager = settings.replace(mode="eager")
    definitions = build_definitions(eager)
    names = {sensor.name for sensor in definitions.sensors or ()}
    assert {"films_new_files", "films_conditions"} <= names
    assert "films_after_splitting" not in names
    cursor = None

    def requested() -> dict[str, int]:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)
        cursor = result.cursor
        counts = {found.key.path[-1]: found.true_subset.size for found in result.results}
        return {name: count for name, count in counts.items() if count}

    assert requested() == {}
    for _ in range(2):
        assert run_splitting(eager, instance).success
        for step in (
            {"embeddings": 1, "centroids": 1},
            {"cluster_partitions": 1, "pairwise_scores": 1},
            {"missed_by_clustering": 1, "similarity_histogram": 1},
        ):
            found = requested()
            assert found.keys() == step.keys()
            assert requested() == {}
            assert run_scoring(eager, instance, only=list(step)).success
        assert requested() == {}
