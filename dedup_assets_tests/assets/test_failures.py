"""What stops a run, what a retry can fix, and what the blocking checks find on disk."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from dedup_assets.assets import duplicate_ids as duplicate_ids_module
from dedup_assets.assets.common import RETRY
from dedup_assets.component import build_definitions
from dedup_assets.settings import Settings
from dedup_assets.stages.duplicates import list_duplicates
from dedup_assets_tests.assets.helpers import (
    KEYS,
    clip_ids,
    contents,
    failure,
    make_settings,
    materialized,
    metadata_of,
    near_duplicates,
    run_curation,
    run_scoring,
    steps,
    write_clips,
    write_part,
)

pytestmark = pytest.mark.slow

EPS = "0.05"


@pytest.fixture
def scored(tmp_path: Path, instance: dg.DagsterInstance) -> Settings:
    """A data set with clips, scored; its duplicates listed, its shards written."""
    write_clips(tmp_path / "clips", clip_ids())
    settings = make_settings(tmp_path, clips_path=str(tmp_path / "clips"))
    assert run_scoring(settings, instance).success
    assert run_curation(settings, instance, EPS).success
    return settings


def rewrite(path: Path, change: Any) -> None:
    """Change the rows of a table as an accident would, leaving its footer's fingerprint."""
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def after_listing(monkeypatch: pytest.MonkeyPatch, output: Path, change: Any) -> None:
    """Change a list as soon as it is written, before the checks read it.

    What was changed earlier has another size than the ledger says, and is written again.
    """

    def list_and_change(*arguments: Any) -> Any:
        found = list_duplicates(*arguments)
        rewrite(first_part_with_rows(output), change)
        return found

    monkeypatch.setattr(duplicate_ids_module, "list_duplicates", list_and_change)


def first_part_with_rows(output: Path) -> Path:
    parts = sorted((output / f"extraction/unique_ids_{EPS}.parquet").iterdir())
    return next(part for part in parts if pq.read_table(part).num_rows)


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {
        e.check_name: e.description or ""
        for e in result.get_asset_check_evaluations()
        if not e.passed
    }


