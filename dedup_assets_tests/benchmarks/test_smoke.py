"""Each benchmark runs to its end on little data, and says who could not take part."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import (
    dagster,
    fits,
    floors,
    gpu,
    gpu_end_to_end,
    increments,
    kmeans,
    pairwise,
    passes,
    scaling,
    searches,
    semhash,
    shuffle,
)
from benchmarks.dagster_table import IN_PROCESS
from benchmarks.increment_runs import EPS, FIRST, NOTHING
from dedup_assets.compute import cuda
from dedup_assets.stages import documented, verify
from dedup_assets_tests.compute.gpu.emulator import COMPILER, EmulatedBackend, compile_kernels

pytestmark = pytest.mark.slow

PEERS = ("torch", "faiss", "sklearn.cluster", "semhash")


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little memory, and no package of a peer's: the tests must pass without them."""
    monkeypatch.setattr(floors, "_COPY_BYTES_HOST", 1 << 16)
    monkeypatch.setattr(floors, "_COPY_BYTES_DEVICE", 1 << 16)
    monkeypatch.setattr(floors, "_TENSOR_SIDE", 64)
    without_peers = dict.fromkeys((fits, searches, semhash), _present)
    for module, present in without_peers.items():
        monkeypatch.setattr(module, "missing", present)


def _present(*modules: str) -> str | None:
    absent = [module for module in modules if module in PEERS]
    return f"{absent[0]} is left out of this test" if absent else None


def run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: ModuleType, *arguments: str
) -> dict[str, Any]:
    path = tmp_path / "results.json"
    command = [module.__name__, *arguments, "--dim", "16", "--rounds", "2", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", command)
    assert module.main() == 0
    return json.loads(path.read_text())


def test_pairwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    found = run(
        monkeypatch, tmp_path, pairwise, "--rows", "600", "--clusters", "3", "--device", "cpu"
    )
    (case,) = found["cases"]
    assert case["skipped"]["NeMo Curator's, torch"] == "torch is left out of this test"
    for name, search in case["searches"].items():
        if name.startswith("exact"):
            assert search["decisions"]["changed"] == 0
        assert len(search["seconds"]) == 2


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_pairwise_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """NumPy in the place of CuPy, and the kernels compiled for this processor."""
    library = compile_kernels(tmp_path)
    cupy = _NumPyAsCuPy("cupy")
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda, "CudaBackend", lambda: EmulatedBackend(library))
    monkeypatch.setattr(pairwise, "resolve_device", lambda device: "cuda")
    found = run(monkeypatch, tmp_path, pairwise, "--rows", "200", "--clusters", "2")
    (case,) = found["cases"]
    assert case["searches"]["exact"]["decisions"]["changed"] == 0
    assert "fast" in case["searches"]
    assert case["tensor_tflop_s"] > 0
    assert any("tensor cores" in target["name"] for target in found["targets"])


