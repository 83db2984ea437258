"""Tasks done here and by Ray: what comes back, what is raised, and what is done again."""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest

from dedup_assets.engine import Engine, run_tasks, session, worker
from dedup_assets.errors import EngineError, InputError
from dedup_assets.settings import Settings
from dedup_assets.stages import machine
from dedup_assets_tests.engine.work import Noted, fall, note, refuse, stumble

pytestmark = pytest.mark.slow

LOCAL = Engine()


def done(engine: Engine, common: Noted, tasks: Any, work: Any = note) -> tuple[list[Any], int]:
    """Results, and units of progress."""
    progress: list[int] = []
    lists = run_tasks(engine, work, common, tasks, progress.append, weight=lambda task: 1)
    return [result for results in lists for result in results], sum(progress)


def times_done(folder: Path) -> Counter[int]:
    return Counter(int(path.name.split("-")[0]) for path in folder.iterdir())


def test_here_tasks_are_taken_as_they_are_done(tmp_path: Path):
    taken: list[int] = []
    tasks = (taken.append(n) or n for n in range(5))
    found = run_tasks(LOCAL, note, Noted(str(tmp_path)), tasks, lambda n: None, weight=int)
    assert next(found)[0][0] == 0
    assert taken == [0]
    assert [result for results in found for result, _ in results] == [1, 4, 9, 16]


@pytest.mark.parametrize("tasks", [0, 1, 60])
def test_ray_does_what_is_done_here(cluster: Any, tmp_path: Path, tasks: int):
    here, units = done(LOCAL, Noted(str(tmp_path)), range(tasks))
    engine = Engine("ray", cluster.address)
    there, units_there = done(engine, Noted(str(tmp_path)), iter(range(tasks)))
    assert sorted(n for n, _ in there) == [n for n, _ in here]
    assert units == units_there == tasks
    if tasks == 60:
        assert 1 <= len({process for _, process in there}) <= 4
    assert set(times_done(tmp_path).values()) <= {2}


def test_what_a_task_raises_is_raised_here(cluster: Any, tmp_path: Path):
    engine = Engine("ray", cluster.address)
    with pytest.raises(InputError, match=r"^task 0 is refused$") as refused:
        done(engine, Noted(str(tmp_path)), [0], refuse)
    assert type(refused.value) is InputError
    with pytest.raises(FileNotFoundError) as stumbled:
        done(engine, Noted(str(tmp_path)), [7], stumble)
    assert stumbled.value.filename == "/nowhere/7"


def test_others_end_when_one_fails(cluster: Any, tmp_path: Path):
    with pytest.raises(InputError), session(Engine("ray", cluster.address)):
        engine = Engine("ray", cluster.address)
        slow = run_tasks(
            engine, note, Noted(str(tmp_path), 0.2), range(40), lambda n: None, weight=int
        )
        next(slow)
        slow.close()
        count = len(list(tmp_path.iterdir()))
        time.sleep(1)
        assert len(list(tmp_path.iterdir())) == count < 40
        done(engine, Noted(str(tmp_path)), [0], refuse)


def test_the_tasks_of_a_lost_node_are_done_again(cluster: Any, tmp_path: Path):
    node = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    engine = Engine("ray", cluster.address)
    found = run_tasks(
        engine, note, Noted(str(tmp_path), 0.1), range(60), lambda n: None, weight=int
    )
    results = [result for result, _ in next(found)]
    cluster.remove_node(node, allow_graceful=False)
    results += [result for done_ in found for result, _ in done_]
    assert sorted(results) == [n * n for n in range(60)]
    times = times_done(tmp_path)
    assert set(times) == set(range(60))
    assert sum(times.values()) <= 60 + 2 * 2  # it had two processors, and as many results


def test_a_task_that_ends_its_process_is_given_up(cluster: Any, tmp_path: Path):
    with pytest.raises(EngineError, match=r"^Ray gave up: .*the same run goes on from here$"):
        done(Engine("ray", cluster.address), Noted(str(tmp_path)), [1], fall)


