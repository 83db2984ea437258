"""Faults of S3: what passes is tried again, what does not ends in one line; nothing is half."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from dedup_assets.errors import StorageError
from dedup_assets.store import retry
from dedup_assets.store import s3 as objects
from dedup_assets.store.access import Access
from dedup_assets.store.filesystem import Store
from dedup_assets.store.locks import FILE, writing
from dedup_assets_tests.faults import Fault, FaultyProxy, answering, faulty
from dedup_assets_tests.s3 import S3Server

PASSING = ["InternalError", "SlowDown", "reset", "late", "truncated"]
LARGE = np.random.default_rng(0).bytes(11 << 20)


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultyProxy]:
    with faulty(s3.endpoint) as running:
        yield running


@pytest.fixture
def store(s3: S3Server, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Goes through the proxy, tries again three times and hardly waits."""
    monkeypatch.setattr(retry, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(objects, "_PART_BYTES", 5 << 20)  # the least that S3 allows
    return reach(s3, proxy, 30)


def reach(s3: S3Server, proxy: FaultyProxy, read_timeout_s: float) -> Store:
    options = {"config_kwargs": {"read_timeout": read_timeout_s}}
    return Store(s3.url("root"), Access(endpoint_url=proxy.endpoint, retries=3, options=options))


def write(store: Store) -> None:
    store.write_bytes("new.bin", b"content")


def read(store: Store) -> None:
    assert store.read_bytes("old.bin") == b"old content"


def read_ranges(store: Store) -> None:
    with store.open("large.bin") as file:
        for start in (0, 5 << 20, 10 << 20, 7):
            file.seek(start)
            assert file.read(1000) == LARGE[start : start + 1000]
        file.seek(1)
        assert file.read(9 << 20) == LARGE[1 : 1 + (9 << 20)]


def list_names(store: Store) -> None:
    assert store.list("") == ["large.bin", "old.bin"]


def look(store: Store) -> None:
    assert store.exists("old.bin")
    assert not store.exists("absent.bin")
    assert store.size("old.bin") == len(b"old content")


def delete(store: Store) -> None:
    store.delete("old.bin")


def upload(store: Store) -> None:
    with store.write("uploaded.bin") as file:
        file.write(LARGE)


ACTIONS: list[Callable[[Store], None]] = [
    *(write, read, read_ranges, list_names, look, delete, upload)
]


def fill(s3: S3Server) -> None:
    s3.put("root/old.bin", b"old content")
    s3.put("root/large.bin", LARGE)


@pytest.mark.parametrize(("kind", "act"), list(itertools.product(PASSING, ACTIONS)))
def test_what_passes_is_not_noticed(
    s3: S3Server, store: Store, proxy: FaultyProxy, kind: str, act: Callable[[Store], None]
):
    fill(s3)
    if kind == "late":
        store = reach(s3, proxy, 0.5)
    times = 1 if kind == "late" else 2
    method = "GET" if kind == "truncated" else ".*"
    proxy.faults = [Fault(kind, method=method, times=times)]
    act(store)
    if kind == "truncated":  # an upload looks for abandoned ones, and does not insist
        times = {read: 2, read_ranges: 2, list_names: 2, upload: 1}.get(act, 0)
    assert proxy.committed[kind] == times
    if act is upload:
        assert s3.get("root/uploaded.bin") == LARGE
    if act is write:
        assert s3.get("root/new.bin") == b"content"
    if act is delete:
        assert s3.names() == ["root/large.bin"]


def test_a_lost_answer_of_the_last_request_of_an_upload(
    s3: S3Server, store: Store, proxy: FaultyProxy
):
    proxy.faults = [Fault("lost", method="POST", path="uploadId", times=1)]
    upload(store)
    assert proxy.committed["lost"] == 1
    assert s3.get("root/uploaded.bin") == LARGE


@pytest.mark.parametrize("act", [write, delete, upload])
def test_a_lost_answer_is_asked_for_again(
    s3: S3Server, store: Store, proxy: FaultyProxy, act: Callable[[Store], None]
):
    """Done, but the answer never arrives: the same again does no harm."""
    fill(s3)
    proxy.faults = [Fault("lost", method="PUT|DELETE", times=2)]
    act(store)
    assert proxy.committed["lost"] == 2
    if act is upload:
        assert s3.get("root/uploaded.bin") == LARGE


def test_a_lease_is_given_up_although_the_answer_is_lost(
    s3: S3Server, store: Store, proxy: FaultyProxy
):
    """The write is repeated, finds the lease gone, and is not to be taken for one that was lost."""
    with writing(store, "scores", ["0"], reads={}, run="mine"):
        proxy.faults = [Fault("lost", method="PUT", path="leases", times=1)]
    assert proxy.committed["lost"] == 1
    assert s3.get(f"root/{FILE}") == b"{}"


def test_of_an_empty_object_size_and_etag_are_known(s3: S3Server, store: Store, proxy: FaultyProxy):
    """S3 refuses any range of one; a conditional write that replaces it needs its ETag."""
    s3.put("root/empty", b"")
    etag = s3.client().head_object(Bucket=s3.bucket, Key="root/empty")["ETag"]
    proxy.faults = [Fault("InvalidRange", method="GET", times=2)]
    assert store.objects is not None
    found = store.objects.read(store.path("empty"), 0, 10)
    assert (found.data, found.size, found.etag) == (b"", 0, etag)
    assert store.read_bytes("empty") == b""
    assert proxy.committed["InvalidRange"] == 2


@pytest.mark.parametrize(("kind", "act"), list(itertools.product(["SlowDown", "reset"], ACTIONS)))
def test_what_lasts_ends_in_one_line_that_names_the_object(
    s3: S3Server, store: Store, proxy: FaultyProxy, kind: str, act: Callable[[Store], None]
):
    fill(s3)
    before = s3.names()
    proxy.faults = [Fault(kind)]
    with pytest.raises(StorageError) as caught:
        act(store)
    message = str(caught.value)
    assert message.startswith(f"s3://{s3.bucket}/root")
    assert "tried 4 times in" in message
    assert "storage_retries" in message
    if kind == "SlowDown" and act not in (look,):
        assert "503 SlowDown" in message
    assert "\n" not in message
    assert len(proxy.requests) <= 4 * 2  # the abort of an upload is tried again as well
    assert s3.names() == before


def test_a_failed_upload_leaves_no_object(s3: S3Server, store: Store, proxy: FaultyProxy):
    proxy.faults = [Fault("SlowDown", method="PUT", path="partNumber=3")]
    with pytest.raises(StorageError, match=r"uploaded\.bin: could not write it, .*SlowDown"):
        upload(store)
    assert s3.names() == []
    assert not s3.client().list_multipart_uploads(Bucket=s3.bucket).get("Uploads")


def test_a_retry_limit_of_zero_tries_once(s3: S3Server, proxy: FaultyProxy):
    store = Store(s3.url("root"), Access(endpoint_url=proxy.endpoint, retries=0))
    proxy.faults = [Fault("SlowDown")]
    with pytest.raises(StorageError, match="tried 1 time in"):
        write(store)
    assert len(proxy.requests) == 1


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("AccessDenied", "not allowed to read it .*AccessDenied.*; give the credentials that"),
        ("ExpiredToken", "the session token of the credentials has expired; get new credentials"),
        ("InvalidAccessKeyId", "does not accept the credentials .*; check the key"),
        ("NotImplemented", "could not read it, the store answered 501 NotImplemented"),
    ],
)
def test_what_no_retry_mends_is_said_at_once(
    s3: S3Server, store: Store, proxy: FaultyProxy, kind: str, says: str
):
    fill(s3)
    proxy.faults = [Fault(kind)]
    with pytest.raises(StorageError, match=says) as caught:
        read(store)
    assert len(proxy.requests) == 1
    assert f"s3://{s3.bucket}/root/old.bin" in str(caught.value)


