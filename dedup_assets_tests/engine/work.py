"""Tasks for tests of the engines, in a module that workers find."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dedup_assets.engine import Common
from dedup_assets.errors import InputError
from dedup_assets.progress import Advance


@dataclass(frozen=True)
class Noted(Common):
    """Tasks that are noted in a folder when they are done.

    Attributes:
        folder: a file for each time that a task was done.
        seconds: that each takes.
    """

    folder: str
    seconds: float = 0.0

    @cached_property
    def process(self) -> int:
        return os.getpid()


def note(common: Noted, tasks: Iterable[int], advance: Advance) -> Iterator[tuple[int, int]]:
    """Sleep, note the task, and yield it squared with the process that made ``common`` ready."""
    for task in tasks:
        time.sleep(common.seconds)
        Path(common.folder, f"{task}-{os.getpid()}-{time.time_ns()}").touch()
        advance(1)
        yield task * task, common.process


def refuse(common: Noted, tasks: Iterable[int], advance: Advance) -> Iterator[int]:
    for task in tasks:
        raise InputError(f"task {task} is refused")
        yield task


def stumble(common: Noted, tasks: Iterable[int], advance: Advance) -> Iterator[int]:
    for task in tasks:
        raise FileNotFoundError(2, "No such file or directory", f"/nowhere/{task}")
        yield task


def fall(common: Noted, tasks: Iterable[int], advance: Advance) -> Iterator[int]:
    os._exit(1)
    yield 0
