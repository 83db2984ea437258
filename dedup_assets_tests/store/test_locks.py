"""Two runs do not write, or read while it is written, the same artifact."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dedup_assets.errors import LockedError, StorageError
from dedup_assets.store import locks
from dedup_assets.store.access import Access
from dedup_assets.store.filesystem import Store
from dedup_assets.store.locks import COMMAND, FILE, WHOLE, Lease, this_machine, writing
from dedup_assets_tests.faults import Fault, faulty
from dedup_assets_tests.s3 import S3Server


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path))
    server: S3Server = request.getfixturevalue("s3")
    return Store(server.url("output"))


def leases(store: Store) -> dict[str, Lease]:
    try:
        found = json.loads(store.read_bytes(FILE))
    except FileNotFoundError:
        return {}
    return {name: Lease(**values) for name, values in found.items()}


def lease_values() -> dict[str, Any]:
    """A lease of another run on key 0-1 of scores, as its process would have left it."""
    now = time.time()
    return {
        "asset": "scores",
        "keys": ["0-1"],
        "run": "other-run",
        "host": "elsewhere",
        "machine": "another",
        "process": 7,
        "since": now - 100,
        "expires": now + 1000,
        "reads": {},
    }


def put_lease(store: Store, **changes: Any) -> None:
    values = {**lease_values(), **changes}
    store.write_bytes(FILE, json.dumps({"other": asdict(Lease(**values))}).encode())


def take(store: Store, asset: str, keys: list[str], reads: dict[str, list[str]] | None = None):
    return writing(store, asset, keys, reads=reads or {}, run="mine")


def test_lease_is_there_during_the_block_and_gone_after_it(store: Store):
    with take(store, "scores", ["0-1"]):
        (lease,) = leases(store).values()
        assert (lease.asset, lease.keys, lease.run) == ("scores", ["0-1"], "mine")
        assert (lease.host, lease.process) == (socket.gethostname(), os.getpid())
        assert lease.is_live()
    assert leases(store) == {}
    with pytest.raises(ValueError, match="stop"), take(store, "scores", ["0-1"]):
        raise ValueError("stop")
    assert leases(store) == {}


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
    assert len(leases(store)) == 1


@pytest.mark.parametrize(
    ("asset", "keys", "named"),
    [
        ("partitions", ["0-1"], "partitions of 0-1"),
        ("partitions", ["2-3", "0-1"], "partitions of 0-1"),
        ("partitions", [WHOLE], "partitions of 0-1"),
        ("centroids", [WHOLE], "centroids"),
        ("centroids", ["0-1"], "centroids of 0-1"),
    ],
)
def test_what_another_run_reads_is_not_written_meanwhile(
    store: Store, asset: str, keys: list[str], named: str
):
    """The one that works would find other content than it began with, and fail."""
    put_lease(store, reads={"partitions": ["0-1"], "centroids": [WHOLE]})
    says = rf"^{named} is being read by run other-run on elsewhere \(process 7\) since .*; wait"
    with pytest.raises(LockedError, match=says), take(store, asset, keys):
        raise AssertionError("the block must not run")
    assert len(leases(store)) == 1


def test_any_number_may_read_the_same(store: Store):
    put_lease(store, reads={"partitions": [WHOLE]})
    with take(store, "histogram", [WHOLE], {"partitions": [WHOLE]}):
        assert len(leases(store)) == 2


def test_of_two_commands_on_an_output_the_later_one_is_refused(store: Store):
    put_lease(store, asset=COMMAND, keys=[WHOLE], run="")
    says = rf"^{re.escape(store.url())} is being written by a dedup-assets command on elsewhere "
    with pytest.raises(LockedError, match=says), take(store, COMMAND, [WHOLE]):
        raise AssertionError("the block must not run")
    with take(store, "histogram", [WHOLE]):
        assert len(leases(store)) == 2


@pytest.mark.parametrize(
    "data",
    [
        *(b"{bad", b"\xff\xfe", b"[]", b"7", b'{"a": {}}', b'{"a": []}', b"[" * 100_000),
        *(b"{" + b" " * (16 << 20) + b"}",),
        *(
            json.dumps({"a": {**lease_values(), **wrong}}).encode()
            for wrong in (
                *({"process": 10**30}, {"process": 0}, {"process": "7"}, {"since": 1e300}),
                *({"expires": float("nan")}, {"since": None}, {"keys": "0-1"}, {"reads": ["0"]}),
            )
        ),
    ],
    ids=range(16),
)
def test_a_damaged_file_is_one_line_that_names_it(store: Store, data: bytes):
    store.write_bytes(FILE, data)
    says = rf"^{re.escape(store.url(FILE))} is damaged \(.*\); .*: delete it when none is, and run"
    with pytest.raises(StorageError, match=says) as raised, take(store, "scores", ["0-1"]):
        raise AssertionError("the block must not run")
    assert len(str(raised.value)) < 500
    assert store.read_bytes(FILE) == data


def test_a_file_damaged_meanwhile_does_not_hide_what_went_wrong(store: Store):
    with pytest.raises(ValueError, match="stop"), take(store, "scores", ["0-1"]):
        store.write_bytes(FILE, b"{bad")
        raise ValueError("stop")


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
        assert len(leases(store)) == 2


def test_a_lease_on_the_whole_asset_covers_every_key(store: Store):
    put_lease(store, keys=[WHOLE])
    with pytest.raises(LockedError, match="scores of 5-6 is being"), take(store, "scores", ["5-6"]):
        pass


def test_an_empty_file_holds_no_lease(store: Store):
    store.write_bytes(FILE, b"")
    with take(store, "scores", ["0-1"]):
        assert len(leases(store)) == 1


def test_an_expired_lease_is_taken_over(store: Store):
    put_lease(store, expires=time.time() - 1)
    with take(store, "scores", ["0-1"]):
        assert len(leases(store)) == 1


def test_a_lease_of_a_dead_process_of_this_host_is_taken_over(store: Store):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    put_lease(store, machine=this_machine(), process=process.pid)
    with take(store, "scores", ["0-1"]):
        assert len(leases(store)) == 1


def test_a_lost_lease_fails_the_run_at_its_end(store: Store):
    lost = "the lease on scores was lost: .* for 60 s and another run took over"
    with pytest.raises(LockedError, match=lost), take(store, "scores", ["0-1"]):
        store.write_bytes(FILE, b"{}")


def test_a_lease_is_held_by_its_process_until_it_is_written_that_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another thread that looks just before would take it over, and the run would fail."""
    store = Store(str(tmp_path))
    change = locks._change

    def slowly(*arguments: Any) -> bool:
        with take(store, "histogram", [WHOLE]):
            pass
        return change(*arguments)

    with take(store, "scores", ["0-1"]):
        plain = iter([slowly])
        monkeypatch.setattr(locks, "_change", lambda *args: next(plain, change)(*args))
    assert leases(store) == {}


