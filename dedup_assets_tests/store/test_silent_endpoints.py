"""An endpoint that stops answering: each request has a limit, and the last one is one line."""

from collections.abc import Callable, Iterator

import pytest

from dedup_assets.errors import StorageError
from dedup_assets.store import retry
from dedup_assets.store import s3 as objects
from dedup_assets.store.access import Access
from dedup_assets.store.filesystem import Store
from dedup_assets_tests.faults import Fault, FaultyProxy, faulty
from dedup_assets_tests.s3 import S3Server
from dedup_assets_tests.store.test_store_faults import (
    LARGE,
    delete,
    fill,
    list_names,
    look,
    read,
    read_ranges,
    upload,
    write,
)

Reach = Callable[[float, float], Store]

NEVER_S = 60.0
"""Longer than any test lasts; the threads of the proxy end with it."""


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultyProxy]:
    with faulty(s3.endpoint) as running:
        yield running


@pytest.fixture
def reach(s3: S3Server, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Reach:
    """A store through the proxy that tries twice, with limits for a pause and for a request."""
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(objects, "_PART_BYTES", 5 << 20)
    fill(s3)

    def made(pause_s: float, request_s: float) -> Store:
        options = {"config_kwargs": {"read_timeout": pause_s}}
        access = Access(endpoint_url=proxy.endpoint, retries=1, options=options)
        store = Store(s3.url("root"), access)
        assert store.objects is not None
        monkeypatch.setattr(store.objects, "_timeout_s", request_s)
        return store

    return made


def ends_in_one_line(act: Callable[[Store], None], store: Store, s3: S3Server) -> None:
    with pytest.raises(StorageError) as caught:
        act(store)
    message = str(caught.value)
    assert message.startswith(f"s3://{s3.bucket}/root")
    assert "tried 2 times in" in message
    assert "run again when the store answers" in message
    assert "\n" not in message


@pytest.mark.parametrize("act", [write, read, read_ranges, list_names, look, delete, upload])
def test_no_answer_at_all(
    s3: S3Server, proxy: FaultyProxy, reach: Reach, act: Callable[[Store], None]
):
    store = reach(0.2, NEVER_S)
    proxy.faults = [Fault("late", delay_s=NEVER_S)]
    ends_in_one_line(act, store, s3)


@pytest.mark.parametrize("act", [read, read_ranges, list_names])
def test_a_body_that_stops_half_way(
    s3: S3Server, proxy: FaultyProxy, reach: Reach, act: Callable[[Store], None]
):
    store = reach(0.2, NEVER_S)
    proxy.faults = [Fault("stalled", method="GET", delay_s=NEVER_S)]
    ends_in_one_line(act, store, s3)


@pytest.mark.parametrize("act", [read_ranges, list_names])
def test_a_body_that_never_pauses_long_and_never_ends(
    s3: S3Server, proxy: FaultyProxy, reach: Reach, act: Callable[[Store], None]
):
    """The limit for a pause does not see it; that for the whole request does."""
    store = reach(NEVER_S, 0.3)
    proxy.faults = [Fault("dripping", method="GET", delay_s=0.05)]
    ends_in_one_line(act, store, s3)


@pytest.mark.parametrize("act", [write, upload])
def test_a_body_that_nobody_takes(
    s3: S3Server, proxy: FaultyProxy, reach: Reach, act: Callable[[Store], None]
):
    store = reach(NEVER_S, 0.3)
    proxy.faults = [Fault("deaf", method="PUT", delay_s=NEVER_S)]
    ends_in_one_line(act, store, s3)
    assert s3.names() == ["root/large.bin", "root/old.bin"]


@pytest.mark.parametrize("kind", ["late", "stalled"])
def test_a_pause_that_passes_is_not_noticed(
    s3: S3Server, proxy: FaultyProxy, reach: Reach, kind: str
):
    store = reach(0.2, NEVER_S)
    proxy.faults = [Fault(kind, method="GET", delay_s=NEVER_S, times=1)]
    with store.open("large.bin") as file:
        assert file.read(1000) == LARGE[:1000]
    assert proxy.committed[kind] == 1


def test_what_is_tried_for_long_is_said_meanwhile(
    proxy: FaultyProxy,
    reach: Reach,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """Nine attempts of a minute each would pass without a word."""
    store = reach(0.2, NEVER_S)
    proxy.faults = [Fault("SlowDown", method="GET", times=1)]
    read(store)
    assert caplog.messages == []
    monkeypatch.setattr(retry, "_SILENCE_S", 0.0)
    proxy.faults = [Fault("stalled", method="GET", delay_s=NEVER_S, times=1)]
    read(store)
    (said,) = caplog.messages
    assert "old.bin: could not read it yet, its answer did not arrive in time; trying" in said
    assert said.endswith("trying again, 1 of 1 times")
