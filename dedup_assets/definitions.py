"""The code location: every dataset of ``defs/``."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    found = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    # A process for each step would import everything for each: seconds, for a step of one.
    return dg.Definitions.merge(found, dg.Definitions(executor=dg.in_process_executor))
