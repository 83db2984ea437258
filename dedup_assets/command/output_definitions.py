"""The code location of ``dedup-assets ui``: the dataset that an output folder describes."""

import os
from pathlib import Path

import dagster as dg

from dedup_assets.command.settings_file import load_settings
from dedup_assets.component import build_definitions
from dedup_assets.store.access import is_remote

OUTPUT = "DEDUP_ASSETS_OUTPUT"
"""Environment variable: the output folder. Set by ``dedup-assets ui`` for its code servers."""

COPY = "DEDUP_ASSETS_SETTINGS"
"""Environment variable: the folder to read its settings from, if not itself."""


@dg.definitions
def defs() -> dg.Definitions:
    output = os.environ[OUTPUT]
    if not is_remote(output):
        output = str(Path(output).absolute())
    found = build_definitions(load_settings(output, copy=os.environ.get(COPY)))
    # The same executor as in dedup_assets.definitions, where it says why.
    return dg.Definitions.merge(found, dg.Definitions(executor=dg.in_process_executor))
