"""Nothing is written into what is read, nor read from where it is written; links are resolved."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_assets.errors import SettingsError
from dedup_assets.settings import Settings
from dedup_assets.stages import overlaps
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.overlaps import refuse_overlaps
from dedup_assets.store.filesystem import Store
from dedup_assets_tests.conftest import make_settings, write_inputs
from dedup_assets_tests.s3 import S3Server


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """An input, clips, links to them and to a future output; nothing is added to it."""
    write_inputs(tmp_path / "in", ["a", "b"], np.eye(2))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"clip")
    for name, target in {
        "to-in": "in",
        "to-clips": "clips",
        "to-here": ".",
        "to-out": "out",
        "to-parent": "in/..",
    }.items():
        (tmp_path / name).symlink_to(tmp_path / target)
    before = sorted(tmp_path.rglob("*"))
    yield tmp_path
    assert sorted(tmp_path.rglob("*")) == before


def settings_of(root: Path, **paths: str) -> Settings:
    return make_settings(root, n_clusters=1, **{k: f"{root}/{v}" for k, v in paths.items()})


@pytest.mark.parametrize(
    "paths",
    [
        {"output_path": "in"},
        {"output_path": "in/out"},
        {"output_path": "."},
        {"output_path": "to-in"},
        {"output_path": "to-in/deep/out"},
        {"output_path": "to-here"},
        {"output_path": "to-parent"},
        {"output_path": "to-here/in/out"},
        {"input_embeddings_path": "to-in", "output_path": "in/out"},
        {"input_embeddings_path": "in/000.parquet", "output_path": "in"},
        {"input_embeddings_path": "in/000.parquet", "output_path": "to-in"},
        {"input_embeddings_path": "in/000.parquet", "output_path": "."},
        {"input_embeddings_path": "in/000.parquet", "output_path": "in/000.parquet"},
        {"input_embeddings_path": "out/x.zip/deep"},
        {"input_embeddings_path": "to-out"},
        {"input_embeddings_path": "to-out/below"},
    ],
)
def test_output_that_overlaps_the_input_is_refused(root: Path, paths: dict[str, str]):
    with pytest.raises(SettingsError) as caught:
        refuse_overlaps(settings_of(root, **paths))
    text = str(caught.value)
    assert "output_path" in text
    assert "input_embeddings_path" in text
    assert "must not overlap" in text
    assert "choose another output_path" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("clips", "output"),
    [
        ("clips", "clips"),
        ("clips", "clips/out"),
        ("clips", "to-clips/out"),
        ("clips", "to-clips"),
        ("to-clips", "clips/out"),
        ("out/clips", "out"),
        ("to-out/clips", "out"),
        ("to-out", "out"),
        ("out/clips.zip/deep", "out"),
        ("clips/a.zip", "clips"),
    ],
)
def test_output_that_overlaps_the_clips_is_refused(root: Path, clips: str, output: str):
    with pytest.raises(SettingsError, match=r"output_path .* and clips_path .* must not overlap"):
        refuse_overlaps(settings_of(root, clips_path=clips, output_path=output))


@pytest.mark.parametrize(
    "zip_",
    [
        *("out/r.zip", "to-out/r.zip", "in/r.zip", "to-in/r.zip", "to-here/in/deep/r.zip"),
        *("clips/r.zip", "to-clips/r.zip", "to-here/clips/r.zip", "in", "clips"),
    ],
)
def test_zip_of_the_results_in_any_of_them_is_refused(root: Path, zip_: str):
    settings = settings_of(root, clips_path="clips")
    with pytest.raises(SettingsError, match=r"must not overlap: .* choose another output_zip"):
        refuse_overlaps(settings, f"{root}/{zip_}")


@pytest.mark.parametrize("place", ["input_embeddings_path", "clips_path"])
@pytest.mark.parametrize("below", ["", "/deep/er"])
def test_zip_that_is_read_is_not_written(root: Path, place: str, below: str):
    for zip_ in ("all.zip", "to-here/all.zip"):
        with pytest.raises(SettingsError, match=f"output_zip .* {place} .* must not overlap"):
            refuse_overlaps(settings_of(root, **{place: f"all.zip{below}"}), f"{root}/{zip_}")


@pytest.mark.parametrize(
    "paths",
    [
        {},
        {"output_path": "in-2"},
        {"output_path": "to-here/other"},
        {"input_embeddings_path": "in/000.parquet", "output_path": "in/out"},
        {"clips_path": "in"},
        {"input_embeddings_path": "clips", "clips_path": "."},
    ],
)
def test_places_that_lie_apart_are_accepted(root: Path, paths: dict[str, str]):
    if paths.get("clips_path") == ".":
        paths = paths | {"output_path": "../elsewhere"}
    refuse_overlaps(settings_of(root, **paths), f"{root}/../results.zip")


@pytest.fixture
def plain_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no server: the input is not looked at."""
    monkeypatch.setattr(overlaps, "_is_beside_split", lambda settings, output: False)