class _NumPyAsCuPy(ModuleType):
    cuda = SimpleNamespace(runtime=SimpleNamespace(deviceSynchronize=lambda: None))
    random = SimpleNamespace(
        standard_normal=lambda size, dtype: np.random.default_rng(0).standard_normal(
            size, dtype=dtype
        )
    )

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def test_kmeans(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    found = run(monkeypatch, tmp_path, kmeans, "--rows", "600", "--clusters", "5")
    assert found["skipped"]["faiss"] == "faiss is left out of this test"
    assert len(found["fits"]["dedup_assets"]["runs"]) == 2
    for one in found["fits"]["dedup_assets"]["runs"]:
        assert 0 < one["to_equal"] <= one["seconds"]


def test_kmeans_scaling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(scaling, "SIZES", 2)
    found = run(monkeypatch, tmp_path, kmeans, "--scaling", "--rows", "1000")
    assert [size["rows"] for size in found["sizes"]] == [2000, 4000]
    assert {size["iterations"] for size in found["sizes"]} == {scaling.ITERATIONS}


def test_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    sizes = ["--rows", "500", "--clusters", "5", "--queries", "30"]
    found = run(monkeypatch, tmp_path, passes, *sizes, "--device", "cpu")
    assert found["passes"].keys() == {
        "rows to centroids",
        "rows to the sample",
        "all pairs of one cluster, exact",
        "all pairs of one cluster, fast",
    }
    assert all(len(one["seconds"]) == 2 for one in found["passes"].values())


def test_parts_for_a_gpu_run_on_little_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """In processes of their own; a part that fails, or takes too long, loses no other."""
    late, absent = gpu.Part("late", ("benchmarks.passes",), 0), gpu.Part("absent", ("no_one",), 9)
    words = ("tests", "near-duplicates", "passes", "end to end, 1,")  # others are tested above
    parts = [part for part in gpu.PARTS if any(word in part.name for word in words)]
    monkeypatch.setattr(gpu, "PARTS", (late, absent, *parts))
    path = tmp_path / "results.json"
    monkeypatch.setattr(sys, "argv", ["gpu", "--small", "--device", "cpu", "--json", str(path)])
    assert gpu.main() == 1
    done = json.loads(path.read_text())["parts"]
    assert done.pop("late")["state"] == "out of time"
    assert (failed := done.pop("absent"))["state"] == "failed with 1"
    assert "No module named no_one" in failed["said"]
    assert {name: one["state"] for name, one in done.items()} == dict.fromkeys(done, "done")
    (scenes,) = done["search of near-duplicates"]["numbers"]["cases"]
    assert scenes["scene"] == 50
    assert done["end to end, 1,000,000 rows"]["numbers"]["gpu"] is None


def test_what_a_gpu_says_of_itself():
    lines = ["87, 1024\n", "13, 2048\n", "[N/A], 5\n", "5"]
    seen = [found for line in lines if (found := gpu_end_to_end.read_line(line))]
    assert gpu_end_to_end.summary(seen) == {"busy_percent": 50, "readings": 2, "most_mib": 2048}
    assert gpu_end_to_end.summary([]) is None


def test_semhash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    found = run(
        *(monkeypatch, tmp_path, semhash, "--rows", "600"),
        *("--clusters", "4", "1", "--centres", "2"),
    )
    (data,) = found["data"]
    assert data["skipped"] == {"SemHash": "semhash is left out of this test"}
    for name in ("dedup_assets, 4 clusters", "dedup_assets, 4 clusters, stages over Parquet"):
        assert 0.5 < data["runs"][name]["share_found"]["0.1"] <= 1
        assert data["runs"][name]["in_no_pair"] == {"0.01": 0, "0.1": 0}
    assert data["runs"]["dedup_assets, 1 cluster"]["share_found"] == {"0.01": 1, "0.1": 1}


def test_increments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without new rows, whose data `test_increments.py` looks at.

    The files that are opened are counted: ledgers once each in a run, and no file of a cluster but
    the lists that are written and a few that a check looks at.
    """
    keys, few = 30, 15
    path = tmp_path / "results.json"
    small = ["--rows", "600", "--dim", "8", "--clusters", str(keys), "--no-new-rows"]
    places = ["--work", str(tmp_path / "work"), "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["increments", *small, *places])
    assert increments.main() == 0
    summary = json.loads(path.read_text())["summary"]
    assert list(summary) == [FIRST, EPS, NOTHING]
    assert summary[FIRST]["share_of_first"] == 1
    assert summary[EPS]["new"] == {"lists": "30 of 30"}
    assert summary[EPS]["lists_written"] == keys
    sampled = 2 * documented.SAMPLED_CLUSTERS + 2 * verify.SAMPLED_CLUSTERS
    assert summary[EPS]["parquet_read"] <= 3 * keys + sampled + 2 * few
    assert summary[NOTHING]["parquet_written"] == 0
    assert 2 * keys < summary[NOTHING]["parquet_read"] <= 2 * keys + few
    assert not list((tmp_path / "work").iterdir())


def test_dagster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Without the multiprocess executor, whose runs take a process for each of a dozen steps."""
    monkeypatch.setattr(dagster, "LOADS", ((300, 1),))
    monkeypatch.setattr(dagster, "EXECUTORS", (IN_PROCESS,))
    monkeypatch.setattr(dagster, "WARM_UPS", 0)
    monkeypatch.setattr(dagster, "EPS_REGISTERED", 20)
    monkeypatch.setattr(dagster, "EPS_MADE", 1)
    path = tmp_path / "results.json"
    small = ["--rows", "300", "--dim", "8", "--clusters", "4", "--rounds", "1"]
    places = ["--work", str(tmp_path / "work"), "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["dagster", *small, *places])
    assert dagster.main() == 0
    found = json.loads(path.read_text())
    assert [load["rounds"][0]["keys"] for load in found["raw"]["loads"]] == [300]
    statuses = found["raw"]["statuses"]
    assert (statuses["one"]["numPartitions"], statuses["one"]["numMaterialized"]) == (1, 1)
    assert (statuses["many"]["numPartitions"], statuses["many"]["numMaterialized"]) == (20, 1)
    table = {line["what"]: line for line in found["table"]}
    eps = table[f"one more eps: {IN_PROCESS}"]
    assert eps["s"] >= eps["until_start_s"] + eps["in_steps_s"]
    assert eps["steps"] == 5, "the asset and its four checks"
    assert table[f"nothing to do: {IN_PROCESS}"]["steps"] > 5
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("module", ["pairwise", "kmeans"])
def test_runs_where_only_numpy_is_installed(module: str):
    """As on a GPU machine, where nothing but arrays is measured."""
    absent = ["dagster", "pydantic", "pyarrow", "rich", "fsspec", "matplotlib"]
    absent += ["torch", "faiss", "sklearn", "numkong", "cupy"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "import importlib.util as util; find = util.find_spec\n"
        f"util.find_spec = lambda name, *p: None if name in {absent!r} else find(name, *p)\n"
        "from benchmarks import floors; floors._COPY_BYTES_HOST = 1 << 16\n"
        f"from benchmarks.{module} import main; sys.exit(main())"
    )
    small = ["--rows", "300", "--clusters", "3", "--dim", "8", "--rounds", "1"]
    subprocess.run([sys.executable, "-c", code, *small], check=True, stdout=subprocess.DEVNULL)


def test_shuffle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In this process: what a benchmark measures is not looked at, only that it can be run."""

    def in_here(module: str, function: str, **arguments: Any) -> dict[str, Any]:
        returned = getattr(importlib.import_module(module), function)(**arguments)
        return {**returned, "peak_mib": 1.0}

    monkeypatch.setattr(shuffle, "in_child", in_here)
    path = tmp_path / "results.json"
    flags = {"rows": 2000, "dim": 16, "clusters": 5, "repeat": 1, "format-rows": 200, "json": path}
    given = [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
    monkeypatch.setattr(sys, "argv", ["benchmarks.shuffle", *given])
    assert shuffle.main() == 0
    document = json.loads(path.read_text())
    assert document["raw"]["runs"].keys() == shuffle.KINDS.keys()
