"""A user who may not write the output, or not read the input: one line, and nothing changes."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedup_assets_tests.assets.helpers import (
    INSTANCE_YAML,
    clip_ids,
    contents,
    near_duplicates,
    write_clips,
    write_part,
)
from dedup_assets_tests.command.helpers import COMMAND, clean_environment

pytestmark = pytest.mark.slow

RUN = (
    *("run", "--input-embeddings-path", "embeddings", "--clips-path", "clips"),
    *("--output-path", "output", "--n-clusters", "4", "--eps-to-extract", "0.01"),
)

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    write_part(tmp_path / "embeddings", near_duplicates())
    write_clips(tmp_path / "clips", clip_ids())
    for name in ("home", "output", "closed"):
        (tmp_path / name).mkdir()
    (tmp_path / "home/dagster.yaml").write_text(INSTANCE_YAML)
    yield tmp_path
    for path in (tmp_path, *tmp_path.rglob("*")):  # so that pytest can delete them
        if path.is_dir():
            path.chmod(0o755)


@pytest.fixture
def call(folder: Path) -> Call:
    """The command as a user to whom the modes of files apply, as they do not to root."""
    drop: list[str] = []
    if os.geteuid() == 0:
        drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"]
        (folder / "closed").chmod(0)
        tried = [*drop, sys.executable, "-c", f"import os; os.listdir({str(folder / 'closed')!r})"]
        try:
            done = subprocess.run(tried, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("root cannot give up its rights: there is no setpriv command")
        if "PermissionError" not in done.stderr:
            pytest.skip(f"root cannot give up its rights: {done.stderr.strip()}")

    def run(*arguments: str, home: bool = True) -> subprocess.CompletedProcess[str]:
        more = {"DAGSTER_HOME": str(folder / "home")} if home else {}
        return subprocess.run(
            [*drop, *COMMAND, *arguments],
            cwd=folder,
            env=clean_environment(**more),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return run


def fails_in_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


@pytest.mark.parametrize("home", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_an_output_that_may_not_be_written(
    call: Call, folder: Path, home: bool, there: bool
) -> None:
    if there:
        (folder / "output").chmod(0o555)
    else:
        (folder / "output").rmdir()
        folder.chmod(0o555)
    done = call(*RUN, home=home)
    fails_in_one_line(done, str(folder / "output"), "cannot be written (Permission denied)")
    assert "choose" in done.stderr
    assert not (folder / "output").exists() or list((folder / "output").iterdir()) == []


def test_a_finished_output_of_somebody_else(call: Call, folder: Path) -> None:
    assert call(*RUN).returncode == 0
    before = contents(folder / "output")
    for path in (folder / "output", *(folder / "output").rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = call(*RUN)
    fails_in_one_line(done, str(folder / "output"), "Permission denied")
    done = call("ui", "output", home=False)
    fails_in_one_line(done, str(folder / "output"), "Permission denied")
    assert contents(folder / "output") == before


def test_an_input_that_may_not_be_read(call: Call, folder: Path) -> None:
    for secret in (folder / "embeddings/part-0.parquet", folder / "embeddings"):
        secret.chmod(0)
        done = call(*RUN)
        secret.chmod(0o755)
        fails_in_one_line(done, str(folder / "embeddings"), "the right to it, and run again")
    assert not (folder / "output/extraction").exists()


def test_a_folder_within_the_input_that_may_not_be_read_is_not_left_out(
    call: Call, folder: Path
) -> None:
    """Its rows would be missing from the output, and nobody would hear of it."""
    write_part(folder / "embeddings/more", near_duplicates(seed=1), name="more.parquet")
    (folder / "embeddings/more").chmod(0)
    done = call(*RUN)
    fails_in_one_line(done, str(folder / "embeddings/more"), "the right to it, and run again")


def test_clips_that_may_not_be_read(call: Call, folder: Path) -> None:
    for secret in (folder / "clips" / f"{clip_ids()[0]}.mp4", folder / "clips"):
        secret.chmod(0)
        done = call(*RUN)
        secret.chmod(0o755)
        fails_in_one_line(done, str(folder / "clips"), "the right to it, and run again")
    assert not list((folder / "output").glob("shards/*/index.parquet"))


def test_a_zip_that_may_not_be_written(call: Call, folder: Path) -> None:
    (folder / "closed").chmod(0o555)
    done = call(*RUN, "--output-zip", "closed/results.zip")
    fails_in_one_line(done, str(folder / "closed/results.zip"), "cannot be written (Permission")