def test_lost_removal_fails_the_conservation_check_and_no_shards_are_written(
    scored: Settings,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "output"
    after_listing(monkeypatch, output, lambda table: table.slice(1))
    (output / f"shards/eps={EPS}/index.parquet").unlink()
    result = run_curation(scored, instance, EPS)
    assert not result.success
    assert "1 of the lists are missing or cut" in failed_checks(result)["rows_conserved"]
    assert materialized(result) == [("duplicate_ids", EPS)]
    assert "curated_shards" not in steps(result, dg.DagsterEventType.STEP_START)
    assert not (output / f"shards/eps={EPS}/index.parquet").exists()


def test_wrong_match_fails_the_check_on_removed_ids_and_stops_the_shards(
    scored: Settings,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A removal whose match is not in its cluster would be a clip lost for nothing."""

    def point_elsewhere(table: Any) -> Any:
        ids = ["no-such-clip", *table["max_id"].to_pylist()[1:]]
        return table.set_column(1, table.schema.field("max_id"), [ids])

    after_listing(monkeypatch, tmp_path / "output", point_elsewhere)
    result = run_curation(scored, instance, EPS)
    # The others see that the list is not the one that was written.
    assert "removed_have_match" in failed_checks(result)
    assert "not so" in failed_checks(result)["lists_match_ledger"]
    assert materialized(result) == [("duplicate_ids", EPS)]


def test_shard_that_holds_other_clips_fails_its_check(
    scored: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    tar = next((tmp_path / f"output/shards/eps={EPS}").glob("*/00000.tar"))
    data = tar.read_bytes()
    index = pq.read_table(tmp_path / f"output/shards/eps={EPS}/index.parquet").to_pylist()
    tar.write_bytes(data[index[1]["offset"] :])
    result = run_curation(scored, instance, EPS)
    assert not result.success
    said = failed_checks(result)["shards_hold_kept"]
    assert re.search(r"1 shards do not hold what it names, such as [0-9a-f]+/00000\.tar", said)
    assert f"materialize curated_shards at eps {EPS} again" in said


@pytest.mark.parametrize("damage", ["cut", "gone", "one row less"])
def test_damaged_part_file_is_written_again_from_the_ledger(
    scored: Settings, instance: dg.DagsterInstance, tmp_path: Path, damage: str
) -> None:
    part = first_part_with_rows(tmp_path / "output")
    whole = part.read_bytes()
    match damage:
        case "cut":
            part.write_bytes(whole[:100])
        case "gone":
            part.unlink()
        case "one row less":
            rewrite(part, lambda table: table.slice(1))
    result = run_curation(scored, instance, EPS)
    assert result.success
    assert part.read_bytes() == whole
    metadata = metadata_of(instance, scored, "duplicate_ids", EPS)
    assert metadata["lists"] - metadata["reused_clusters"] == 1


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_pruning_table_is_written_again_from_the_ledger(
    scored: Settings, instance: dg.DagsterInstance, tmp_path: Path, damage: str
) -> None:
    table = tmp_path / "output/extraction/semdedup_pruning_tables/cluster_1.parquet"
    whole = table.read_bytes()
    table.unlink() if damage == "gone" else table.write_bytes(whole[:100])
    assert run_curation(scored, instance, EPS).success, "only the ledger is read"
    assert run_scoring(scored, instance, only=["pairwise_scores"]).success
    assert table.read_bytes() == whole
    metadata = metadata_of(instance, scored, "pairwise_scores", KEYS[0])
    assert (metadata["reused_clusters"], metadata["rows_compared"]) == (2, 0)


@pytest.mark.parametrize(
    "name",
    [
        "extraction/scores/2-3.parquet",
        f"extraction/duplicates/{EPS}.parquet",
        "clustering_results/partitions/2-3.parquet",
        "embeddings/manifest.parquet",
    ],
)
def test_unreadable_file_fails_naming_it_and_what_to_do(
    scored: Settings, instance: dg.DagsterInstance, tmp_path: Path, name: str
) -> None:
    """Of the size that it had, so only reading it shows that it is damaged."""
    path = tmp_path / "output" / name
    path.write_bytes(b"\0" * path.stat().st_size)
    asset, message = failure(run_curation(scored, instance, EPS))
    assert asset == "duplicate_ids"
    assert str(path) in message
    assert "delete it and materialize again" in message
    assert "\n" not in message


def test_changed_summary_is_written_again(
    scored: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    summary = tmp_path / f"output/extraction/dedup_summary_{EPS}.csv"
    text = summary.read_text()
    summary.write_text(text.replace(",0\n", ",7\n"))
    assert run_curation(scored, instance, EPS).success
    assert summary.read_text() == text


def test_user_error_is_tried_once(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    settings = make_settings(tmp_path, embedding_field="vector")
    result = run_scoring(settings, instance)
    asset, message = failure(result)
    assert asset == "embeddings"
    assert message.startswith("part-0.parquet has no column 'vector'; it has id, embedding")
    assert steps(result, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert steps(result, dg.DagsterEventType.STEP_START) == ["embeddings"]


def test_programming_error_is_tried_once(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path)

    def broken(*_: Any) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(duplicate_ids_module, "list_duplicates", broken)
    result = run_curation(settings, instance, EPS)
    assert failure(result) == ("duplicate_ids", "KeyError: 'oops'")
    assert steps(result, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []


def test_an_error_that_nobody_foresaw_may_pass(
    scored: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def flaky(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise RuntimeError("the driver was busy")
        return list_duplicates(*arguments)

    monkeypatch.setattr(duplicate_ids_module, "list_duplicates", flaky)
    assert run_curation(scored, instance, EPS).success
    assert len(calls) == 2


@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EROFS, errno.ELOOP, errno.ENOTDIR],
)
def test_faults_that_last_are_not_retried(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    settings = make_settings(tmp_path)

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(duplicate_ids_module, "list_duplicates", fail)
    result = run_curation(settings, instance, EPS)
    assert os.strerror(number) in failure(result)[1]
    assert steps(result, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []


def test_a_name_that_is_too_long_is_tried_once(tmp_path: Path, instance: dg.DagsterInstance):
    settings = make_settings(tmp_path, input_embeddings_path=str(tmp_path / ("x" * 300)))
    result = run_scoring(settings, instance)
    assert "File name too long" in failure(result)[1]
    assert steps(result, dg.DagsterEventType.STEP_UP_FOR_RETRY) == []


def test_storage_fault_is_retried_and_the_run_succeeds(
    scored: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def flaky(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return list_duplicates(*arguments)

    monkeypatch.setattr(duplicate_ids_module, "list_duplicates", flaky)
    result = run_curation(scored, instance, EPS)
    assert result.success
    assert len(calls) == 2 <= RETRY.max_retries
    assert steps(result, dg.DagsterEventType.STEP_UP_FOR_RETRY) == ["duplicate_ids"]
    assert materialized(result) == [("curated_shards", EPS), ("duplicate_ids", EPS)]


def test_invalid_rows_set_aside_are_counted_by_the_check(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    vectors = near_duplicates()
    vectors[3] = 0
    vectors[7, 2] = float("nan")
    write_part(tmp_path / "embeddings", vectors)
    settings = make_settings(tmp_path, on_invalid="quarantine")
    assert run_scoring(settings, instance).success
    result = run_curation(settings, instance, EPS)
    assert result.success
    conserved = next(
        e for e in result.get_asset_check_evaluations() if e.check_name == "rows_conserved"
    )
    assert conserved.metadata["rejected"].value == 2
    assert "rejected 2 = 60 input rows" in (conserved.description or "")


def test_shards_of_another_kind_are_replaced_by_launch_configuration_alone(
    scored: Settings, instance: dg.DagsterInstance
) -> None:
    output = Path(scored.storage.output_path) / "shards"
    before = contents(output)
    settings = scored.replace(export="media")
    asset, message = failure(run_curation(settings, instance, EPS))
    assert asset == "curated_shards"
    assert "in the Launchpad, replace_shards: true" in message
    assert contents(output) == before
    job = build_definitions(settings).resolve_job_def("small_curation")
    config = {"ops": {"small__curated_shards": {"config": {"replace_shards": True}}}}
    assert job.execute_in_process(instance=instance, partition_key=EPS, run_config=config).success
    assert not list(output.rglob("*.tar"))
    assert list(output.rglob("*.mp4"))
