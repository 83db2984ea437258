"""Take the pictures in ``docs/images`` from a running UI: ``python docs/pictures.py``.

Needs Chromium (``--chromium`` names another one than the first on the path) and a few minutes: it
makes the demo, delivers its embeddings day by day, opens ``dedup-assets ui`` on the result, and
damages a tar for the picture of a failed check.
"""

import argparse
import base64
import io
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image
from websockets.sync.client import ClientConnection, connect

from dedup_assets.store.layout import HISTOGRAM_PLOT

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs/images"
COMMAND = [sys.executable, "-m", "dedup_assets.cli"]
INSTANCE_YAML = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"
DAGSTER_DEV = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml"]
MOST_SECONDS = 180
MOST_BYTES = 150_000
DATASET = "films"
EPS = "0.05"
CLUSTERS = 12
ROWS = (0, 120, 145, 170, 205, 246)
"""How many rows of the demo have been delivered before and after each day."""

MIDDLE = """((text, nth) => {
  const says = (element) => element.innerText?.trim() === text
  const found = [...document.querySelectorAll("*")].filter(
    (e) => says(e) && e.offsetParent && ![...e.children].some(says)
  ).at(nth)
  if (!found) return null
  found.scrollIntoView({ block: "nearest" })
  const box = found.getBoundingClientRect()
  return [box.x + box.width / 2, box.y + box.height / 2]
})(%s, %d)"""


class Browser:
    """A headless Chromium, driven over the DevTools protocol."""

    def __init__(self, socket_: ClientConnection) -> None:
        self._socket = socket_
        self._numbers = itertools.count(1)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=MOST_SECONDS))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def open(self, url: str, text: str, width: int = 1280, height: int = 800) -> None:
        """Open a page and wait until it shows ``text``."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call("Page.navigate", url=url)
        self.wait_for(text)

    def wait_for(self, text: str) -> None:
        wait_until(
            lambda: self.run(f"document.body?.innerText.includes({json.dumps(text)})"),
            f"the page does not show {text!r}",
        )
        time.sleep(3)  # until what was drawn has stopped moving

    def middle(self, text: str, nth: int = 0) -> tuple[float, float]:
        """Where the middle of an innermost element with exactly this text is, in pixels."""
        found = self.run(MIDDLE % (json.dumps(text), nth))
        if found is None:
            raise RuntimeError(f"nothing on the page says {text!r}")
        return tuple(found)

    def click(self, text: str, nth: int = 0) -> None:
        x, y = self.middle(text, nth)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
        time.sleep(2)

    def take(self) -> Image.Image:
        taken = self.call("Page.captureScreenshot", format="png")
        return Image.open(io.BytesIO(base64.b64decode(taken["data"])))


def wait_until(holds: Callable[[], Any], otherwise: str) -> Any:
    """What ``holds`` returns once that is true."""
    end = time.monotonic() + MOST_SECONDS
    while not (found := holds()):
        if time.monotonic() > end:
            raise TimeoutError(f"{otherwise} within {MOST_SECONDS} s")
        time.sleep(0.5)
    return found


@contextmanager
def chromium(program: str) -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            chosen = Path(profile, "DevToolsActivePort")
            wait_until(lambda: chosen.exists() and chosen.read_text(), "Chromium does not answer")
            port = chosen.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            with connect(pages[0]["webSocketDebuggerUrl"], max_size=None) as socket_:
                yield Browser(socket_)
        finally:
            process.terminate()
            process.wait(60)


class Ui:
    """A running ``dedup-assets ui``."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, query: str, **variables: Any) -> Any:
        """The one field of an answer of its GraphQL API."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            (found,) = json.load(answer)["data"].values()
        return found

    def is_ready(self) -> bool:
        try:
            return bool(self.ask("{ assetNodes { id } }"))
        except OSError:
            return False

    def asset(self, name: str, **view: str) -> str:
        """The address of an asset's page."""
        query = "&".join(f"{key}={value}" for key, value in view.items())
        return f"{self.url}/assets/{DATASET}/{name}?{query}"


@contextmanager
def served(*command: object, **environment: str) -> Iterator[Ui]:
    """A UI that a command starts; it is given a free port as its last argument."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*map(str, command), str(port)],
        cwd=ROOT,
        env={**clean_environment(), **environment},
        start_new_session=True,
    )
    ui = Ui(f"http://127.0.0.1:{port}")
    try:
        wait_until(ui.is_ready, "the UI does not answer")
        yield ui
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def clean_environment() -> dict[str, str]:
    """This process's, without what was set for another Dagster."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DAGSTER")}
    return {**kept, "PYTHONPATH": str(ROOT)}


def command(*arguments: object) -> None:
    subprocess.run([*COMMAND, *map(str, arguments)], check=True, env=clean_environment())


def deliver(folder: Path) -> Path:
    """Deduplicate the demo's clips as if they had come day by day; returns the output folder."""
    command("demo", folder)
    split = folder / "output/split"
    rows = pl.read_parquet(split / "perceptual_embd_parquet/part-*.parquet").sort("id")
    days, output = folder / "days", folder / DATASET
    for made in (days, output):
        shutil.rmtree(made, ignore_errors=True)
    days.mkdir()
    for day, (start, end) in enumerate(itertools.pairwise(ROWS)):
        rows[start:end].write_parquet(days / f"day-{day}.parquet")
        command(
            *("run", "--input-embeddings-path", days, "--clips-path", split / "clips"),
            *("--output-path", output, "--dataset", DATASET, "--n-clusters", CLUSTERS),
            *("--eps-thresholds", 0.01, EPS, "--eps-to-extract", EPS),
        )
    return output


