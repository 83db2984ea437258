"""Two runs do not write, or read while it is written, the same artifact."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dedup_assets.errors import LockedError
from dedup_assets.store import locks
from dedup_assets.store.filesystem import Store
from dedup_assets.store.locks import FOLDER, WHOLE, Lease, writing


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


def lease_files(store: Store) -> list[Path]:
    return sorted(Path(store.path(FOLDER)).glob("*.json"))


def put_lease(store: Store, **changes: Any) -> Path:
    """A lease of another run on key 0-1 of scores, as its process would have left it."""
    now = time.time()
    values: dict[str, Any] = {
        "asset": "scores",
        "keys": ["0-1"],
        "run": "other-run",
        "host": "elsewhere",
        "process": 7,
        "since": now - 100,
        "expires": now + 1000,
    }
    path = Path(store.path(f"{FOLDER}/other.json"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(Lease(**values | changes))))
    return path


def take(store: Store, asset: str, keys: list[str], reads: dict[str, list[str]] | None = None):
    return writing(store, asset, keys, reads=reads or {}, run="mine")


def test_lease_is_there_during_the_block_and_gone_after_it(store: Store):
    with take(store, "scores", ["0-1"]):
        (file,) = lease_files(store)
        lease = Lease(**json.loads(file.read_text()))
        assert (lease.asset, lease.keys, lease.run) == ("scores", ["0-1"], "mine")
        assert (lease.host, lease.process) == (socket.gethostname(), os.getpid())
        assert lease.is_live()
    assert lease_files(store) == []
    with pytest.raises(ValueError, match="stop"), take(store, "scores", ["0-1"]):
        raise ValueError("stop")
    assert lease_files(store) == []


@pytest.mark.parametrize(
    ("asset", "keys", "reads"),
    [
        ("scores", ["0-1"], {}),
        ("scores", ["2-3", "0-1"], {}),
        ("scores", [WHOLE], {}),
        ("histogram", [WHOLE], {"scores": [WHOLE]}),
        ("histogram", [WHOLE], {"scores": ["0-1"]}),
    ],
)
def test_what_another_run_writes_is_refused_with_run_host_and_time(
    store: Store, asset: str, keys: list[str], reads: dict[str, list[str]]
):
    put_lease(store, since=0.0)
    says = (
        r"scores.* is being written by run other-run on elsewhere \(process 7\) since "
        r"1970-01-01T00:00:00\+00:00; wait"
    )
    with pytest.raises(LockedError, match=says), take(store, asset, keys, reads):
        raise AssertionError("the block must not run")
    assert len(lease_files(store)) == 1


@pytest.mark.parametrize(
    ("asset", "keys", "reads"),
    [
        ("scores", ["2-3"], {}),
        ("duplicates", ["0-1"], {}),
        ("duplicates", ["0.1"], {"scores": ["2-3"]}),
    ],
)
def test_other_keys_and_other_assets_go_on_side_by_side(
    store: Store, asset: str, keys: list[str], reads: dict[str, list[str]]
):
    put_lease(store)
    with take(store, asset, keys, reads):
        assert len(lease_files(store)) == 2


def test_a_lease_on_the_whole_asset_covers_every_key(store: Store):
    put_lease(store, keys=[WHOLE])
    with pytest.raises(LockedError, match="scores of 5-6 is being"), take(store, "scores", ["5-6"]):
        pass


def test_an_expired_lease_is_taken_over(store: Store):
    put_lease(store, expires=time.time() - 1)
    with take(store, "scores", ["0-1"]):
        assert len(lease_files(store)) == 1


def test_a_lease_of_a_dead_process_of_this_host_is_taken_over(store: Store):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    put_lease(store, host=socket.gethostname(), process=process.pid)
    with take(store, "scores", ["0-1"]):
        assert len(lease_files(store)) == 1


def test_a_lost_lease_fails_the_run_at_its_end(store: Store):
    lost = "the lease on scores was lost: .* for 60 s and another run took over"
    with pytest.raises(LockedError, match=lost), take(store, "scores", ["0-1"]):
        lease_files(store)[0].unlink()


def test_holder_renews_its_lease_until_it_is_done(store: Store, monkeypatch: pytest.MonkeyPatch):
    renewed = threading.Event()
    write = locks._write
    first: list[Lease] = []

    def seen(file: Path, lease: Lease) -> None:
        write(file, lease)
        if first and lease.expires > first[0].expires:
            renewed.set()
        first.append(lease)

    monkeypatch.setattr(locks, "_write", seen)
    with writing(store, "scores", ["0"], reads={}, run="mine", lease_s=0.03):
        assert renewed.wait(30)
        assert first[-1].since == first[0].since
    count = len(first)
    assert lease_files(store) == []
    assert len(first) == count


def test_remote_stores_hold_nothing():
    remote = Store("memory://locks")
    with take(remote, "scores", ["0"]), take(remote, "scores", ["0"]):
        assert remote.list("") == []
