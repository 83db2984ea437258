"""Leases on artifacts, so that two runs do not write, or read while written, the same one.

A lease is a file that its holder renews; one that is not renewed expires. It is held for an asset
and some partition keys, so other keys of the asset can be written side by side.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dedup_assets.errors import LockedError
from dedup_assets.store.filesystem import Store, is_alive

FOLDER = ".locks"
LEASE_S = 60.0
WHOLE = "*"
"""Stands for every key of an asset, and for an asset without partitions."""


@dataclass(frozen=True)
class Lease:
    """Who writes what, since when and until when, in seconds since the epoch."""

    asset: str
    keys: list[str]
    run: str
    host: str
    process: int
    since: float
    expires: float

    def is_live(self) -> bool:
        """Whether the holder is to be taken for alive: not expired, nor known to be dead."""
        dead = self.host == socket.gethostname() and not is_alive(self.process)
        return time.time() < self.expires and not dead

    def overlap(self, keys: Sequence[str]) -> list[str]:
        if WHOLE in self.keys or WHOLE in keys:
            return list(keys)
        held = set(self.keys)
        return [key for key in keys if key in held]


@contextmanager
def writing(
    store: Store,
    asset: str,
    keys: Sequence[str],
    *,
    reads: Mapping[str, Sequence[str]],
    run: str,
    lease_s: float = LEASE_S,
) -> Iterator[None]:
    """Hold the lease on an asset's keys while the block runs.

    Args:
        store: a local store; on others nothing is held.
        asset: name of the asset.
        keys: partition keys that are written; `WHOLE` for all.
        reads: the keys of other assets that the block reads.
        run: id of the run, for the message that others see.
        lease_s: seconds after which a lease that is not renewed expires.

    Raises:
        LockedError: another run writes one of these keys, or rewrites what is read; or, at the
            end, this lease was lost because it could not be renewed in time.
    """
    if not store.is_local:
        yield
        return
    folder = Path(store.path(FOLDER))
    now = time.time()
    lease = Lease(asset, list(keys), run, socket.gethostname(), os.getpid(), now, now + lease_s)
    file = folder / f"{uuid.uuid4().hex}.json"
    with _guard(folder):
        for other in _live(folder):
            _refuse(other, lease, reads)
        _write(file, lease)
    stop = threading.Event()
    renewal = threading.Thread(target=_renew, args=(file, lease, lease_s, stop), daemon=True)
    renewal.start()
    try:
        yield
        if not file.exists():
            raise LockedError(
                f"the lease on {asset} was lost: it was not renewed for {lease_s:.0f} s and "
                "another run took over; materialize again when that run is done"
            )
    finally:
        stop.set()
        renewal.join()
        file.unlink(missing_ok=True)


def _refuse(other: Lease, lease: Lease, reads: Mapping[str, Sequence[str]]) -> None:
    wanted = {**reads, lease.asset: lease.keys}.get(other.asset)
    shared = other.overlap(wanted) if wanted is not None else []
    if not shared:
        return
    listed = "" if WHOLE in shared else f" of {', '.join(shared[:5])}"
    since = datetime.fromtimestamp(other.since, UTC).isoformat(timespec="seconds")
    raise LockedError(
        f"{other.asset}{listed} is being written by run {other.run} on {other.host} (process "
        f"{other.process}) since {since}; wait until it is done, or end it"
    )


@contextmanager
def _guard(folder: Path) -> Iterator[None]:
    """Only one process at a time looks at the leases and adds one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "guard").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _live(folder: Path) -> list[Lease]:
    """Leases of others; those that have expired are deleted. Call it under the guard."""
    leases = []
    for file in folder.glob("*.json"):
        try:
            lease = Lease(**json.loads(file.read_text()))
        except FileNotFoundError:
            continue  # released just now
        if lease.is_live():
            leases.append(lease)
        else:
            file.unlink(missing_ok=True)
    return leases


def _write(file: Path, lease: Lease) -> None:
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(lease)))
    temporary.replace(file)


def _renew(file: Path, lease: Lease, lease_s: float, stop: threading.Event) -> None:
    while not stop.wait(lease_s / 3):
        with _guard(file.parent):
            if not file.exists():
                return  # taken over; the holder finds out when it is done
            _write(file, Lease(**{**asdict(lease), "expires": time.time() + lease_s}))
