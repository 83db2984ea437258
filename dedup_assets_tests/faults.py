"""A proxy in front of the S3 server of the tests that answers wrongly when it is told to."""

import contextlib
import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_CODES = {
    "InternalError": 500,
    "SlowDown": 503,
    "NoSuchKey": 404,
    "AccessDenied": 403,
    "ExpiredToken": 400,
    "InvalidAccessKeyId": 403,
    "NotImplemented": 501,
    "InvalidRange": 416,
}
_HOP_HEADERS = {"connection", "transfer-encoding", "keep-alive", "content-length", "date", "server"}


@dataclass
class Fault:
    """What to do to requests that match.

    Attributes:
        kind: an error code of S3; or ``reset`` (the connection), ``late`` (no answer for
            ``delay_s``), ``truncated`` (half of the body), ``stalled`` (half of the body, then
            nothing for ``delay_s``), ``dripping`` (a byte of the body every ``delay_s``), ``deaf``
            (the body of the request is not read for ``delay_s``), ``lost`` (done, but the answer
            is lost).
        method: HTTP methods, a regular expression.
        path: path and query, a regular expression that is searched for.
        times: how many requests; None for all.
        share: of the requests that match, at random.
        after: only after a request that matches this, method and path, a regular expression.
    """

    kind: str
    method: str = ".*"
    path: str = ""
    times: int | None = None
    share: float = 1.0
    delay_s: float = 3.0
    after: str = ""


@dataclass
class FaultyProxy:
    """A running proxy.

    Attributes:
        endpoint: its URL.
        faults: the first one that matches a request is committed.
        requests: method and path of each request.
        committed: how often, by kind.
    """

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    committed: Counter[str] = field(default_factory=Counter)
    seed: int = 0

    def __post_init__(self) -> None:
        self._guard = threading.Lock()
        self._random = random.Random(self.seed)

    def choose(self, method: str, path: str) -> Fault | None:
        """The fault to commit on a request, counted."""
        with self._guard:
            self.requests.append((method, path))
            for fault in self.faults:
                if re.search(fault.after, f"{method} {path}"):
                    fault.after = ""
                if fault.after or fault.times == 0 or not re.fullmatch(fault.method, method):
                    continue
                if not re.search(fault.path, path) or self._random.random() >= fault.share:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                self.committed[fault.kind] += 1
                return fault
        return None


@contextmanager
def faulty(upstream: str) -> Iterator[FaultyProxy]:
    """A proxy in front of ``upstream`` until the block ends."""
    target = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _serve(self) -> None:
            fault = proxy.choose(self.command, self.path)
            if fault is not None and fault.kind == "deaf":
                time.sleep(fault.delay_s)
                self._reset()
                return
            body = self._body()
            if fault is not None and fault.kind in _CODES:
                self._refuse(fault.kind)
                return
            if fault is not None and fault.kind == "late":
                time.sleep(fault.delay_s)
                self._reset()
                return
            if fault is not None and fault.kind == "reset":
                self._reset()
                return
            status, headers, data = self._forward(body)
            if fault is not None and fault.kind == "lost":
                self._reset()
                return
            self._answer(status, headers, data, fault)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - of http.server

        def _body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                data = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    data += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return data
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_HEADERS}
            headers["Content-Length"] = str(len(body))
            try:
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                length = answer.getheader("Content-Length", "0")
                data = answer.read()
                kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP_HEADERS]
                if self.command == "HEAD":
                    kept.append(("Content-Length", length))
                return answer.status, kept, data
            finally:
                connection.close()

        def _answer(
            self, status: int, headers: list[tuple[str, str]], data: bytes, fault: Fault | None
        ) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            if self.command != "HEAD" and status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if fault is None:
                self.wfile.write(data)
                return
            self.close_connection = True
            with contextlib.suppress(ConnectionError):  # the other side has given up
                if fault.kind == "dripping":
                    for place in range(len(data)):
                        self.wfile.write(data[place : place + 1])
                        time.sleep(fault.delay_s)
                    return
                self.wfile.write(data[: len(data) // 2])
                if fault.kind == "stalled":
                    time.sleep(fault.delay_s)

        def _refuse(self, code: str) -> None:
            data = (
                f'<?xml version="1.0"?><Error><Code>{code}</Code>'
                "<Message>a fault of the tests</Message></Error>"
            ).encode()
            if self.command == "HEAD":
                data = b""
            self.send_response(_CODES[code])
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _reset(self) -> None:
            # Closed without waiting, which the other side sees as a reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    proxy = FaultyProxy(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def answering(status: int) -> Iterator[str]:
    """The endpoint of a server that answers everything with a page, as that of a login."""

    class Page(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # which answers Expect: 100-continue

        def do_GET(self) -> None:
            self.close_connection = True
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            page = b"" if status == 204 else b"<html>Please log in</html>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(page)

        do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
