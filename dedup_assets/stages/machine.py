"""Memory of the machine and of its GPU, and the device that computes."""

from pathlib import Path
from types import ModuleType

from dedup_assets.compute.arrays import device_array_module, resolve_device
from dedup_assets.engine import Engine
from dedup_assets.settings import Settings

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


def free_device_memory(device: str) -> int | None:
    """Bytes of the GPU's memory that this process could still take; None for the CPU."""
    if device == "cpu":
        return None
    cupy = device_array_module(device)
    kept = cupy.get_default_memory_pool().free_bytes()  # of arrays that are gone, for new ones
    return int(cupy.cuda.runtime.memGetInfo()[0]) + int(kept)


def compute_module(settings: Settings) -> ModuleType:
    """The array module of the device that the settings ask for.

    Raises:
        DeviceError: it is not there.
    """
    return device_array_module(resolve_device(settings.compute.device))


def compute_budget(settings: Settings) -> int:
    """Bytes that computing may hold beside the arrays it is given, where it computes.

    On the host that is `memory_budget`, on a GPU `device_memory_fraction` of what is free there.
    """
    free = free_device_memory(resolve_device(settings.compute.device))
    if free is None:
        return settings.compute.memory_budget
    shared = min(1.0, settings.compute.task_gpus or 1.0)  # with other tasks on the same GPU
    return int(settings.compute.device_memory_fraction * shared * free)


def engine_of(settings: Settings) -> Engine:
    """Who does the tasks of a step."""
    compute = settings.compute
    return Engine(
        name=compute.engine,
        address=compute.address,
        cpus=compute.task_cpus,
        gpus=compute.task_gpus,
        memory=compute.task_memory,
        device=compute.device,
    )
