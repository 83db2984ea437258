"""The code location: every dataset of ``defs/``, or the one that an output folder describes."""

import os
from pathlib import Path

import dagster as dg

from dedup_assets.command.output import OUTPUT, load_output


@dg.definitions
def defs() -> dg.Definitions:
    output = os.environ.get(OUTPUT)
    found = (
        load_output(output)
        if output
        else dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    )
    # A process for each step would import everything for each: seconds, for a step of one.
    return dg.Definitions.merge(found, dg.Definitions(executor=dg.in_process_executor))
