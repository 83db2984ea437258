"""``run --output-zip``: the results of a run in one file, and where it must not lie."""

import os
import zipfile
from pathlib import Path

import pytest

from dedup_assets_tests.assets.helpers import near_duplicates, write_part
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.test_bad_input import assert_one_line
from dedup_assets_tests.s3 import S3Server

pytestmark = pytest.mark.slow

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
        ("out/results.zip", "--output-path {out} must not overlap"),
        ("./x/../out/below/results.zip", "--output-path {out} must not overlap"),
        ("link/results.zip", "--output-path {out} must not overlap"),
        ("in/results.zip", "--input-embeddings-path {in} must not overlap"),
        ("clips/results.zip", "--clips-path {clips} must not overlap"),
        ("results", "--output-zip: must end in .zip, got 'results'"),
        ("gs://bucket/results.zip", "--output-zip: must be a local path or s3://bucket/key"),
        ("file:///results.zip", "--output-zip: must be a local path or s3://bucket/key"),
        ("s3://results.zip", "--output-zip: must be a local path or s3://bucket/key"),
    ],
)
def test_wrong_place_ends_with_code_2_before_the_run(
    tmp_path: Path, call: Call, path: str, reason: str
) -> None:
    write_part(tmp_path / "in", near_duplicates())
    (tmp_path / "link").symlink_to(tmp_path / "out")
    outcome = call(*FLAGS, "--clips-path", "clips", "--output-path", "out", "--output-zip", path)
    assert outcome.code == 2
    places = {name: tmp_path / name for name in ("in", "out", "clips")}
    assert_one_line(outcome.err, ["--output-zip", reason.format(**places)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "link"]


def test_place_below_an_output_on_s3_is_refused(call: Call) -> None:
    flags = ["--output-path", "s3://bucket/out", "--output-zip", "s3://bucket/out/results.zip"]
    outcome = call(*FLAGS, *flags)
    assert outcome.code == 2
    assert_one_line(outcome.err, ["--output-zip s3://bucket/out/results.zip and --output-path"])


@pytest.mark.parametrize("below", ["", "/clips"])
def test_zip_that_holds_the_clips_is_not_overwritten(
    tmp_path: Path, call: Call, below: str
) -> None:
    write_part(tmp_path / "in", near_duplicates())
    with zipfile.ZipFile(tmp_path / "clips.zip", "w") as archive:
        archive.writestr("clips/clip-000.mp4", b"the only copy")
    before = (tmp_path / "clips.zip").read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)
    for path in ("clips.zip", "link/clips.zip"):
        flags = ["--clips-path", f"clips.zip{below}", "--output-path", "out", "--output-zip", path]
        outcome = call(*FLAGS, *flags)
        assert outcome.code == 2
        assert_one_line(outcome.err, ["and --clips-path", "choose another --output-zip"])
    assert (tmp_path / "clips.zip").read_bytes() == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["another zip", "a pipe", "a folder"])
def test_something_else_in_its_place_fails_before_the_run(
    tmp_path: Path, call: Call, kind: str
) -> None:
    write_part(tmp_path / "in", near_duplicates())
    path = tmp_path / "results.zip"
    match kind:
        case "another zip":
            zipfile.ZipFile(path, "w").close()
            reason = "results.zip is there and is not a ZIP file that dedup-assets wrote"
        case "a pipe":
            os.mkfifo(path)
            reason = "results.zip is a pipe, not a ZIP file; choose another --output-zip"
        case _:
            path.mkdir()
            reason = "results.zip cannot be written (Is a directory)"
    outcome = call(*FLAGS, "--output-path", "out", "--output-zip", "results.zip")
    assert outcome.code == 1
    assert_one_line(outcome.err, [reason])
    assert not (tmp_path / "out").exists()
