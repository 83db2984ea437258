"""Signals stop the command, whatever it is at; the same command then goes on."""

import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from dedup_assets_tests.command.helpers import COMMAND, clean_environment, command
from dedup_assets_tests.conftest import unit, write_inputs

pytestmark = pytest.mark.slow

FLAGS = ["run", "--input-embeddings-path", "in", "--output-path", "out"]
FLAGS += ["--n-clusters", "16", "--files-per-partition", "1"]


@pytest.mark.parametrize(
    ("sent", "once"),
    [
        (signal.SIGINT, "clustering_results/partitions/00.parquet"),
        (signal.SIGTERM, "extraction/semdedup_pruning_tables/cluster_0.parquet"),
        # A step of the pool "gpu" is killed here, while it holds its slot.
        (signal.SIGKILL, "clustering_results/partitions/00.parquet"),
    ],
)
def test_a_signal_stops_it(
    tmp_path: Path, rng: np.random.Generator, sent: signal.Signals, once: str
):
    x = unit(rng.normal(size=(6_000, 64))).astype(np.float32)
    write_inputs(tmp_path / "in", [f"clip-{i}" for i in range(len(x))], x, files=10)
    running = subprocess.Popen(
        [*COMMAND, *FLAGS],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "out" / once).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        running.send_signal(sent)
        out, err = running.communicate(timeout=30)
    finally:
        running.kill()
    if sent == signal.SIGKILL:
        assert running.returncode == -signal.SIGKILL
    else:
        assert (running.returncode, err.count("\n")) == (130, 1), out + err
        assert "the same command goes on" in err
    assert command(*FLAGS, cwd=tmp_path).returncode == 0
