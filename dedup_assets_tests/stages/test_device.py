"""The stages on a GPU, with arrays that follow the rules of CuPy and kernels run on the CPU."""

from pathlib import Path

import numpy as np
import pytest

from dedup_assets.compute import arrays, cuda
from dedup_assets.settings import Settings
from dedup_assets.stages.machine import compute_budget
from dedup_assets.stages.score_batches import most_rows
from dedup_assets.store import layout
from dedup_assets_tests.compute.gpu.emulator import COMPILER, EmulatedBackend, compile_kernels
from dedup_assets_tests.compute.gpu.strict import FREE_BYTES, strict_cupy
from dedup_assets_tests.conftest import Results, bytes_of, make_settings, run_stages, write_inputs
from dedup_assets_tests.stages.conftest import put_centroids


def artifacts(results: Results) -> dict[str, bytes]:
    """Fragments and pruning tables."""
    root = Path(results.settings.storage.output_path)
    return bytes_of(root / layout.CLUSTERS) | bytes_of(root / layout.SCORES)


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_a_device_writes_the_bytes_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mixed: np.ndarray, names: list[str]
):
    write_inputs(tmp_path / "in", names, mixed, files=3)

    def settings(device: str) -> Settings:
        return make_settings(
            tmp_path, output_path=str(tmp_path / device), device=device, n_clusters=5
        )

    host = run_stages(settings("cpu"), curate=False)
    emulated = EmulatedBackend(compile_kernels(tmp_path), strict_cupy(monkeypatch))
    monkeypatch.setattr(cuda, "CudaBackend", lambda: emulated)
    monkeypatch.setattr(arrays, "_missing_for_cuda", lambda: None)
    fitted = run_stages(settings("cuda"), curate=False)
    assert fitted.centroids.info["inertia"] == pytest.approx(host.centroids.info["inertia"])
    # The last digits of a mean may differ, and with them what follows.
    put_centroids(settings("cuda"), host.centroids.values)
    device = run_stages(settings("cuda"), curate=False)
    assert {"add_rows", "screen", "rescore", "widen"} <= set(emulated.launches)
    assert artifacts(device) == artifacts(host)


def test_on_a_device_work_is_sized_by_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict_cupy(monkeypatch)
    monkeypatch.setattr(arrays, "_missing_for_cuda", lambda: None)
    host = make_settings(tmp_path, device="cpu", n_clusters=2, memory_budget=64 << 20)
    assert compute_budget(host) == 64 << 20
    assert most_rows(host, 768) == (8 << 20) // (4 * 768)
    device = host.replace(device="cuda", device_memory_fraction=0.5)
    assert compute_budget(device) == FREE_BYTES // 2
    assert most_rows(device, 768) == FREE_BYTES // 4 // (12 * 768 + 200)
    assert most_rows(device, 1) == 1 << 19
