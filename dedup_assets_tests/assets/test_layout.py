"""The graph in either layout: what its metadata says of places and columns is so."""

from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from dedup_assets_tests.assets.helpers import (
    contents,
    failure,
    make_settings,
    metadata_of,
    run_curation,
    run_scoring,
)

EPS = "0.05"


def test_nemo_layout_is_named_in_the_metadata_and_the_other_is_refused(
    tmp_path: Path, instance: dg.DagsterInstance
):
    settings = make_settings(tmp_path, layout="nemo")
    assert run_scoring(settings, instance).success
    assert run_curation(settings, instance, EPS).success
    output = Path(settings.storage.output_path)
    for name, key, place in (
        ("cluster_partitions", "0-1", "kmeans"),
        ("pairwise_scores", "0-1", "pairwise"),
        ("duplicate_ids", EPS, f"duplicates/eps_{EPS}"),
    ):
        found = metadata_of(instance, settings, name, key)
        assert found["dagster/uri"] == str(output / place)
        files = [path for path in (output / place).rglob("*") if path.is_file()]
        columns = [column.name for column in found["dagster/column_schema"].columns]
        assert {tuple(pq.ParquetFile(file).schema_arrow.names) for file in files} == {
            tuple(columns)
        }

    before = contents(output)
    other = make_settings(tmp_path)
    for result, step in (
        (run_scoring(other, instance, only=["embeddings"]), "embeddings"),
        (run_curation(other, instance, EPS, only=["duplicate_ids"]), "duplicate_ids"),
    ):
        failed, description = failure(result)
        assert failed == step
        assert description.startswith(
            f"layout is cosmos-curate, and {output} was written as nemo; set layout to nemo"
        )
    assert contents(output) == before


@pytest.mark.parametrize("value", ["hive", "NEMO", ""])
def test_other_layouts_are_refused_naming_the_two(tmp_path: Path, value: str):
    with pytest.raises(ValueError, match="'cosmos-curate' or 'nemo'"):
        make_settings(tmp_path, layout=value)
