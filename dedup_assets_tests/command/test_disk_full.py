"""A disk that is really full: one line, nothing half, and the same command goes on."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dedup_assets_tests.assets.helpers import INSTANCE_YAML, contents, near_duplicates, write_part
from dedup_assets_tests.command.conftest import Call, Outcome

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def run(call: Call, output: Path, *more: str) -> Outcome:
    flags = ("--output-path", str(output), "--n-clusters", "4", "--eps-to-extract", "0.01")
    return call("run", "--input-embeddings-path", "embeddings", *flags, *more)


def grow(folder: Path, kibibytes: int) -> None:
    options = f"remount,size={kibibytes}k"
    subprocess.run(["mount", "-o", options, str(folder)], check=True, capture_output=True)


def test_a_full_disk_at_every_stage(call: Call, tmp_path: Path, disk: Path) -> None:
    write_part(tmp_path / "embeddings", near_duplicates(rows=1500, dim=64))
    undisturbed = run(call, tmp_path / "elsewhere")
    assert undisturbed.code == 0, undisturbed.err
    failed_in = set()
    for size in range(400, 1600, 50):
        grow(disk, size)
        outcome = run(call, disk / "output")
        if outcome.code == 0:
            break
        assert "No space left on device" in outcome.err
        assert "free space there or choose another output_path, and run again" in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1
        failed_in.add(outcome.err.split(": ")[1])
    assert outcome.code == 0, outcome.err
    assert len(failed_in) >= 2
    left = {name: data for name, (_, data) in contents(disk / "output").items()}
    expected = {name: data for name, (_, data) in contents(tmp_path / "elsewhere").items()}
    machine_state = (".locks/", ".dagster/")
    for files in (left, expected):
        for name in [n for n in files if n.startswith(machine_state) or n == "settings.json"]:
            del files[name]
    assert left.keys() == expected.keys()
    assert [name for name in left if left[name] != expected[name]] == []


def test_no_room_for_temporary_files(
    call: Call, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output has room, so another output_path would be the wrong advice."""
    write_part(tmp_path / "embeddings", near_duplicates(rows=24_000, dim=256))
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    outcome = run(call, tmp_path / "output", "--memory-budget", "16MiB", "--missed-sample", "0")
    assert outcome.code == 1
    assert outcome.err == (
        "dedup-assets run: cluster_partitions: No space left on device for temporary files in "
        f"{disk}; free space there, or point TMPDIR to another folder, and run again\n"
    )
    assert list(disk.iterdir()) == []


def test_no_room_for_the_zip_leaves_the_one_that_was_there(
    call: Call, tmp_path: Path, disk: Path
) -> None:
    write_part(tmp_path / "embeddings", near_duplicates())
    path = disk / "results.zip"
    first = run(call, tmp_path / "output", "--output-zip", str(path))
    assert first.code == 0, first.err
    before = path.read_bytes()
    (disk / "more").write_bytes(bytes((400 << 10) - len(before) - (32 << 10)))
    outcome = run(call, tmp_path / "output", "--output-zip", str(path))
    assert outcome.code == 1
    assert f"{disk}/results.zip cannot be written (No space left on device)" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert sorted(p.name for p in disk.iterdir()) == ["more", "results.zip"]
    assert path.read_bytes() == before


def test_no_room_for_the_events(
    call: Call, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_part(tmp_path / "embeddings", near_duplicates())
    (disk / "dagster.yaml").write_text(INSTANCE_YAML)
    monkeypatch.setenv("DAGSTER_HOME", str(disk))
    outcome = run(call, tmp_path / "output")
    assert outcome.code == 1
    assert f"Dagster cannot write its events to {disk} (" in outcome.err
    assert "free space there, or set DAGSTER_HOME to another folder" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
