"""``dedup-assets scaffold``: the component YAML of an output folder, for a project of one's own."""

import re
from typing import Any

import yaml

from dedup_assets.command.arguments import SECRET
from dedup_assets.settings import Settings

TYPE = "dedup_assets.SemanticDedup"
_UNCHANGED = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.:@ -]{0,199}")
_CONSTANTS = {"None", "True", "False"}


def component_yaml(settings: Settings) -> str:
    """A ``defs.yaml`` that Dagster loads back to these settings; storage options are left out."""
    changed = settings.model_dump(exclude_defaults=True, exclude={"storage": SECRET})
    attributes = {name: _escaped(value) for name, value in changed.items()}
    thresholds = settings.thresholds
    if thresholds.eps_thresholds:
        attributes["thresholds"]["eps_thresholds"] = [float(e) for e in thresholds.eps_thresholds]
    if thresholds.eps_to_extract is not None:
        attributes["thresholds"]["eps_to_extract"] = float(thresholds.eps_to_extract)
    document = {"type": TYPE, "attributes": {"dataset": settings.dataset, **attributes}}
    return yaml.safe_dump(document, sort_keys=False, width=1_000_000)


def _escaped(value: Any) -> Any:
    """A value with each text so written that Dagster's rendering gives the text again.

    Dagster renders a text as a Jinja template, then takes the result for a Python literal where it
    is one (`jinja2.nativetypes`). So what either might change is a template of a Python literal.
    """
    if isinstance(value, dict):
        return {name: _escaped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if not isinstance(value, str) or not value:  # an empty text is not rendered
        return value
    if _UNCHANGED.fullmatch(value) and value.strip() not in _CONSTANTS:
        return value
    literal = ascii(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'{{{{ "{literal}" }}}}'
