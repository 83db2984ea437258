"""An output of format 1 is taken over without computing anything again; a newer one is refused."""

import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup_assets.errors import SettingsError
from dedup_assets.settings import Settings
from dedup_assets.stages.histogram import build_histogram
from dedup_assets.stages.missed import estimate_missed
from dedup_assets.stages.plan import plan_work
from dedup_assets.state import manifest as manifests
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets_tests.conftest import bytes_of, make_settings, run_stages

STORED = Path(__file__).parent / "outputs" / "format-1.zip"
"""Input, clips and output of a small run before there were ledgers (commit a90cf03)."""

MADE = 1_700_000_000
"""Time of the files, which is a part of their fingerprints."""

DOCUMENTED = (
    *("clustering_results/kmeans", "clustering_results/embs_by_nearest_center/"),
    *("clustering_results/partitions/", "extraction/semdedup_pruning_tables/"),
    *("extraction/unique_ids_", "extraction/dedup_summary_"),
)


COMPRESSED = (
    *("clustering_results/partitions/", "extraction/semdedup_pruning_tables/"),
    *("extraction/unique_ids_", "extraction/duplicates/", "extraction/scores/"),
)
"""Small tables that format 1 compressed, which stay, and the ledgers that state their sizes."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    with zipfile.ZipFile(STORED) as archive:
        archive.extractall(tmp_path)
    for path in tmp_path.rglob("*"):
        os.utime(path, (MADE, MADE))
    return make_settings(
        tmp_path,
        n_clusters=3,
        eps_thresholds=["0.01", "0.1"],
        eps_to_extract="0.1",
        files_per_partition=1,
        metadata_fields=["weight"],
        clips_path=str(tmp_path / "clips"),
        samples_per_shard=20,
        on_invalid="quarantine",
    )


def test_nothing_of_an_output_of_format_1_is_computed_again(settings: Settings):
    before = bytes_of(settings.storage.output_path)
    results = run_stages(settings)
    assert results.centroids.reused
    assert (results.shuffled.groups, results.shuffled.reused) == (2, 2)
    assert sum(key.searched for key in results.scores.values()) == 0
    assert all(found.reused == 3 for found in results.duplicates.values())
    after = bytes_of(settings.storage.output_path)
    kept = {name: data for name, data in before.items() if name.startswith(DOCUMENTED)}
    assert len(kept) == 22
    assert {name: after[name] for name in kept} == kept
    tars = [name for name in before if name.endswith(".tar")]
    assert {name: after[name] for name in tars} == {name: before[name] for name in tars}


def test_afterwards_it_is_as_one_that_was_made_anew(settings: Settings, tmp_path: Path):
    results = run_stages(settings)
    fresh = settings.replace(output_path=str(tmp_path / "fresh"))
    assert run_stages(fresh).all_pairs() == results.all_pairs()
    for output in (settings, fresh):
        snapshot = Snapshot(output, output.storage.open_output())
        build_histogram(snapshot)
        estimate_missed(snapshot)
    found, expected = (bytes_of(s.storage.output_path) for s in (settings, fresh))
    assert found.keys() == expected.keys()
    for name in (name for name in found if found[name] != expected[name]):
        assert name.startswith(COMPRESSED), name
        assert rows_of(found[name]) == rows_of(expected[name]), name
    assert plan_work(settings, results.store) == []


def rows_of(data: bytes) -> pa.Table:
    """A table without its footer, and without the sizes of other files."""
    table = pq.read_table(pa.BufferReader(data)).replace_schema_metadata(None)
    return table.select([column for column in table.column_names if column != "bytes"])


def test_the_plan_says_that_it_is_of_an_earlier_version(settings: Settings):
    work = plan_work(settings, settings.storage.open_output())
    assert str(work[0]) == "embeddings: listed by an earlier version"


def test_an_output_of_a_newer_format_is_refused_in_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(manifests, "FORMAT", manifests.FORMAT + 1)
        store = run_stages(settings).store
    before = bytes_of(settings.storage.output_path)
    for step in (
        lambda: run_stages(settings),
        lambda: plan_work(settings, store),
        lambda: Snapshot(settings, store).ledgers,
    ):
        with pytest.raises(SettingsError, match=r"state of format 3, .* reads up to 2: upgrade"):
            step()
    assert bytes_of(settings.storage.output_path) == before
    assert layout.MANIFEST in before
