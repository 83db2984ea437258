"""Leases on artifacts, so that no run writes what another one writes or reads.

A lease is an entry of one small file, which its holder renews; one that is not renewed expires. It
is held for an asset and some partition keys, so other keys of the asset can be written side by
side, and it names what its holder reads, which any number may read. A command holds one more, for
the whole output. The file is changed under a lock of the file system, or on S3 by conditional
writes.
"""

import contextlib
import fcntl
import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from dedup_assets.errors import LockedError, StorageError
from dedup_assets.store.filesystem import Store, is_alive
from dedup_assets.store.fingerprints import digest
from dedup_assets.store.s3 import ConflictError, S3Objects
from dedup_assets.store.sizes import format_bytes

FILE = ".locks/leases.json"
LEASE_S = 60.0
WHOLE = "*"
"""Stands for every key of an asset, and for an asset without partitions."""

COMMAND = "dedup-assets run"
"""Held, like an asset, by a command for as long as it works on an output."""

_GUARD = "guard"
_MOST_BYTES = 16 << 20
_LONGEST_WAIT_S = 1.0
_FIRST_WAIT_S = 0.02

Time = Annotated[float, Field(ge=0, lt=1e11, allow_inf_nan=False)]
Leases = dict[str, "Lease"]

_ended: set[str] = set()
"""Leases that this process has given up, whether or not that could be written."""


@dataclass(frozen=True)
class Lease:
    """Who writes what, since when and until when, in seconds since the epoch.

    Attributes:
        run: id of the holder's run; a command has none.
        host: name of the holder's host.
        machine: tells hosts and containers apart that have one name.
        reads: the keys of other assets that the holder reads.
    """

    asset: str
    keys: list[str]
    run: str
    host: str
    machine: str
    process: Annotated[int, Field(gt=0, lt=2**31)]
    since: Time
    expires: Time
    reads: dict[str, list[str]] = field(default_factory=dict)

    def is_live(self) -> bool:
        """Whether the holder is to be taken for alive: not expired, nor known to be dead."""
        dead = self.machine == this_machine() and not is_alive(self.process)
        return time.time() < self.expires and not dead

    def touches(self, other: "Lease") -> list[str]:
        """The keys that this one writes and the other one reads or writes."""
        theirs = {**other.reads, other.asset: other.keys}.get(self.asset, [])
        if WHOLE in theirs:
            return self.keys
        return theirs if WHOLE in self.keys else [key for key in self.keys if key in set(theirs)]


_FILE = TypeAdapter(Leases)


