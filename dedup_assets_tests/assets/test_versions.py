"""An edit of the YAML shows as Unsynced on what it decides, and on nothing else."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleCauseCategory
from dagster._core.loader import LoadingContextForTest

from dedup_assets.assets.common import asset_key
from dedup_assets.component import build_definitions
from dedup_assets.settings import FIELDS, Settings
from dedup_assets.state.versions import code_version
from dedup_assets_tests.assets.helpers import make_settings, open_instance, run_scoring

CLIPS = {"clips", "clip_embeddings"}

OF_VIDEOS: dict[str, tuple[Any, set[str]]] = {
    "video_dir": ("elsewhere", {"videos"}),
    "output_clip_path": ("elsewhere", {*CLIPS, "embeddings"}),
    "splitting_algorithm": ("another", CLIPS),
    "fixed_stride_split_duration": (5.0, CLIPS),
    "fixed_stride_split_stride": (5.0, CLIPS),
    "fixed_stride_min_clip_length_s": (1.0, CLIPS),
    # Of algorithms that are not chosen here; see stages/test_scene_cuts.py.
    "splitting_model_dir": ("elsewhere", set()),
    "transnetv2_threshold": (0.5, set()),
    "transnetv2_min_length_s": (1.0, set()),
    "transnetv2_min_length_frames": (0, set()),
    "transnetv2_max_length_s": (10.0, set()),
    "transnetv2_max_length_mode": ("truncate", set()),
    "transnetv2_crop_s": (0.0, set()),
    "content_threshold": (30.0, set()),
    "clip_id_recipe": ("frames", CLIPS),
    "transcode_encoder": ("libx265", CLIPS),
    "transcode_bitrate": (1, CLIPS),
    "copy_video": (True, CLIPS),
    "drop_audio": (True, CLIPS),
    "embedding_algorithm": ("internvideo2", CLIPS),
    "model_dir": ("elsewhere", CLIPS),
    "upload_clips": (False, CLIPS),
    "trust_remote_code": (True, set()),
}
"""As `DECIDED`, where the embeddings are made of videos."""

DECIDED: dict[str, tuple[Any, set[str]]] = {
    "input_embeddings_path": ("elsewhere", {"embeddings"}),
    "input_filetype": ("parquet", {"embeddings"}),
    "id_field": ("name", {"embeddings"}),
    "embedding_field": ("vector", {"embeddings", "centroids"}),
    "embedding_dim": (8, {"embeddings"}),
    "metadata_fields": (["duration"], {"embeddings", "curated_shards"}),
    "rank_by": (["duration:desc"], {"embeddings", "pairwise_scores"}),
    "on_invalid": ("quarantine", {"cluster_partitions"}),
    "clips_path": ("clips", {"curated_shards"}),
    "n_clusters": (7, {"centroids", "cluster_partitions", "pairwise_scores"}),
    "clusters_per_partition": (1, {"cluster_partitions", "pairwise_scores"}),
    "kmeans": ("cuml", {"centroids"}),
    "max_iter": (3, {"centroids"}),
    "tol": (0.5, {"centroids"}),
    "random_state": (1, {"centroids", "missed_by_clustering"}),
    "fit_data_fraction": (0.5, {"centroids"}),
    "missed_sample": (7, {"missed_by_clustering"}),
    "which_to_keep": ("easy", {"pairwise_scores"}),
    "sim_metric": ("l2", {"pairwise_scores"}),
    "precision": ("fast", {"pairwise_scores"}),
    "export": ("media", {"curated_shards"}),
    "samples_per_shard": (5, {"curated_shards"}),
    "missing_media": ("skip", {"curated_shards"}),
    "bucket_by": (["duration"], {"embeddings", "curated_shards"}),
}
"""Of each setting that decides a file, another value, and the assets that it decides."""

NOTHING: dict[str, Any] = {
    "dataset": "other",  # other assets altogether
    "allow_links": True,
    "missed_limit": 0.5,
    "balance_limit": 2,
    "removed_factor": 3,
    "eps_thresholds": ["0.5"],
    "eps_to_extract": "0.5",
    "engine": "ray",
    "address": "auto",
    "task_cpus": 2,
    "task_gpus": 0.5,
    "task_memory": 1 << 30,
    "device": "cpu",
    "memory_budget": 1 << 24,
    "device_memory_fraction": 0.5,
    "pairwise_batch_size": 64,
    "files_per_partition": 1,
    "max_fragments": 1,
    "partitions_per_run": 1,
    "output_path": "elsewhere",  # where there is no materialization
    "layout": "nemo",  # refused in an output of the other
    "input_s3_profile_name": "a",
    "output_s3_profile_name": "a",
    "input_s3_endpoint_url": "http://a",
    "output_s3_endpoint_url": "http://a",
    "input_storage_options": {"anon": True},
    "output_storage_options": {"anon": True},
    "store_resource": "lake",
    "storage_retries": 1,
    "mode": "schedule",
    "schedule": "0 4 * * *",
    "execution_timezone": "Europe/Berlin",
    "fresh_for_hours": 26,
    "key_prefix": ["a"],  # other assets altogether
    "deps": ["a"],
    "owners": ["team:a"],
    "tags": {"a": "b"},
    "op_tags": {"embeddings": {"a": "b"}},
    "pool": "a",
    "ray_resource": "a",
}


def test_every_setting_is_here() -> None:
    assert sorted([*OF_VIDEOS, *DECIDED, *NOTHING]) == sorted(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_changes_the_versions_of_what_it_decides(name: str) -> None:
    begin = "video_dir" if name in OF_VIDEOS else "input_embeddings_path"
    before = Settings.of(**{begin: "in"}, output_path="out", n_clusters=6, clusters_per_partition=2)
    value, assets = (OF_VIDEOS | DECIDED).get(name, (NOTHING.get(name), set()))
    after = before.replace(**{name: value})
    assert after != before
    changed = {a for a in before.assets_made if code_version(before, a) != code_version(after, a)}
    assert changed == assets


def test_an_edit_of_the_ranking_is_unsynced_in_dagster(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    with open_instance(tmp_path / "dagster") as instance:
        assert run_scoring(settings, instance).success
        assert causes(settings, instance) == {}
        found = causes(settings.replace(which_to_keep="easy"), instance)
    assert found["pairwise_scores"] == {StaleCauseCategory.CODE}
    assert not {"embeddings", "centroids", "cluster_partitions"} & found.keys()


def causes(settings: Settings, instance: dg.DagsterInstance) -> dict[str, set[Any]]:
    """Why assets are unsynced, as the UI is told; partitioned ones by their first partition."""
    graph = build_definitions(settings).resolve_asset_graph()
    context = LoadingContextForTest(instance)
    resolver = CachingStaleStatusResolver(instance, graph, context)
    found = {}
    for name in ("embeddings", "centroids", "cluster_partitions", "pairwise_scores"):
        key = asset_key(settings, name)
        partitions = graph.get(key).partitions_def
        first = None if partitions is None else partitions.get_first_partition_key()
        if reasons := resolver.get_stale_causes(key, first):
            found[name] = {reason.category for reason in reasons}
    return found
