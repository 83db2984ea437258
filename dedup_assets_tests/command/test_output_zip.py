"""``run --output-zip``: the results of a run in one file, and where it must not lie."""

import zipfile
from pathlib import Path

import pytest

from dedup_assets_tests.assets.helpers import near_duplicates, write_part
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.test_bad_input import assert_one_line
from dedup_assets_tests.s3 import S3Server

FLAGS = ("run", "--input-embeddings-path", "in", "--n-clusters", "2", "--eps-thresholds", "0.05")


def test_results_of_two_runs_are_packed_to_equal_bytes(tmp_path: Path, call: Call) -> None:
    write_part(tmp_path / "in", near_duplicates())
    for name in ("a.zip", "b.zip"):
        outcome = call(*FLAGS, "--output-path", "out", "--output-zip", f"zips/{name}")
        assert outcome.code == 0, outcome.err
        assert f"packed into:  {tmp_path}/zips/{name}" in outcome.out
    assert (tmp_path / "zips/a.zip").read_bytes() == (tmp_path / "zips/b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "zips/a.zip") as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file() and ".locks" not in p.parts]
    assert packed == {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in files}
    assert "extraction/dedup_summary_0.05.csv" in packed


def test_events_below_the_output_are_not_packed(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    write_part(tmp_path / "in", near_duplicates())
    outcome = call(*FLAGS, "--output-path", "out", "--output-zip", "results.zip")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out/.dagster/dagster.yaml").exists()
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        assert not [name for name in archive.namelist() if name.startswith(".")]


def test_output_and_zip_on_s3(tmp_path: Path, call: Call, s3: S3Server) -> None:
    write_part(tmp_path / "in", near_duplicates())
    flags = ["--output-path", s3.url("out"), "--output-zip", s3.url("results.zip")]
    outcome = call(*FLAGS, *flags)
    assert outcome.code == 0, outcome.err
    assert f"packed into:  {s3.url('results.zip')}" in outcome.out
    (tmp_path / "results.zip").write_bytes(s3.get("results.zip"))
    with zipfile.ZipFile(tmp_path / "results.zip") as archive:
        names = [n for n in s3.names("out/") if not n.startswith("out/.locks/")]
        assert [f"out/{name}" for name in archive.namelist()] == names


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("out/results.zip", "must be outside --output-path"),
        ("./x/../out/below/results.zip", "must be outside --output-path"),
        ("link/results.zip", "must be outside --output-path"),
        ("in/results.zip", "must be outside the input"),
        ("results", "must end in .zip, got 'results'"),
        ("gs://bucket/results.zip", "must be a local path or s3://bucket/key"),
        ("s3://results.zip", "must be a local path or s3://bucket/key"),
    ],
)
def test_wrong_place_ends_with_code_2_before_the_run(
    tmp_path: Path, call: Call, path: str, reason: str
) -> None:
    write_part(tmp_path / "in", near_duplicates())
    (tmp_path / "link").symlink_to(tmp_path / "out")
    outcome = call(*FLAGS, "--output-path", "out", "--output-zip", path)
    assert outcome.code == 2
    assert_one_line(outcome.err, [f"--output-zip: {reason}"])
    assert not (tmp_path / "out").exists()


def test_place_below_an_output_on_s3_is_refused(call: Call) -> None:
    flags = ["--output-path", "s3://bucket/out", "--output-zip", "s3://bucket/out/results.zip"]
    outcome = call(*FLAGS, *flags)
    assert outcome.code == 2
    assert_one_line(outcome.err, ["--output-zip: must be outside --output-path"])


def test_zip_that_cannot_be_written_fails_after_the_summary(tmp_path: Path, call: Call) -> None:
    """The results are there, so the next run only packs them."""
    write_part(tmp_path / "in", near_duplicates())
    (tmp_path / "results.zip").mkdir()
    outcome = call(*FLAGS, "--output-path", "out", "--output-zip", "results.zip")
    assert outcome.code == 1
    assert_one_line(outcome.err, ["results.zip cannot be written (Is a directory)"])
    assert (tmp_path / "out/extraction/dedup_summary_0.05.csv").exists()
