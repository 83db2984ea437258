"""Splitting videos in child processes, so that a decoder that crashes or hangs harms only itself.

The children are fresh interpreters, neither forked nor of `multiprocessing`: they can be started
from any thread, and from a process that may itself have no such children.
"""

import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from types import TracebackType
from typing import IO, Any, Self

from dedup_assets.video.cut import SCRATCH, Cutting, SplitVideo
from dedup_assets.video.errors import ClipError
from dedup_assets.video.worker import LENGTH, send

#: Address space of a worker: 8k frames and their references fit several times.
MEMORY = 8 << 30
PIECE = 1 << 20
#: Workers are as many as there are processors; the threads of a BLAS would wait for each other.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
START = "import sys; sys.path[:] = {path!r}; from dedup_assets.video.worker import main; main({n})"


class Splitter:
    """At most `count` worker processes, started when needed and used for video after video.

    `split` may be called from any number of threads. A worker that makes no progress for
    `timeout_s` seconds is killed, and what it started with it; one may take `memory` bytes of
    address space, or with None any.
    """

    def __init__(self, count: int, *, timeout_s: float = 120, memory: int | None = MEMORY) -> None:
        if count < 1:
            raise ValueError(f"count={count} should be >= 1.")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s={timeout_s} should be > 0.")
        self._timeout_s, self._memory = timeout_s, memory
        self._free = threading.BoundedSemaphore(count)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._closed = False

    def split(self, path: Path, folder: Path, cutting: Cutting) -> SplitVideo:
        """`split_video` in a worker.

        ClipError of one line, naming the file, also where the decoder crashes, hangs or wants more
        memory than is allowed; no clip of the video is left then. `folder` must be the video's own:
        what a lost worker left there is deleted. `cutting.prepare` must be importable by name.
        """
        with self._free:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            if worker is None:
                worker = _Worker(self._memory)
            try:
                result = worker.ask((path, folder, cutting), self._timeout_s)
            except BaseException as error:
                # First the worker, so that nothing writes there any more.
                worker.stop()
                _clear(folder)
                if isinstance(error, _LostError):
                    raise ClipError(f"{path}: {error}") from None
                raise
            with self._lock:
                kept = not self._closed
                if kept:
                    self._idle.append(worker)
            if not kept:
                worker.stop()
        if isinstance(result, str):
            raise ClipError(" ".join(result.split()))
        assert isinstance(result, SplitVideo)
        return result

    def close(self) -> None:
        """End the workers that wait, and each that is at work when it is done."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for worker in idle:
            worker.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _LostError(Exception):
    """The worker gave no answer; says why."""


class _Worker:
    """One child process and its pipes."""

    def __init__(self, memory: int | None) -> None:
        # A file, since a pipe that nobody reads would stop a child that prints much.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        code = START.format(path=[part or str(Path.cwd()) for part in sys.path], n=memory)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **ONE_THREAD},
            # An interrupt of the terminal goes to the caller, who then stops its workers.
            start_new_session=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout

    def ask(self, request: Any, timeout_s: float) -> Any:
        """The worker's answer; `_LostError` if it ends or makes no progress for `timeout_s`."""
        try:
            send(self._requests, request)
        except BrokenPipeError:
            raise self._ended() from None
        while (answer := pickle.loads(self._read(timeout_s))) is None:
            pass
        return answer

    def stop(self) -> None:
        self._end()
        self._answers.close()
        self._log.close()
        # A request that it did not take is lost with it.
        with suppress(BrokenPipeError):
            self._requests.close()

    def _end(self) -> int:
        """Kill the worker, if it is alive, and what it started; returns its status."""
        if self._process.returncode is None:
            # Until it is waited for, no other process can have the number of its group.
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def _read(self, timeout_s: float) -> bytes:
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size, timeout_s))
        return self._exactly(length, timeout_s)

    def _exactly(self, count: int, timeout_s: float) -> bytes:
        data = bytearray()
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while len(data) < count:
                if not selector.select(max(0, deadline - time.monotonic())):
                    raise _LostError(f"the decoder made no progress for {timeout_s:g} s")
                piece = os.read(self._answers.fileno(), min(PIECE, count - len(data)))
                if not piece:
                    raise self._ended()
                data += piece
        return bytes(data)

    def _ended(self) -> _LostError:
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        status = self._end()
        if status < 0:
            return _LostError(
                f"the decoder crashed (signal {-status}, {signal.strsignal(-status)})"
            )
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        return _LostError(
            f"the decoder ended (status {status}): {said[-1] if said else ''}".strip()
        )


def _clear(folder: Path) -> None:
    """Delete what a lost worker left: clips, what was prepared of them, and those half written."""
    for pattern in ("[0-9]*.mp4", "[0-9]*.npy", ".[0-9]*.mp4.partial"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)
    for scratch in folder.glob(f"{SCRATCH}*"):
        rmtree(scratch)
