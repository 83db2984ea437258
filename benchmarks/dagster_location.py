"""The code location whose runs `benchmarks.dagster` launches: the dataset of one output folder.

It sets no executor, unlike the product's own locations: Dagster's default one takes from the
configuration of a run whether steps share its process or get one each.
"""

import os

import dagster as dg

from dedup_assets.command.output_definitions import OUTPUT
from dedup_assets.command.settings_file import load_settings
from dedup_assets.component import build_definitions


@dg.definitions
def defs() -> dg.Definitions:
    return build_definitions(load_settings(os.environ[OUTPUT]))
