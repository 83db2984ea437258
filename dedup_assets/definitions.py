"""The code location: every dataset of ``defs/``, or the one that a finished output describes."""

import os
from pathlib import Path

import dagster as dg

OUTPUT = "DEDUP_ASSETS_OUTPUT"
"""Environment variable: an output folder of the command, whose ``defs.yaml`` to load instead."""


@dg.definitions
def defs() -> dg.Definitions:
    output = os.environ.get(OUTPUT)
    if output:
        from dedup_assets.command.output import load_output

        return load_output(output)
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
