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
    attributes = settings.model_dump(exclude_defaults=True, exclude=SECRET)
    escaped = {name: _escaped(value) for name, value in attributes.items()}
    for name in {"eps_thresholds", "eps_to_extract"} & attributes.keys():
        value = attributes[name]
        escaped[name] = [float(eps) for eps in value] if isinstance(value, list) else float(value)
    document = {"type": TYPE, "attributes": {"dataset": settings.dataset, **escaped}}
    return yaml.safe_dump(document, sort_keys=False, width=1_000_000)


def _escaped(value: Any) -> Any:
    """A value with each text so written that Dagster's rendering gives the text again.

    Dagster renders a text as a Jinja template, then takes the result for a Python literal where it
    is one (`jinja2.nativetypes`). So what either might change is a template of a Python literal.
    """
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if not isinstance(value, str) or not value:  # an empty text is not rendered
        return value
    if _UNCHANGED.fullmatch(value) and value.strip() not in _CONSTANTS:
        return value
    literal = ascii(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'{{{{ "{literal}" }}}}'