@cache
def this_machine() -> str:
    """A text that only processes have in common whose numbers mean the same."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # another system than Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return digest("\n".join(parts).encode())


@contextmanager
def writing(
    store: Store,
    asset: str,
    keys: Sequence[str],
    *,
    reads: Mapping[str, Sequence[str]],
    run: str = "",
    lease_s: float = LEASE_S,
) -> Iterator[None]:
    """Hold the lease on an asset's keys while the block runs.

    Args:
        store: where the lease is held, below the root.
        asset: name of the asset.
        keys: partition keys that are written; `WHOLE` for all.
        reads: the keys of other assets that the block reads.
        run: id of the run, for the message that others see.
        lease_s: seconds after which a lease that is not renewed expires. Hosts that share a
            store need clocks that agree better than that.

    Raises:
        LockedError: another run reads or writes one of these keys, or writes what is read; or, at
            the end, this lease was lost because it could not be renewed in time.
        StorageError: the file of the leases is damaged.
    """
    now = time.time()
    here = (socket.gethostname(), this_machine(), os.getpid())
    read = {name: list(of) for name, of in reads.items()}
    lease = Lease(asset, list(keys), run, *here, now, now + lease_s, read)
    name = uuid.uuid4().hex

    def take(leases: Leases) -> bool:
        gone = [key for key, held in leases.items() if key in _ended or not held.is_live()]
        for other in gone:
            del leases[other]
        if name not in leases:  # an answer that was lost may have been a yes
            for held in leases.values():
                _refuse(store, held, lease)
        leases[name] = lease
        return True

    def renew(leases: Leases) -> bool:
        held = leases.get(name)
        if held is not None:
            leases[name] = replace(held, expires=time.time() + lease_s)
        return held is not None

    kept = False

    def release(leases: Leases) -> bool:
        nonlocal kept
        held = leases.pop(name, None) is not None
        kept = kept or held  # called again where an answer was lost: it is given up by then
        return held

    _change(store, take)
    stop = threading.Event()
    renewal = threading.Thread(target=_renew, args=(store, renew, lease_s, stop), daemon=True)
    renewal.start()

    def end() -> None:
        stop.set()
        renewal.join()
        try:
            _change(store, release)
        finally:
            # Not before: another thread of this process would take the lease for given up.
            _ended.add(name)

    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, StorageError):  # as on a full disk: that is the news
            end()
        raise
    end()
    if not kept:
        raise LockedError(
            f"the lease on {_what(store, asset)} was lost: it was not renewed for {lease_s:.0f} s "
            "and another run took over; run this again when that run is done"
        )


def _refuse(store: Store, other: Lease, lease: Lease) -> None:
    """Refuse a lease that another one excludes.

    Raises:
        LockedError: it does.
    """
    asset, doing, shared = other.asset, "written", other.touches(lease)
    if not shared:
        asset, doing, shared = lease.asset, "read", lease.touches(other)
    if not shared:
        return
    listed = "" if WHOLE in shared else f" of {', '.join(shared[:5])}"
    since = datetime.fromtimestamp(other.since, UTC).isoformat(timespec="seconds")
    holder = f"run {other.run}" if other.run else "a dedup-assets command"
    raise LockedError(
        f"{_what(store, asset)}{listed} is being {doing} by {holder} on {other.host} (process "
        f"{other.process}) since {since}; wait until it is done, or end it",
        other.run,
        other.expires,
    )


def _what(store: Store, asset: str) -> str:
    return store.url() if asset == COMMAND else asset


def _renew(
    store: Store, renew: Callable[[Leases], bool], lease_s: float, stop: threading.Event
) -> None:
    wait = lease_s / 3
    while not stop.wait(wait):
        # A store that does not answer may do so a little later; the holder finds out at its end.
        wait = lease_s / 12
        with contextlib.suppress(OSError, StorageError):
            if not _change(store, renew, timeout_s=lease_s / 12):
                return  # taken over
            wait = lease_s / 3


def _change(store: Store, change: Callable[[Leases], bool], timeout_s: float | None = None) -> bool:
    """Let ``change`` alter the leases, alone; it says whether they are to be written.

    With ``timeout_s`` each request to a remote store is tried once, and for no longer.
    """
    objects = store.objects
    if objects is not None:
        objects = objects if timeout_s is None else objects.once(timeout_s)
        return _change_object(store, objects, change)
    file = store.local_path(FILE)
    file.parent.mkdir(parents=True, exist_ok=True)
    # Appended to and made anew, since either may be a link to something else.
    with (file.parent / _GUARD).open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        try:
            with file.open("rb") as opened:
                leases = _decode(store, opened.read(_MOST_BYTES + 1))
        except FileNotFoundError:
            leases = {}
        changed = change(leases)
        if changed:
            temporary = file.with_suffix(".new")
            temporary.unlink(missing_ok=True)
            temporary.write_bytes(_encode(leases))
            temporary.replace(file)
    return changed


def _change_object(store: Store, objects: S3Objects, change: Callable[[Leases], bool]) -> bool:
    """The same by conditional writes: who finds that another was quicker reads again."""
    path, wait = store.path(FILE), _FIRST_WAIT_S
    while True:
        try:
            found = objects.read(path, 0, _MOST_BYTES + 1)
        except FileNotFoundError:
            found = None
        leases = _decode(store, found.data) if found is not None else {}
        if not change(leases):
            return False
        try:
            if found is None:
                objects.write(path, _encode(leases), new=True)
            else:
                objects.write(path, _encode(leases), replaces=found.etag)
        except ConflictError:
            time.sleep(random.uniform(0, wait))
            wait = min(2 * wait, _LONGEST_WAIT_S)
        else:
            return True


def _decode(store: Store, data: bytes) -> Leases:
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError(f"it is larger than {format_bytes(_MOST_BYTES)}")
        return _FILE.validate_json(data or b"{}", strict=True)
    except ValueError as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise StorageError(
            f"{store.url(FILE)} is damaged ({why}); it says which runs are at work on the output: "
            "delete it when none is, and run again"
        ) from error


def _encode(leases: Leases) -> bytes:
    return json.dumps({name: asdict(lease) for name, lease in leases.items()}).encode()
