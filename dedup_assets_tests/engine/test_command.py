"""``dedup-assets run --engine ray``: Ray is started once, for all steps."""

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dedup_assets.command.run import RunOptions, run_and_report
from dedup_assets.engine import ray as on_ray
from dedup_assets_tests.conftest import make_settings, write_inputs
from dedup_assets_tests.rows import unit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning:ray.*"),
]


def test_ray_is_started_once_for_all_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("DAGSTER_HOME", "")  # the command sets it
    started: list[str] = []
    connect = on_ray._connect

    def noted(*arguments: object) -> None:
        started.append("Ray")
        connect(*arguments)

    monkeypatch.setattr(on_ray, "_connect", noted)
    rows = unit(np.random.default_rng(1).normal(size=(60, 8)))
    write_inputs(tmp_path / "in", [f"clip-{n}" for n in range(60)], rows, files=3)
    settings = make_settings(tmp_path, n_clusters=3, engine="ray", eps_thresholds=["0.1", "0.2"])
    said = io.StringIO()
    console = Console(file=said, width=200)
    assert run_and_report(settings, console, RunOptions()) == 0
    assert started == ["Ray"]
    assert not ray.is_initialized()
    assert run_and_report(settings, console, RunOptions()) == 0  # nothing is to do
    assert started == ["Ray"]
