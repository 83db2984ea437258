"""What the groups of settings have in common."""

import dagster as dg
from pydantic import ConfigDict


class Group(dg.Model, dg.Resolvable):
    """Settings of one subject."""

    # Storage options may hold secrets, and pydantic would repeat what it does not accept.
    # JSON has no infinity.
    model_config = ConfigDict(hide_input_in_errors=True, allow_inf_nan=False)
