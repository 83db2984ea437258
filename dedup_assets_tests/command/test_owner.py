"""An output folder belongs to one dataset; another one changes no byte of it."""

import hashlib
import shutil
from pathlib import Path

import dagster as dg
import pytest

from dedup_assets.command import run
from dedup_assets_tests.assets.helpers import (
    clip_ids,
    failure,
    make_settings,
    near_duplicates,
    open_instance,
    run_curation,
    run_scoring,
    write_part,
)
from dedup_assets_tests.command.conftest import Call

pytestmark = pytest.mark.slow

ALL_ASSETS = (
    *("embeddings", "centroids", "cluster_partitions", "pairwise_scores"),
    "similarity_histogram",
)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def inputs(tmp_path: Path) -> None:
    write_part(tmp_path / "first", near_duplicates())
    write_part(tmp_path / "second", near_duplicates(40, seed=1), clip_ids(40))


def flags(dataset: str, *more: str) -> list[str]:
    common = ["--output-path", "out", "--n-clusters", "3", "--eps-to-extract", "0.05"]
    return ["run", "--dataset", dataset, "--input-embeddings-path", dataset, *common, *more]


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("home", [True, False])
def test_second_dataset_is_refused_before_anything_is_written(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, home: bool
) -> None:
    assert call(*flags("first")).code == 0
    before = digests(tmp_path / "out")
    assert "shards/eps=0.05/index.parquet" in before
    if not home:
        monkeypatch.delenv("DAGSTER_HOME")  # which leaves a folder in the output
    outcome = call(*flags("second"))
    assert outcome.code == 1
    assert outcome.err == (
        f"dedup-assets run: {tmp_path}/out holds the results of dataset 'first', which those of "
        "dataset 'second' would replace; choose another output_path, set dataset to 'first', or "
        "delete what lies there\n"
    )
    assert digests(tmp_path / "out") == before


@pytest.mark.usefixtures("inputs")
def test_each_next_step_that_the_refusal_names_works(tmp_path: Path, call: Call) -> None:
    assert call(*flags("first")).code == 0
    assert call(*flags("second", "--output-path", "other")).code == 0
    assert call(*flags("second", "--dataset", "first")).code == 0
    assert call(*flags("second")).code == 1
    shutil.rmtree(tmp_path / "out")
    assert call(*flags("second")).code == 0


@pytest.mark.usefixtures("inputs")
def test_folder_of_a_run_that_failed_without_results_is_free(tmp_path: Path, call: Call) -> None:
    assert call(*flags("first", "--id-field", "gone")).code == 1
    assert (tmp_path / "out/settings.json").exists()
    assert call(*flags("second")).code == 0


def test_assets_of_another_dataset_are_refused_and_change_nothing(tmp_path: Path) -> None:
    """As from another code location, which knows nothing of the command's settings."""
    write_part(tmp_path / "second", near_duplicates(40, seed=1), clip_ids(40))
    first = make_settings(tmp_path)
    second = make_settings(
        tmp_path, dataset="another", input_embeddings_path=str(tmp_path / "second")
    )
    output = Path(first.storage.output_path)
    with open_instance(tmp_path / "one") as instance:
        assert run_scoring(first, instance).success
        assert run_curation(first, instance, "0.05").success
    before = digests(output)
    with open_instance(tmp_path / "two") as instance:
        results: list[tuple[str, dg.ExecuteInProcessResult]] = [
            *((name, run_scoring(second, instance, only=[name])) for name in ALL_ASSETS),
            *(
                (name, run_curation(second, instance, "0.05", only=[name]))
                for name in ("duplicate_ids", "curated_shards")
            ),
        ]
    for name, result in results:
        failed, description = failure(result)
        assert failed == name
        assert description == (
            f"{output} holds the results of dataset 'small', which those of dataset 'another' "
            "would replace; choose another output_path, set dataset to 'small', or delete what "
            "lies there"
        )
    assert digests(output) == before


@pytest.mark.usefixtures("inputs")
def test_dataset_that_was_quicker_wins(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one looked while the folder was empty."""
    assert call(*flags("first")).code == 0
    before = digests(tmp_path / "out")
    monkeypatch.setattr(run, "check_output", lambda settings: None)
    outcome = call(*flags("second"))
    assert outcome.code == 1
    assert "embeddings: " in outcome.err
    assert "holds the results of dataset 'first'" in outcome.err
    after = digests(tmp_path / "out")
    assert {name for name in after if after[name] != before.get(name)} == {"settings.json"}
