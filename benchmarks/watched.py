"""One command of ``dedup-assets``, watched from within its process.

Run as ``python -m benchmarks.watched RECORD OUTPUT -- run ...``. RECORD becomes a JSON file: the
Parquet files below OUTPUT that were opened for reading and that were written, the requests to S3,
processor time and peak memory. A file that is written under a temporary name counts once, when it
is renamed.
"""

import json
import os
import runpy
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_SUFFIX = ".parquet"


class Watch:
    """Counts what this process does from now on.

    Args:
        output: the output folder, or its URL.
    """

    def __init__(self, output: str) -> None:
        self.read: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self._renamed: set[Any] = set()
        self._guard = threading.Lock()
        self._root = output.partition("://")[2] or f"{Path(output).absolute()}/"
        if "://" in output:
            self._watch_requests()
        else:
            sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, _ = arguments
            # Without a mode it is a call of os.open, such as behind a file that has an opener.
            if mode is not None and not set(mode) & set("wax+"):
                self._count(self.read, path)
        elif event == "os.rename" and arguments[0] not in self._renamed:
            self._renamed.add(arguments[0])  # tried again where the folder was not there
            self._count(self.written, arguments[1])

    def _watch_requests(self) -> None:
        from aiobotocore.httpsession import AIOHTTPSession

        send = AIOHTTPSession.send

        async def counted(session: Any, request: Any) -> Any:
            path = unquote(urlsplit(request.url).path).lstrip("/")
            with self._guard:
                self.requests[request.method] += 1
            if request.method == "GET":
                self._count(self.read, path)
            elif request.method == "PUT":
                self._count(self.written, path)
            return await send(session, request)

        AIOHTTPSession.send = counted  # type: ignore[method-assign]

    def _count(self, counter: Counter[str], path: Any) -> None:
        if isinstance(path, str | os.PathLike):
            name = os.fspath(path)
            if isinstance(name, str) and name.startswith(self._root) and name.endswith(_SUFFIX):
                with self._guard:
                    counter[name.removeprefix(self._root).lstrip("/")] += 1

    def record(self) -> dict[str, Any]:
        """What was counted, by folder where that is of interest."""
        from benchmarks.child import peak_memory_mib

        return {
            "parquet_read": self.read.total(),
            "parquet_written": self.written.total(),
            "read_by_folder": _by_folder(self.read),
            "written_by_folder": _by_folder(self.written),
            "requests": dict(self.requests),
            "processor_s": time.process_time(),
            "peak_mib": peak_memory_mib(),
        }


def _by_folder(paths: Counter[str]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for path, count in paths.items():
        folders = [part for part in path.split("/")[:-1] if "=" not in part]
        found["/".join(folders)] += count
    return dict(sorted(found.items()))


def main() -> None:
    record, output, _, *command = sys.argv[1:]
    watch = Watch(output)
    sys.argv = ["dedup-assets", *command]
    try:
        runpy.run_module("dedup_assets.cli", run_name="__main__")
    finally:
        Path(record).write_text(json.dumps(watch.record()))


if __name__ == "__main__":
    main()
