"""What this machine has left."""

from pathlib import Path
from typing import Literal

from dedup_assets.compute.arrays import device_array_module

_MEMORY = Path("/proc/meminfo")
_LIMITS = (  # of a container
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def free_memory() -> int | None:
    """Bytes of memory that a process could still take; None where the system does not say."""
    try:
        lines = _MEMORY.read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration):
        return None
    for path in _LIMITS:
        try:
            free = min(free, int(path.read_text()))
        except (OSError, ValueError):  # there is no such limit
            continue
    return free


def free_device_memory(device: Literal["cpu", "cuda"]) -> int | None:
    """Bytes of the GPU's memory that a process could still take; None for the CPU."""
    if device == "cpu":
        return None
    return int(device_array_module(device).cuda.runtime.memGetInfo()[0])
