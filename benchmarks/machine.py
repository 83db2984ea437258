"""Where and with what a measurement was taken; no names of hosts, users or places."""

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def describe(*packages: str) -> dict[str, Any]:
    """Date, machine, and the versions of Python and of ``packages``."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "processor": _processor(),
            "units": _units(),
            "cores": _cores(),
            "memory_gib": _memory_gib(),
            "system": platform.system(),
        },
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in packages}},
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _units() -> list[str]:
    """What NumKong finds in the processor, by its names: what multiplies, and how fast."""
    try:
        import numkong
    except ImportError:
        return []
    return sorted(name for name, there in numkong.get_capabilities().items() if there)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
