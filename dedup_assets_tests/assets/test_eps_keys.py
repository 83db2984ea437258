"""Dagster takes any text as a dynamic partition key, so the assets have to check it."""

from pathlib import Path

import dagster as dg
import pytest

from dedup_assets.partitions import eps_partitions_name
from dedup_assets_tests.assets.helpers import (
    contents,
    failure,
    make_settings,
    run_curation,
    run_scoring,
    steps,
)

RULE = "eps must be a number from 0 to 0.99999 with at most 5 decimals"


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("0.010", ["'0.010' must be spelled '0.01'", "and add '0.01'"]),
        ("1e-05", ["must be spelled '0.00001'", "and add '0.00001'"]),
        ("0.0", ["must be spelled '0'"]),
        (".05", ["must be spelled '0.05'"]),
        ("abc", [RULE, "got 'abc'"]),
        ("1.5", [RULE, "got 1.5"]),
        ("-0.01", [RULE, "got -0.01"]),
        ("0.000001", [RULE, "got 0.000001"]),
    ],
)
def test_wrong_eps_key_fails_before_reading_and_says_how_to_delete_it(
    tmp_path: Path, instance: dg.DagsterInstance, key: str, parts: list[str]
) -> None:
    """The output is empty here: an error about a missing file would show that it was read."""
    settings = make_settings(tmp_path)
    result = run_curation(settings, instance, key)
    assert not result.success
    asset, message = failure(result)
    assert asset == "duplicate_ids"
    assert "\n" not in message
    for part in [*parts, f"delete the partition {key!r} of small/eps"]:
        assert part in message
    assert steps(result, dg.DagsterEventType.STEP_START) == ["duplicate_ids"]
    assert not contents(tmp_path / "output")


def test_wrong_eps_key_of_the_shards_alone_fails_too(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path)
    asset, message = failure(run_curation(settings, instance, "0.050", only=["curated_shards"]))
    assert asset == "curated_shards"
    assert "must be spelled '0.05'" in message


def test_eps_typed_in_the_ui_needs_no_configuration(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path, eps_thresholds=[], eps_to_extract=None)
    assert run_scoring(settings, instance).success
    assert instance.get_dynamic_partitions(eps_partitions_name(settings)) == []
    assert run_curation(settings, instance, "0.03").success
    extraction = tmp_path / "output/extraction"
    header, row = (extraction / "dedup_summary_0.03.csv").read_text().splitlines()
    assert header == "eps,kept,removed,total,rejected"
    eps, kept, removed, total, rejected = row.split(",")
    assert (eps, total, rejected) == ("0.03", "60", "0")
    assert int(kept) + int(removed) == 60
    assert (tmp_path / "output/shards/eps=0.03/index.parquet").exists()
    assert len(list((extraction / "unique_ids_0.03.parquet").iterdir())) == 6
