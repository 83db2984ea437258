"""An asset refuses places that overlap before it writes anything, its lease included."""

from pathlib import Path

import dagster as dg
import pytest

from dedup_assets_tests.assets.helpers import failure, make_settings, run_curation, run_scoring


@pytest.mark.parametrize("asset", ["embeddings", "centroids", "curated_shards"])
def test_nothing_is_left_in_an_input_that_is_refused(
    tmp_path: Path, instance: dg.DagsterInstance, asset: str
):
    settings = make_settings(tmp_path, output_path=str(tmp_path / "link" / "out"))
    (tmp_path / "link").symlink_to(tmp_path / "embeddings")
    if asset == "curated_shards":
        result = run_curation(settings, instance, "0.05", only=[asset])
    else:
        result = run_scoring(settings, instance, only=[asset])
    name, reason = failure(result)
    assert name == asset
    assert "must not overlap: neither may lie in the other; choose another output_path" in reason
    assert sorted(p.name for p in (tmp_path / "embeddings").iterdir()) == [
        "part-0.parquet",
        "part-1.parquet",
    ]