def test_a_dead_number_of_another_host_says_nothing(store: Store):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    put_lease(store, host=socket.gethostname(), machine="a container", process=process.pid)
    with pytest.raises(LockedError), take(store, "scores", ["0-1"]):
        pass


def test_holder_renews_its_lease_until_it_is_done(store: Store):
    with writing(store, "scores", ["0"], reads={}, run="mine", lease_s=1.5):
        (first,) = leases(store).values()
        until = time.monotonic() + 30
        while next(iter(leases(store).values())).expires == first.expires:
            assert time.monotonic() < until
        (renewed,) = leases(store).values()
        assert renewed.since == first.since
    assert leases(store) == {}


def test_of_many_at_once_one_holds_each_key(store: Store):
    """Twelve threads want one of three keys; who is refused tries again."""
    inside = [threading.Lock() for _ in range(3)]
    refused = []

    def run(number: int) -> None:
        key = number % 3
        for _ in range(1000):
            try:
                with take(store, "scores", [str(key)]):
                    assert inside[key].acquire(blocking=False)
                    time.sleep(0.002)
                    inside[key].release()
                    return
            except LockedError:
                refused.append(number)
                time.sleep(0.01)
        raise AssertionError(f"{number} was never let in")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(run, range(12)))
    assert refused
    assert leases(store) == {}


def test_a_store_that_hangs_does_not_cost_the_lease(s3: S3Server, monkeypatch: pytest.MonkeyPatch):
    """Requests of a renewal are given up in time for the next one."""
    monkeypatch.setattr("dedup_assets.store.retry._FIRST_WAIT_S", 0.01)
    with faulty(s3.endpoint) as proxy:
        store = Store(s3.url("output"), Access(endpoint_url=proxy.endpoint))
        with writing(store, "scores", ["0"], reads={}, run="mine", lease_s=3.0):
            (first,) = leases(store).values()
            proxy.faults = [Fault("late", path="leases.json", times=2, delay_s=30.0)]
            until = time.monotonic() + 30
            while proxy.committed["late"] < 2:
                assert time.monotonic() < until
                time.sleep(0.05)
            renewed = first
            while renewed.expires == first.expires:
                assert time.monotonic() < until
                (renewed,) = leases(Store(s3.url("output"))).values()
        assert leases(store) == {}
