"""``--layout`` on the command line, and a folder that holds another one."""

import shutil
from pathlib import Path

import pytest

from dedup_assets.command.settings_file import load_settings
from dedup_assets_tests.assets.helpers import contents, near_duplicates, write_part
from dedup_assets_tests.command.conftest import Call

pytestmark = pytest.mark.slow

FLAGS = [
    *("run", "--input-embeddings-path", "embeddings", "--output-path", "out"),
    *("--n-clusters", "3", "--eps-to-extract", "0.05"),
]
NEMO = [*FLAGS, "--layout", "nemo"]


@pytest.fixture
def embeddings(tmp_path: Path) -> None:
    write_part(tmp_path / "embeddings", near_duplicates())


@pytest.mark.usefixtures("embeddings")
def test_report_names_the_places_that_are_there(call: Call, tmp_path: Path):
    for flags, places in (
        (NEMO, ["pairwise", "duplicates/eps_0.05"]),
        (FLAGS, ["extraction/semdedup_pruning_tables", "extraction/unique_ids_0.05.parquet"]),
    ):
        outcome = call(*flags)
        assert outcome.code == 0, outcome.err
        table = outcome.out.partition("Below ")[2].split("in the Dagster UI")[0]
        rows = [line.split("│")[2].strip() for line in table.splitlines() if line.count("│") == 3]
        assert [name for name in rows if not (tmp_path / "out" / name).exists()] == []
        assert set(places) < set(rows)
        shutil.rmtree(tmp_path / "out")


@pytest.mark.usefixtures("embeddings")
def test_folder_in_another_layout_is_refused_before_anything_changes(call: Call, tmp_path: Path):
    out = tmp_path / "out"
    assert call(*FLAGS).code == 0
    before = contents(out)
    outcome = call(*NEMO)
    assert outcome.code == 1
    assert outcome.err.strip() == (
        f"dedup-assets run: layout is nemo, and {out} was written as cosmos-curate; set layout to "
        "cosmos-curate, choose another output_path, or delete "
        "clustering_results/embs_by_nearest_center/nearest_cent=*, "
        "extraction/semdedup_pruning_tables/cluster_*, extraction/unique_ids_* there to "
        "have them written anew"
    )
    assert contents(out) == before
    assert load_settings(str(out)).storage.layout == "cosmos-curate"

    # The last way out that it names works, and computes what is not there.
    shutil.rmtree(out / "clustering_results/embs_by_nearest_center")
    shutil.rmtree(out / "extraction/semdedup_pruning_tables")
    shutil.rmtree(out / "extraction/unique_ids_0.05.parquet")
    outcome = call(*NEMO)
    assert outcome.code == 0, outcome.err
    assert {path.name for path in out.iterdir()} >= {"kmeans", "pairwise", "duplicates"}
    assert load_settings(str(out)).storage.layout == "nemo"
    assert "written as nemo" in call(*FLAGS).err
    assert call(*NEMO).code == 0
