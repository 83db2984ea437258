"""Servers of Dagster's UI in processes of their own, and what one asks them over GraphQL."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dedup_assets_tests.processes import family, still_running

MOST_SECONDS = 90

_DG = Path(sys.executable).parent / "dg"
_SUPERVISE = """
import os, sys
from dedup_assets.command.supervise import supervise
sys.exit(supervise(sys.argv[1:], os.getcwd(), os.environ))
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def ask(url: str, query: str, **variables: Any) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.load(answer)
    assert "errors" not in found, found["errors"]
    return found["data"]


def ask_when_ready(
    url: str, server: subprocess.Popen[bytes], log: Path, query: str = "{ assetNodes { id } }"
) -> dict[str, Any]:
    """Ask, for asset nodes and more, until the server is up and has loaded its code location."""
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            data = ask(url, query)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            data = {"assetNodes": []}
        if data["assetNodes"]:
            return data
        time.sleep(0.25)
    raise AssertionError(f"no answer in {MOST_SECONDS} s: {log.read_text()[-2000:]}")


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server, which ends what it started."""
    server.terminate()
    server.wait(60)


@contextmanager
def dg_dev(project: Path, log: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Where ``dg dev`` in a project answers, with its assets; nothing of it is left at the end."""
    port = free_port()
    with log.open("w") as file:
        server = subprocess.Popen(
            [sys.executable, "-c", _SUPERVISE, str(_DG), "dev", "--port", str(port)],
            cwd=project,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}/graphql"
    started = set()
    try:
        ask_when_ready(url, server, log)
        started = family(server.pid)
        yield url
    finally:
        stop(server)
    assert not still_running(started)
