"""Available memory, of the machine and of its GPU."""

from pathlib import Path
from typing import Literal

from dedup_assets.compute.arrays import device_array_module

_MEMORY = Path("/proc/meminfo")
_CGROUPS = (  # of a container: its limit, what it has taken, and what of that is files' pages
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory"),
        *("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ),
)


def free_memory() -> int | None:
    """Bytes of memory that a process could still take; None where the system does not say."""
    try:
        lines = _MEMORY.read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration):
        return None
    for folder, limit, taken, pages in _CGROUPS:
        try:
            room = int((folder / limit).read_text()) - int((folder / taken).read_text())
            counts = dict(
                line.split() for line in (folder / "memory.stat").read_text().splitlines()
            )
        except (OSError, ValueError):  # there is no such limit
            continue
        free = min(free, room + int(counts.get(pages, 0)))
    return max(0, free)


def free_device_memory(device: Literal["cpu", "cuda"]) -> int | None:
    """Bytes of the GPU's memory that a process could still take; None for the CPU."""
    if device == "cpu":
        return None
    return int(device_array_module(device).cuda.runtime.memGetInfo()[0])
