"""Paths as users write them: odd names, places that overlap, pipes, links out of the clips."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from dedup_assets_tests.assets.helpers import clip_ids, near_duplicates, write_clips, write_part
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.helpers import COMMAND, clean_environment, command
from dedup_assets_tests.command.test_bad_input import assert_one_line

pytestmark = pytest.mark.slow

FLAGS = ["--n-clusters", "2", "--eps-to-extract", "0.05"]


def places(path: str, clips: str, output: str) -> list[str]:
    return ["run", "--input-embeddings-path", path, "--clips-path", clips, "--output-path", output]


def test_chains_of_fsspec_are_names_of_folders(tmp_path: Path) -> None:
    """fsspec wrote the output of run::2 to run, and read the clips of b, not of a::b."""
    write_part(tmp_path / "in::x", near_duplicates())
    write_clips(tmp_path / "clips" / "a::b", clip_ids())
    (tmp_path / "out").mkdir()
    flags = [*places("in::x", "clips/a::b", "out/run::2"), *FLAGS, "--output-zip", "a::z.zip"]
    done = command(*flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["run::2"]
    assert {p.name for p in tmp_path.iterdir()} == {"a::z.zip", "clips", "in::x", "out"}
    (tar,) = (tmp_path / "out/run::2/shards/eps=0.05").glob("*/*.tar")
    with tarfile.open(tar) as archive:
        videos = [name for name in archive.getnames() if name.endswith(".mp4")]
        first = archive.extractfile(videos[0])
        assert first is not None
        assert first.read() == f"video of {videos[0].removesuffix('.mp4')}".encode()


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (places("in", "clips", "in/out"), ["--output-path", "--input-embeddings-path"]),
        (places("in", "clips", "link/out"), ["--output-path", "--input-embeddings-path"]),
        (places("in/part-0.parquet", "clips", "in"), ["--input-embeddings-path"]),
        (places("in", "clips", "clips/out"), ["--output-path", "--clips-path"]),
        (places("in", "out/clips", "out"), ["--output-path", "--clips-path"]),
    ],
)
def test_places_that_overlap_leave_nothing_behind(
    tmp_path: Path, flags: list[str], parts: list[str]
) -> None:
    """Without DAGSTER_HOME, where the first thing that a run makes is a folder in the output."""
    write_part(tmp_path / "in", near_duplicates())
    write_clips(tmp_path / "clips", clip_ids())
    (tmp_path / "link").symlink_to(tmp_path / "in")
    before = sorted(tmp_path.rglob("*"))
    done = command(*flags, *FLAGS, cwd=tmp_path)
    assert done.returncode == 2
    assert_one_line(done.stderr, [*parts, "must not overlap", "choose another --output-path"])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_spec_names_its_keys_where_places_overlap(tmp_path: Path, call: Call) -> None:
    args = {"input_embeddings_path": "in", "output_path": "in/out", "n_clusters": 2}
    (tmp_path / "job.json").write_text(json.dumps({"pipeline": "dedup", "args": args}))
    outcome = call("run", "--spec", "job.json")
    assert outcome.code == 2
    assert_one_line(outcome.err, ["args.output_path", "args.input_embeddings_path", "overlap"])


@pytest.mark.parametrize("place", ["input", "file of the input", "clips", "clip", "spec"])
def test_a_pipe_is_one_line_and_no_wait(tmp_path: Path, place: str) -> None:
    write_part(tmp_path / "in", near_duplicates())
    write_clips(tmp_path / "clips", clip_ids())
    pipe = {
        "input": tmp_path / "pipe",
        "file of the input": tmp_path / "in" / "z.parquet",
        "clips": tmp_path / "pipe",
        "clip": tmp_path / "clips" / "clip-000.mp4",
        "spec": tmp_path / "pipe",
    }[place]
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    path = "pipe" if place == "input" else "in"
    flags = places(path, "pipe" if place == "clips" else "clips", "out")
    flags += ["--n-clusters", "2", "--eps-to-extract", "0"]  # which keeps every clip
    done = command(*(["run", "--spec", "pipe"] if place == "spec" else flags), cwd=tmp_path)
    assert done.returncode == (2 if place == "spec" else 1)
    assert_one_line(done.stderr, [pipe.name, "is a pipe"])


def test_a_pipe_of_the_shell_is_no_spec(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", '"$@" --spec <(echo {})', "-", *COMMAND, "run"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert_one_line(done.stderr, ["is a pipe; give a file, or - for the standard input"])


@pytest.mark.parametrize("given", ["nothing", "the flag", "the key of a spec"])
def test_links_out_of_the_clips_have_to_be_allowed(tmp_path: Path, call: Call, given: str) -> None:
    write_part(tmp_path / "in", near_duplicates())
    write_clips(tmp_path / "elsewhere", clip_ids())
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "more").symlink_to("../elsewhere")
    flags = [*places("in", "clips", "out"), *FLAGS]
    if given == "the key of a spec":
        args = {"input_embeddings_path": "in", "clips_path": "clips", "output_path": "out"}
        document = {"pipeline": "dedup", "args": {**args, "n_clusters": 2, "allow-links": True}}
        (tmp_path / "job.json").write_text(json.dumps(document))
        flags = ["run", "--spec", "job.json"]
    outcome = call(*flags, *(["--allow-links"] if given == "the flag" else []))
    assert outcome.code == (1 if given == "nothing" else 0), outcome.err
    if given == "nothing":
        parts = [f"{tmp_path}/clips/more leads out of", f"to {tmp_path}/elsewhere", "--allow-links"]
        assert_one_line(outcome.err, parts)
        assert not (tmp_path / "out/clustering_results").exists()


@pytest.mark.parametrize("value", ["yes", 1, "true"])
def test_a_switch_of_a_spec_is_true_or_false(tmp_path: Path, call: Call, value: object) -> None:
    args = {"input_embeddings_path": "in", "output_path": "out", "n_clusters": 2}
    document = {"pipeline": "dedup", "args": {**args, "allow_links": value}}
    (tmp_path / "job.json").write_text(json.dumps(document))
    outcome = call("run", "--spec", "job.json")
    assert outcome.code == 2
    assert_one_line(outcome.err, ["args.allow_links must be true or false, got"])


def test_the_flag_of_a_switch_takes_no_value(tmp_path: Path, call: Call) -> None:
    outcome = call(*places("in", "clips", "out"), "--n-clusters", "2", "--allow-links", "yes")
    assert outcome.code == 2
    assert_one_line(outcome.err, ["unrecognized arguments: yes"])


@pytest.mark.parametrize("name", ["~nobody-of-this-name", "./~"])
def test_a_tilde_that_is_no_home_is_a_letter(tmp_path: Path, call: Call, name: str) -> None:
    write_part(tmp_path / "in", near_duplicates())
    outcome = call(
        *("run", "--input-embeddings-path", "in", "--output-path", name, "--n-clusters", "2")
    )
    assert outcome.code == 0, outcome.err
    assert (tmp_path / name / "clustering_results").is_dir()
