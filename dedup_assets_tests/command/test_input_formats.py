"""Input that is not a folder of Parquet, through the command."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dedup_assets_tests.assets.helpers import clip_ids, near_duplicates, write_clips, write_part
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.helpers import looks_finished, summary

pytestmark = pytest.mark.slow

FLAGS = ("--output-path", "out", "--n-clusters", "2", "--eps-to-extract", "0.05")


def run(call: Call, path: str, *more: str):
    return call("run", "--input-embeddings-path", path, *FLAGS, *more)


def split_output(root: Path) -> None:
    write_part(root / "iv2_embd_parquet", near_duplicates())
    write_clips(root / "clips", clip_ids())
    (root / "metas" / "v0").mkdir(parents=True)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_split_output_is_deduplicated_with_its_clips(tmp_path: Path, call: Call, zipped: bool):
    split_output(tmp_path / "in")
    if zipped:
        shutil.make_archive(str(tmp_path / "in"), "zip", tmp_path, "in")
        shutil.rmtree(tmp_path / "in")
    outcome = run(call, "in.zip" if zipped else "in")
    assert outcome.code == 0, outcome.err
    assert "no --clips-path" not in outcome.out
    index = pq.read_table(tmp_path / "out" / "shards" / "eps=0.05" / "index.parquet")
    assert index["shard"].null_count == 0
    assert len(index) == int(summary(tmp_path / "out", "0.05")["kept"]) > 0


def test_the_format_can_be_given(tmp_path: Path, call: Call):
    (tmp_path / "in").mkdir()
    rows = zip(clip_ids(), near_duplicates().tolist(), strict=True)
    lines = [json.dumps({"id": i, "embedding": row}) for i, row in rows]
    (tmp_path / "in" / "rows.jsonl").write_text("\n".join(lines))
    np.save(tmp_path / "in" / "other.npy", np.ones(8))
    outcome = run(call, "in")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "set input_filetype to the format of the embeddings" in outcome.err
    outcome = run(call, "in", "--input-filetype", "jsonl")
    assert outcome.code == 0, outcome.err
    assert "no --clips-path" in outcome.out
    assert summary(tmp_path / "out", "0.05")["total"] == "60"
    assert run(call, "in", "--input-filetype", "csv").code == 2


def unsafe_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../x.parquet", b"")


def damaged_zip(path: Path) -> None:
    path.write_bytes(b"PK\3\4 and then nothing")


@pytest.mark.parametrize(
    ("make", "says"), [(unsafe_zip, "leads out of the zip"), (damaged_zip, "not a readable zip (")]
)
def test_a_zip_that_cannot_be_read_ends_in_one_line(tmp_path: Path, call: Call, make, says: str):
    make(tmp_path / "in.zip")
    outcome = run(call, "in.zip")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert says in outcome.err
    assert looks_finished(tmp_path / "out") == []
