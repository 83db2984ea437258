"""What surrounds the process: its standard output, its working directory, Python's warnings."""

import subprocess
import sys
from pathlib import Path

import pytest

from dedup_assets_tests.assets.helpers import near_duplicates, write_part
from dedup_assets_tests.command.conftest import Call
from dedup_assets_tests.command.helpers import COMMAND, clean_environment, command

pytestmark = pytest.mark.slow

RUN = ("run", "--input-embeddings-path", "in", "--output-path", "out", "--n-clusters", "2")


@pytest.mark.parametrize("unbuffered", ["1", ""])
@pytest.mark.parametrize("arguments", [RUN, ("--version",), ("spec", "--schema")])
def test_a_full_standard_output_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], unbuffered: str
):
    write_part(tmp_path / "in", near_duplicates())
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env=clean_environment(PYTHONUNBUFFERED=unbuffered),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "standard output cannot be written (No space left on device); free" in done.stderr


def test_a_closed_standard_output_stops_nothing(tmp_path: Path):
    write_part(tmp_path / "in", near_duplicates())
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *RUN],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_deleted_working_directory_is_one_line(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    outcome = call(*RUN)
    assert outcome.code == 1
    says = "the working directory does not exist any more; change to one that does"
    assert outcome.err == f"dedup-assets run: {says}\n"


def test_warnings_of_libraries_are_not_shown(tmp_path: Path):
    program = """
import sys, warnings
import dedup_assets.command.run
from dedup_assets.cli import main

def run_and_report(*_, **__):
    warnings.warn("of no use to a user")
    return 0

dedup_assets.command.run.run_and_report = run_and_report
sys.argv[1:] = sys.argv[2:]
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "dedup-assets", *RUN],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("port", ["\u0663\u0660", "0", "65536", "-1", "1_0"])
def test_a_port_is_a_number_in_ascii(tmp_path: Path, port: str):
    done = command("ui", "out", f"--port={port}", cwd=tmp_path)
    assert done.returncode == 2
    assert f"--port: must be a number from 1 to 65535, got {port!r}" in done.stderr
