"""The code location: every dataset of ``defs/``, or the one that an output folder describes."""

import os
from pathlib import Path

import dagster as dg

from dedup_assets.command.output import OUTPUT, load_output


@dg.definitions
def defs() -> dg.Definitions:
    output = os.environ.get(OUTPUT)
    if output:
        return load_output(output)
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
