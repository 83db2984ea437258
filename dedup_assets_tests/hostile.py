"""Texts and settings that a template, YAML or a terminal would take for something else."""

from typing import Any, get_args

from hypothesis import strategies as st

from dedup_assets.settings import FIELDS, OWN_COLUMNS, Settings

FRAGMENTS = (
    *("{{ env.HOME }}", "{{ 1 + 1 }}", "{{", "}}", "{%", "%}", "{% raw %}", "{#", "#}", "{#1#}"),
    *("{{ lipsum.__globals__['os'].getpid() }}", "{{ context.project_root }}", "{", "}"),
    *("'", '"', "\\", "\\n", "\\x41", "`", "$HOME", "%s", "%41", "~", "#", " #", ": ", "- ", "&a"),
    *("*a", "!!python/object:os.system", "|", ">", "?", "@", "<<", "null", "None", "True", "yes"),
    *("0", "1e5", "0x1f", "1_000", "2026-11-21", "[1]", "(1,)", "{'a': 1}", "-", "--", "..", "."),
    *("\n", "\r", "\r\n", "\t", " ", "\x01", "\x1b[31m", "\x7f", "\x85", "\u2028", "\ufeff"),
    *("\u202e", "\u00e9", "e\u0301", "\u4e2d", "\U0001f600", "\ufffe", "a", "b", "/"),
)
"""Without NUL, which no path may hold."""

_characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_parts = st.sampled_from(FRAGMENTS) | st.text(_characters, max_size=5)
texts = st.lists(_parts, min_size=1, max_size=6).map("".join).filter(bool)


def _is_path(text: str) -> bool:
    return "::" not in text and "://" not in text


_paths = texts.filter(_is_path).map(lambda text: f"/{text}")
_columns = texts.filter(lambda text: text not in OWN_COLUMNS)
_eps = st.integers(0, 99_999).map(lambda step: step / 100_000)
_positive = st.integers(1, 1 << 40)
_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
_endpoints = st.sampled_from(["http://127.0.0.1:9000", "https://store/{{ env.HOME }}?a=b#c"])


def _choice(name: str) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(FIELDS[name].annotation))


SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "dataset": _names,
    "video_dir": _paths,
    "splitting_algorithm": _choice("splitting_algorithm"),
    "fixed_stride_split_duration": st.floats(1, 1e9),
    "fixed_stride_split_stride": st.none() | st.floats(0, 1e9, exclude_min=True),
    "fixed_stride_min_clip_length_s": st.floats(0, 1),
    "splitting_model_dir": st.none() | _paths,
    "transnetv2_threshold": st.floats(0, 1, exclude_max=True),
    "content_threshold": st.floats(0, 255, exclude_min=True),
    "transnetv2_min_length_s": st.floats(0, 1),
    "transnetv2_min_length_frames": st.integers(0, 1000),
    "transnetv2_max_length_s": st.floats(10, 1e9),
    "transnetv2_max_length_mode": _choice("transnetv2_max_length_mode"),
    "transnetv2_crop_s": st.floats(0, 4),
    "clip_id_recipe": _choice("clip_id_recipe"),
    "transcode_encoder": texts,
    "transcode_bitrate": _positive,
    "copy_video": st.booleans(),
    "drop_audio": st.booleans(),
    "embedding_algorithm": texts,
    "model_dir": st.none() | _paths,
    "upload_clips": st.booleans(),
    "input_embeddings_path": _paths,
    "input_filetype": st.sampled_from([None, "parquet", "jsonl", "npy"]),
    "output_path": _paths,
    "layout": _choice("layout"),
    "n_clusters": _positive,
    "clusters_per_partition": st.none() | _positive,
    "eps_thresholds": st.lists(_eps, max_size=4),
    "eps_to_extract": st.none() | _eps,
    "which_to_keep": _choice("which_to_keep"),
    "sim_metric": _choice("sim_metric"),
    "rank_by": st.lists(_columns.map(lambda text: f"{text}:desc"), max_size=3),
    "precision": _choice("precision"),
    "kmeans": _choice("kmeans"),
    "max_iter": _positive,
    "tol": st.floats(0, allow_infinity=False),
    "random_state": st.integers(0, 2**63 - 1),
    "fit_data_fraction": st.none() | st.floats(0, 1, exclude_min=True),
    "files_per_partition": st.none() | _positive,
    "id_field": texts,
    "embedding_field": texts,
    "embedding_dim": st.none() | _positive,
    "metadata_fields": st.lists(_columns, max_size=4),
    "clips_path": st.none() | _paths,
    "samples_per_shard": _positive,
    "export": _choice("export"),
    "missing_media": _choice("missing_media"),
    "bucket_by": st.lists(st.sampled_from(["resolution", "aspect_ratio", "duration"]), max_size=3),
    "missed_sample": st.integers(0, 1 << 40),
    "missed_limit": st.floats(0, 1),
    "balance_limit": st.floats(1, 1e300, exclude_min=True),
    "removed_factor": st.floats(1, 1e300, exclude_min=True),
    "max_fragments": st.integers(1, 2**40),
    "allow_links": st.booleans(),
    "on_invalid": _choice("on_invalid"),
    "device_memory_fraction": st.floats(0, 1, exclude_min=True),
    "pairwise_batch_size": st.none() | _positive,
    "memory_budget": st.integers(16 << 20, 1 << 50),
    "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:0", "cuda:12"]),
    "partitions_per_run": st.none() | _positive,
    "input_s3_profile_name": st.none() | texts,
    "output_s3_profile_name": st.none() | texts,
    "input_s3_endpoint_url": st.none() | _endpoints,
    "output_s3_endpoint_url": st.none() | _endpoints,
    "storage_retries": st.integers(0, 100),
    "schedule": texts,
    "mode": _choice("mode"),
    "execution_timezone": st.sampled_from(["UTC", "Europe/Berlin"]),
    "fresh_for_hours": st.none() | st.floats(1, 87_600),
}
"""A strategy for each setting but those that no file of an output holds."""


def _of_one_input(values: dict[str, Any], videos: bool) -> Settings:
    """Settings whose embeddings are given, or made of videos."""
    aside = {"input_embeddings_path", "input_filetype"} if videos else {"video_dir"}
    return Settings.of(**{name: value for name, value in values.items() if name not in aside})


settings = st.builds(_of_one_input, st.fixed_dictionaries(SETTINGS), st.booleans())