def test_the_output_may_lie_in_a_split_output_on_s3_beside_what_is_read(s3: S3Server):
    s3.put("split/x_embd_parquet/a.parquet", b"")
    s3.put("plain/a.parquet", b"")
    for split, name, fails in (
        *(("split", "dedup", False), ("split", "clips/dedup", True), ("plain", "dedup", True)),
        ("split", "x_embd_parquet/dedup", True),
    ):
        paths = {
            "input_embeddings_path": s3.url(split),
            "output_path": s3.url(f"{split}/{name}"),
        }
        settings = Settings.of(**{**paths, "n_clusters": 1})
        if fails:
            with pytest.raises(SettingsError, match="must not overlap"):
                refuse_overlaps(settings)
        else:
            refuse_overlaps(settings)


S3_PLACES: list[tuple[str, str, bool]] = [
    ("s3://b/in", "s3://b/in/out", True),
    ("s3://b/in/", "s3://b/in", True),
    ("s3://b/out/in", "s3://b/out/", True),
    ("s3://b", "s3://b/out", True),
    ("s3://b/in.zip/deep", "s3://b/in.zip", True),
    ("s3://b/in", "s3://b/in-2", False),
    ("s3://b/in", "s3://c/in", False),
    ("s3://b//in", "s3://b/in", False),
    ("b/in", "s3://b/in", False),
]


@pytest.mark.parametrize(("one", "other", "overlap"), S3_PLACES)
def test_prefixes_of_s3_are_compared_too(plain_input: None, one: str, other: str, overlap: bool):
    for read, written in ((one, other), (other, one)):
        for place in ("input_embeddings_path", "clips_path"):
            apart = {"input_embeddings_path": "s3://x/in", "output_path": written, "n_clusters": 1}
            settings = Settings.of(**(apart | {place: read}))
            if overlap:
                with pytest.raises(SettingsError, match="must not overlap"):
                    refuse_overlaps(settings)
            else:
                refuse_overlaps(settings)


@pytest.mark.parametrize(
    ("options", "overlap"),
    [
        ({"input_s3_endpoint_url": "http://a", "output_s3_endpoint_url": "http://b"}, False),
        ({"input_s3_endpoint_url": "http://a/", "output_s3_endpoint_url": "http://A"}, True),
        ({"input_s3_endpoint_url": "http://a"}, True),
        ({"input_storage_options": {"client_kwargs": {"endpoint_url": "http://b"}}}, False),
        ({"input_storage_options": {"endpoint_url": "http://a"}}, True),
        ({"output_s3_profile_name": "p", "input_s3_profile_name": "q"}, True),
    ],
)
def test_stores_are_told_apart_by_endpoints_that_are_known(
    plain_input: None, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], overlap: bool
):
    if "input_storage_options" in options:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://a")
    paths = {"input_embeddings_path": "s3://b/in", "output_path": "s3://b/in/out", "n_clusters": 1}
    settings = Settings.of(**(paths | options))
    if overlap:
        with pytest.raises(SettingsError, match="must not overlap"):
            refuse_overlaps(settings)
    else:
        refuse_overlaps(settings)


@pytest.mark.parametrize("field", ["input_embeddings_path", "clips_path"])
@pytest.mark.parametrize("target", ["out", "out/deep", ".", "out/deep/x.parquet"])
def test_a_link_to_the_output_is_refused(tmp_path: Path, field: str, target: str):
    """By it the next run would read what this one writes, whether it is there yet or not."""
    write_inputs(tmp_path / "in", ["a", "b"], np.eye(2))
    (tmp_path / "clips").mkdir()
    folder = tmp_path / ("in" if field == "input_embeddings_path" else "clips")
    (folder / "x.parquet").symlink_to(tmp_path / target)
    settings = settings_of(tmp_path, clips_path="clips").replace(allow_links=True)
    with pytest.raises(SettingsError, match=r"output_path .* and the link .*x.parquet .*overlap"):
        list_embeddings(settings, Store(settings.storage.output_path))
    assert not (tmp_path / "out").exists()
