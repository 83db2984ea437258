"""Several commands started at once on one output: one works, the others are refused in one line."""

import random
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from dedup_assets_tests.assets.helpers import clip_ids, contents, near_duplicates, write_part
from dedup_assets_tests.command.helpers import COMMAND, clean_environment, command

pytestmark = pytest.mark.slow

SETTINGS = (
    ("--n-clusters", "6", "--eps-thresholds", "0.05"),
    ("--n-clusters", "4", "--eps-thresholds", "0.05", "--which-to-keep", "easy"),
    ("--n-clusters", "6", "--eps-to-extract", "0.001"),
    ("--n-clusters", "9", "--eps-to-extract", "0.05", "--random-state", "7"),
)
ROWS = 2000


@dataclass(frozen=True)
class Ended:
    settings: int
    code: int
    err: str
    at: float


def arguments(settings: int, output: str) -> list[str]:
    return ["run", "--input-embeddings-path", "in", "--output-path", output, *SETTINGS[settings]]


def start_all(root: Path, output: str, waits: list[float]) -> list[Ended]:
    """Run the command with each of the settings, begun after a wait each, in order of their end."""
    began = time.monotonic()
    waiting = dict(enumerate(waits))
    running: dict[int, subprocess.Popen[str]] = {}
    ended: list[Ended] = []
    while len(ended) < len(waits):
        for settings in [s for s, wait in waiting.items() if time.monotonic() - began >= wait]:
            del waiting[settings]
            running[settings] = subprocess.Popen(
                [*COMMAND, *arguments(settings, output)],
                cwd=root,
                env=clean_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        for settings in [s for s, process in running.items() if process.poll() is not None]:
            process = running.pop(settings)
            assert process.stderr is not None
            err = process.stderr.read()
            process.stderr.close()
            ended.append(Ended(settings, process.returncode, err, time.monotonic()))
        assert time.monotonic() - began < 120
        time.sleep(0.01)
    return ended


def files(output: Path) -> dict[str, bytes]:
    """All results; ``defs.yaml`` alone holds the path of the output."""
    return {name: data for name, (_, data) in contents(output).items() if name != "settings.json"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The input, and an undisturbed run with each of the settings."""
    root = tmp_path_factory.mktemp("at-once")
    write_part(root / "in", near_duplicates(ROWS, dim=32), clip_ids(ROWS))
    for settings in range(len(SETTINGS)):
        done = command(*arguments(settings, f"undisturbed-{settings}"), cwd=root)
        assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize("seed", range(2))
def test_the_one_that_works_ends_as_if_undisturbed_and_the_others_are_refused(
    root: Path, seed: int
) -> None:
    """At the first seed all begin together; then each begins somewhere in the work of another."""
    draw = random.Random(seed)
    waits = [draw.uniform(0, 2.0) * bool(seed) for _ in SETTINGS]
    output = f"output-{seed}"
    ended = start_all(root, output, waits)
    for one in ended:
        if one.code:
            refused = f"{root / output} is being written by a dedup-assets command on "
            assert one.err.startswith(f"dedup-assets run: {refused}"), one.err
            assert one.err.count("\n") == 1
    done = [one.settings for one in ended if one.code == 0]
    assert done
    assert different(root, output, done[-1]) == []
    again = command(*arguments(seed, output), cwd=root)
    assert again.returncode == 0, again.stderr
    assert different(root, output, seed) == []


def different(root: Path, output: str, settings: int) -> list[str]:
    """Names of the results that differ from those of an undisturbed run."""
    found, expected = files(root / output), files(root / f"undisturbed-{settings}")
    return [name for name, data in expected.items() if found.get(name) != data]
