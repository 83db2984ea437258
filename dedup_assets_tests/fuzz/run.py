"""Gives seeds to a process that reads their inputs, and to another when it dies or hangs."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LONGEST_S = 30.0
FAILURES = (
    *("traceback", "wrong rows", "broken promise", "several lines", "long error"),
    *("crash", "hang"),
)
_ROOT = Path(__file__).parent.parent.parent
_START_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """What became of the input of a seed: one of `FAILURES`, "read", "held" or an error's name."""

    seed: int
    kind: str
    outcome: str
    detail: str


def outcomes(first: int, count: int) -> Iterator[Outcome]:
    """Of the seeds from ``first`` on, one after the other."""
    worker: _Worker | None = None
    try:
        for seed in range(first, first + count):
            worker = worker or _Worker()
            answer = worker.ask(seed)
            if answer is not None:
                yield Outcome(seed, **answer)
                continue
            yield Outcome(seed, "?", *worker.end())
            worker = None
    finally:
        if worker is not None:
            worker.end()


class _Worker:
    """A process of `dedup_assets_tests.fuzz.worker`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dedup_assets_tests.fuzz.worker"],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._hung = False
        self._read(_START_S)

    def ask(self, seed: int) -> dict[str, str] | None:
        """What became of the input of a seed; None if the process did not survive it."""
        try:
            self._process.stdin.write(f"{seed}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self._read(LONGEST_S)
        return json.loads(line) if line else None

    def end(self) -> tuple[str, str]:
        """End the process; says how it ended if it was not asked to."""
        if self._hung:
            self._process.kill()
        self._process.stdin.close()
        self._process.stdout.close()
        code = self._process.wait()
        if self._hung:
            return "hang", f"no answer within {LONGEST_S:.0f} s"
        return "crash", f"the process ended with code {code}"

    def _read(self, seconds: float) -> bytes:
        """A line, or nothing if none came in time; the worker writes whole lines."""
        until = time.monotonic() + seconds
        ready, _, _ = select.select(
            [self._process.stdout], [], [], max(0, until - time.monotonic())
        )
        self._hung = not ready
        return self._process.stdout.readline() if ready else b""
