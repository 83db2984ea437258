"""An output folder of the command in Dagster: its definitions, and its page in the UI."""

import os
import sys
from pathlib import Path

import dagster as dg

from dedup_assets.command.instance import own_instance, refuse_links, use_instance
from dedup_assets.command.settings_file import load_settings, write_settings
from dedup_assets.component import build_definitions
from dedup_assets.runs import LOCATION
from dedup_assets.settings import Settings
from dedup_assets.store.access import is_remote
from dedup_assets.store.filesystem import Store

OUTPUT = "DEDUP_ASSETS_OUTPUT"
"""Environment variable: an output folder that is loaded instead of ``defs/``."""

COPY = "DEDUP_ASSETS_SETTINGS"
"""Environment variable: the folder to read its settings from, if not itself."""


def load_output(output: str) -> dg.Definitions:
    """Definitions of the dataset that an output folder describes."""
    if not is_remote(output):
        output = str(Path(output).absolute())
    return build_definitions(load_settings(output, copy=os.environ.get(COPY)))


def open_ui(settings: Settings, port: int) -> int:
    """Become a Dagster web server and daemon on an output folder, with these settings of it."""
    output = settings.storage.output_path
    use_instance(output)
    refuse_links(own_instance(output))  # with DAGSTER_HOME too, since this is written there
    workspace = own_instance(output) / "workspace.yaml"
    workspace.parent.mkdir(parents=True, exist_ok=True)
    os.environ.pop(COPY, None)
    if is_remote(output) or settings != load_settings(output):
        # Loaded often, and by several processes: from this machine, with the access that was named.
        write_settings(settings, Store(str(workspace.parent)))
        os.environ[COPY] = str(workspace.parent)
    workspace.write_text(
        "load_from:\n  - python_module:\n      module_name: dedup_assets.definitions\n"
        f"      location_name: {LOCATION}\n"
    )
    os.environ[OUTPUT] = output
    # Dagster reads .env and imports modules from the working directory: not from that of the
    # caller, nor from the output, which may come from someone else.
    os.chdir(Path(sys.executable).anchor)
    sys.stdout.write(f"http://127.0.0.1:{port} in some 15 seconds; stop with Ctrl-C\n")
    sys.stdout.flush()
    os.execv(
        sys.executable,
        [
            *(sys.executable, "-W", "ignore:Function `dev_command` is superseded"),
            *("-m", "dagster", "dev", "-w", str(workspace)),
            *("-h", "127.0.0.1", "-p", str(port)),
        ],
    )