def take_lineage(browser: Browser, ui: Ui) -> Image.Image:
    group = "locations/__repository__@dedup_assets/asset-groups/demo/lineage"
    # So wide that the graph is shown in full, and not as names alone.
    browser.open(f"{ui.url}/{group}", "4 / 4 Passed", width=2700, height=1300)
    return browser.take().crop((110, 190, 2660, 1220))


def take_histogram(browser: Browser, ui: Ui) -> Image.Image:
    browser.open(ui.asset("similarity_histogram"), "[Show Markdown]", height=760)
    browser.click("[Show Markdown]")
    browser.wait_for("Close")
    return browser.take()


def take_plots(browser: Browser, ui: Ui) -> Image.Image:
    browser.open(ui.asset("similarity_histogram"), "rows_compared", height=2600)
    browser.click("Plots")
    browser.wait_for("bytes_read")
    _, top = browser.middle("Metadata")
    return browser.take().crop((60, int(top) - 25, 960, int(top) + 595))


def take_eps(browser: Browser, ui: Ui) -> Image.Image:
    address = ui.asset("duplicate_ids", view="partitions", partition=EPS)
    browser.open(address, "least_similar_pairs", height=1040)
    return browser.take()


def take_failed_check(browser: Browser, ui: Ui) -> Image.Image:
    address = ui.asset("curated_shards", view="checks", checkDetail="shards_hold_kept")
    browser.open(address, "Failed", height=720)
    return browser.take()


def take_component(browser: Browser, ui: Ui) -> Image.Image:
    name = "dedup_assets.SemanticDedup"
    folder = f"{ui.url}/locations/dedup_assets/components/library/packages/dedup_assets"
    browser.open(folder, name, height=1000)
    browser.click(name)
    browser.wait_for("Schema")
    return browser.take()


def take_all(demo: Path, output: Path, browser: Browser) -> Iterator[tuple[str, Image.Image]]:
    """Each picture and the name of its file."""
    with served(*COMMAND, "ui", demo, "--port") as ui:
        hide_navigation(browser, ui)
        yield "lineage", take_lineage(browser, ui)
    with served(*COMMAND, "ui", output, "--port") as ui:
        hide_navigation(browser, ui)
        yield "histogram_page", take_histogram(browser, ui)
        yield "eps", take_eps(browser, ui)
        yield "plots", take_plots(browser, ui)
        damage(output)
        run_check(ui, "curated_shards", "shards_hold_kept")
        yield "failed_check", take_failed_check(browser, ui)
    with tempfile.TemporaryDirectory() as home:
        Path(home, "dagster.yaml").write_text(INSTANCE_YAML)
        with served(*DAGSTER_DEV, "-h", "127.0.0.1", "-p", DAGSTER_HOME=home) as ui:
            hide_navigation(browser, ui)
            yield "component", take_component(browser, ui)


def hide_navigation(browser: Browser, ui: Ui) -> None:
    """Once for each server: browsers keep it by address."""
    browser.open(ui.url, "Hide navigation")
    browser.click("Hide navigation")


LAUNCH = """mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}"""
STATUS = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"


def damage(output: Path) -> None:
    """Cut a tar of curated clips in half."""
    tar = min(output.glob(f"shards/eps={EPS}/*/*.tar"))
    os.truncate(tar, tar.stat().st_size // 2)


def run_check(ui: Ui, asset: str, check: str) -> None:
    """Run a check at `EPS`, and wait until it has run."""
    key = {"path": [DATASET, asset]}
    launched = ui.ask(
        LAUNCH,
        params={
            "mode": "default",
            "runConfigData": "{}",
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": EPS}]},
            "selector": {
                "repositoryName": "__repository__",
                "repositoryLocationName": "dedup_assets",
                "jobName": "__ASSET_JOB",
                "assetSelection": [],
                "assetCheckSelection": [{"assetKey": key, "name": check}],
            },
        },
    )
    run = launched["run"]["runId"]
    wait_until(
        lambda: ui.ask(STATUS, run=run)["status"] in ("SUCCESS", "FAILURE"),
        f"{check} was not executed",
    )


def save(picture: Image.Image, name: str) -> None:
    path = IMAGES / f"{name}.png"
    picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{path}: {size} bytes should be <= {MOST_BYTES}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("/tmp/dedup-demo"),
        help="Where the demo is made, or was (default: %(default)s); shown in the pictures.",
    )
    parser.add_argument("--chromium", default="chromium")
    arguments = parser.parse_args()
    output = deliver(arguments.folder)
    demo = arguments.folder / "output"
    save(Image.open(demo / HISTOGRAM_PLOT), "similarity_histogram")
    with chromium(arguments.chromium) as browser:
        for name, picture in take_all(demo, output, browser):
            save(picture, name)


if __name__ == "__main__":
    main()
