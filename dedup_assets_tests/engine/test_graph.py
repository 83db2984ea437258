"""The stages on a Ray cluster: the same final files, byte for byte, as in one process."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup_assets.engine import ray as on_ray
from dedup_assets.engine import session
from dedup_assets.settings import Settings
from dedup_assets.stages.machine import engine_of
from dedup_assets.stages.missed import estimate_missed
from dedup_assets.state.snapshot import Snapshot
from dedup_assets_tests.conftest import bytes_of, make_settings, run_stages, write_inputs
from dedup_assets_tests.rows import unit
from dedup_assets_tests.s3 import KEY, SECRET, S3Server

pytestmark = pytest.mark.slow

OPTIONS: dict[str, Any] = {
    "n_clusters": 12,
    "clusters_per_partition": 2,
    "files_per_partition": 1,
    "missed_sample": 60,
    "eps_thresholds": ["0.01"],
    "samples_per_shard": 50,
    "metadata_fields": ["height"],
}


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Six hundred rows in twelve files, with a clip each."""
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(600, 24))
    rows[300:] = rows[:300] + 0.02 * rng.normal(size=(300, 24))
    ids = [f"clip-{n:03d}" for n in range(600)]
    height = rng.integers(100, 2000, 600)
    write_inputs(tmp_path / "in", ids, unit(rows), files=12, height=height)
    clips = tmp_path / "clips"
    clips.mkdir()
    for id_ in ids:
        (clips / f"{id_}.mp4").write_bytes(id_.encode() * 20)
    return tmp_path


def settings_for(folder: Path, name: str, **options: Any) -> Settings:
    paths = {"output_path": str(folder / name), "clips_path": str(folder / "clips")}
    return make_settings(folder, **OPTIONS | paths | options)


def run(settings: Settings) -> None:
    """All stages; with Ray as one job, so that its workers are started once."""
    with session(engine_of(settings)):
        results = run_stages(settings)
        estimate_missed(Snapshot(settings, results.store))


def files_of(folder: Path) -> dict[str, bytes]:
    """All but what names an input by path or time."""
    return {name: data for name, data in bytes_of(folder).items() if "/.locks/" not in name}


@pytest.mark.parametrize("export", ["shards", "media"])
def test_the_same_bytes_as_in_one_process(cluster: Any, prepared: Path, export: str):
    run(settings_for(prepared, "here", export=export))
    run(settings_for(prepared, "there", export=export, engine="ray", address=cluster.address))
    assert files_of(prepared / "there") == files_of(prepared / "here")


def test_new_rows_are_brought_in_alike(cluster: Any, prepared: Path):
    last = sorted((prepared / "in").iterdir())[-1]
    last.rename(prepared / "later.parquet")
    there = settings_for(prepared, "there", engine="ray", address=cluster.address)
    run(settings_for(prepared, "here"))
    run(there)
    (prepared / "later.parquet").rename(last)
    run(settings_for(prepared, "here"))
    run(there)
    assert files_of(prepared / "there") == files_of(prepared / "here")


@pytest.mark.parametrize("stage", ["shuffle_groups", "_score_keys"])
def test_a_node_is_lost_in_the_middle(
    cluster: Any, prepared: Path, monkeypatch: pytest.MonkeyPatch, stage: str
):
    lost: list[str] = []
    real = on_ray._Run.results

    def losing(self: Any, work: Any, *rest: Any) -> Any:
        if work.__name__ != stage or lost:
            yield from real(self, work, *rest)
            return
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        found = real(self, work, *rest)
        yield next(found)
        lost.append(stage)
        cluster.remove_node(node, allow_graceful=False)
        yield from found

    monkeypatch.setattr(on_ray._Run, "results", losing)
    run(settings_for(prepared, "there", engine="ray", address=cluster.address))
    assert lost == [stage]
    run(settings_for(prepared, "here"))
    assert files_of(prepared / "there") == files_of(prepared / "here")


def test_the_same_objects_on_s3(cluster: Any, prepared: Path, s3: S3Server):
    """The workers know the server and its credentials by the settings alone."""
    for path in sorted((prepared / "in").iterdir()):
        s3.put(f"in/{path.name}", path.read_bytes())
    for path in sorted((prepared / "clips").iterdir())[:100]:
        s3.put(f"clips/{path.name}", path.read_bytes())
    access = {"key": KEY, "secret": SECRET, "client_kwargs": {"region_name": "us-east-1"}}
    both = {
        "input_embeddings_path": s3.url("in"),
        "clips_path": s3.url("clips"),
        "missing_media": "skip",
        **{f"{side}_storage_options": access for side in ("input", "output")},
        **{f"{side}_s3_endpoint_url": s3.endpoint for side in ("input", "output")},
    }
    run(settings_for(prepared, "x", **both, output_path=s3.url("here")))
    there = settings_for(prepared, "x", **both, output_path=s3.url("there"), engine="ray",
                         address=cluster.address)  # fmt: skip
    run(there)
    names = [name.removeprefix("here/") for name in s3.names("here/")]
    assert [name.removeprefix("there/") for name in s3.names("there/")] == names
    assert len(names) > 100
    for name in names:
        assert s3.get(f"there/{name}") == s3.get(f"here/{name}"), name
    logs = Path(cluster.head_node.get_logs_dir_path())
    assert any(logs.rglob("*.log"))
    for log in logs.rglob("*"):
        if log.is_file():
            assert SECRET.encode() not in log.read_bytes(), log