def test_a_404_on_a_file_that_was_listed(s3: S3Server, store: Store, proxy: FaultyProxy):
    fill(s3)
    assert store.list("") == ["large.bin", "old.bin"]
    proxy.faults = [Fault("NoSuchKey", path="old.bin")]
    with pytest.raises(FileNotFoundError):
        store.open("old.bin")


def test_an_object_replaced_while_it_is_read_is_no_mixture(s3: S3Server, store: Store):
    fill(s3)
    with store.open("large.bin") as file:
        assert file.read(10) == LARGE[:10]
        s3.put("root/large.bin", LARGE[::-1])
        with pytest.raises(OSError, match="was replaced while it was read"):
            file.read(9 << 20)


def test_a_listing_is_not_begun_again_for_one_bad_page(
    s3: S3Server, store: Store, proxy: FaultyProxy
):
    client = s3.client()
    for number in range(1001):
        client.put_object(Bucket=s3.bucket, Key=f"root/{number:04d}", Body=b"")
    proxy.faults = [Fault("SlowDown", path="continuation-token", times=1)]
    assert len(store.list("")) == 1001
    assert len(proxy.requests) == 3


def test_waits_double_at_random_up_to_a_limit(monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    monkeypatch.setattr(retry.random, "uniform", lambda low, high: (low, high))

    def fail() -> None:
        raise ConnectionResetError("gone")

    with pytest.raises(StorageError, match="tried 9 times"):
        retry.retrying(fail, "read", "s3://b/k", 8, sleep=waits.append)
    assert waits == [(0, wait) for wait in (0.25, 0.5, 1, 2, 4, 8, 16, 20)]


def test_errors_of_the_program_are_not_hidden():
    def fail() -> None:
        raise TypeError("wrong argument")

    with pytest.raises(TypeError, match="wrong argument"):
        retry.retrying(fail, "read", "s3://b/k", 3)


@pytest.mark.parametrize("status", [200, 204])
@pytest.mark.parametrize("act", [write, read, look])
def test_an_endpoint_that_is_no_s3_is_said_in_one_line(
    s3: S3Server, status: int, act: Callable[[Store], None]
):
    with answering(status) as endpoint:
        store = Store(s3.url("root"), Access(endpoint_url=endpoint, retries=0))
        with pytest.raises(StorageError, match="does not speak S3; check the endpoint") as caught:
            act(store)
    assert "\n" not in str(caught.value)


def test_redirections_without_end_are_said_in_one_line():
    def act() -> None:
        raise RecursionError("maximum recursion depth exceeded in comparison")

    with pytest.raises(StorageError, match="s3://a/b: could not read it, what answers does not"):
        retry.retrying(act, "read", "s3://a/b", 3)