def test_a_cluster_of_its_own_is_gone_afterwards(tmp_path: Path):
    ray = pytest.importorskip("ray")
    with session(Engine("ray")):
        first, _ = done(Engine("ray"), Noted(str(tmp_path)), range(3))
        again, _ = done(Engine("ray"), Noted(str(tmp_path)), range(3))
        assert ray.is_initialized()
        assert sorted(n for n, _ in first) == sorted(n for n, _ in again) == [0, 1, 4]
        (node,) = ray.nodes()
        gcs = ray.get_runtime_context().gcs_address
        manager = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
        for address, method in (
            (gcs, "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"),
            (manager, "/ray.rpc.NodeManagerService/GetSystemConfig"),
        ):
            assert address.startswith("127.")
            assert without_token(address, method) == grpc.StatusCode.UNAUTHENTICATED
    assert not ray.is_initialized()


def without_token(address: str, method: str) -> Any:
    """What a server answers to a stranger."""
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(method)(b"", timeout=20)
        except grpc.RpcError as error:
            return error.code()


def test_without_ray_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"pip install 'dedup-assets\[ray\]'"):
        done(Engine("ray"), Noted(str(tmp_path)), [1])


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_an_address_where_nobody_answers(tmp_path: Path, address: str, capfd: Any):
    pytest.importorskip("ray")
    with pytest.raises(EngineError, match=f"^cannot use Ray at {address}: .*leave out address"):
        done(Engine("ray", address), Noted(str(tmp_path)), [1])


@pytest.mark.parametrize(
    ("options", "says"),
    [({"gpus": 1.0}, "task_gpus 1"), ({"cpus": 500.0}, "task_cpus 500"),
     ({"memory": 1 << 50}, "task_memory")],
)  # fmt: skip
def test_what_nobody_has_is_said_at_once(tmp_path: Path, options: Any, says: str):
    pytest.importorskip("ray")
    with pytest.raises(EngineError, match=f"no node of the Ray cluster has .*{says}"):
        done(Engine("ray", **options), Noted(str(tmp_path)), [1])


def test_a_full_object_store_is_one_line(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import ray
    from ray.exceptions import ObjectStoreFullError

    def full(value: Any) -> None:
        raise ObjectStoreFullError("no room\nat all")

    with session(Engine("ray", cluster.address)):
        monkeypatch.setattr(ray, "put", full)
        with pytest.raises(EngineError, match="Ray gave up: no room at all"):
            done(Engine("ray", cluster.address), Noted(str(tmp_path)), [1])


def test_workers_of_another_version_are_refused():
    with pytest.raises(EngineError, match=r"Ray workers have dedup-assets .*, and this is 0\.0"):
        worker.run_task("0.0", note, [None], 1, 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"address": "auto"}, "address goes with engine ray"),
        ({"task_cpus": 2}, "task_cpus goes with engine ray"),
        ({"task_gpus": 0.5}, "task_gpus goes with engine ray"),
        ({"task_memory": "1GiB"}, "task_memory goes with engine ray"),
        ({"ray_resource": "cluster"}, "ray_resource goes with engine ray"),
        ({"engine": "ray", "device": "cuda:1"}, "device cuda:1 goes with engine local"),
        ({"device": "cuda:x"}, "device"),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, options: Any, says: str):
    paths = {"input_embeddings_path": str(tmp_path), "output_path": str(tmp_path / "out")}
    with pytest.raises(ValueError, match=says):
        Settings.of(n_clusters=2, **paths, **options)


def test_tasks_that_share_a_gpu_share_its_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    paths = {"input_embeddings_path": str(tmp_path), "output_path": str(tmp_path / "out")}
    monkeypatch.setattr(machine, "resolve_device", lambda device: "cuda")
    monkeypatch.setattr(machine, "free_device_memory", lambda device: 1000)
    alone = Settings.of(n_clusters=2, **paths)
    shared = Settings.of(n_clusters=2, engine="ray", task_gpus=0.25, **paths)
    assert machine.compute_budget(alone) == 800
    assert machine.compute_budget(shared) == 200
