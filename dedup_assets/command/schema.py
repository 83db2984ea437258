"""The JSON Schema of job specs, generated from the fields of `Settings`.

It knows one spelling of each key and of each number as text; `read_spec` takes some more.
"""

from typing import Any

from pydantic import BaseModel

from dedup_assets.command.arguments import AUTO
from dedup_assets.command.spec import ALIASES, EPS_TO_EXTRACT, KEYS, PIPELINES
from dedup_assets.compute.thresholds import EPS_MAX
from dedup_assets.settings import GROUPS, SIZES, Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_NULL = {"type": "null"}
_BUCKET = r"s3://([A-Za-z0-9._-]+|arn:[^/\0]+)"
_PATH = rf"^({_BUCKET}(/[^\0]*)?|(?![^\0]*://)[^\0]+)$"
_ENDPOINT = r"^https?://[^/@]+(/[^@]*)?$"
_EPS = r"(0(\.[0-9]{1,5}0*)?|\.[0-9]{1,5}0*)"
_EPS_NUMBER = {"type": "number", "minimum": 0, "maximum": float(EPS_MAX)}
_SIZE = r"^[0-9]+(\.[0-9]+)?\s*([KMGT](i?B)?|B)?$"
_INTEGERS = {0: r"^[0-9]+$", 1: r"^0*[1-9][0-9]*$"}
"""Texts of integers that are at least so much."""
_NUMBER = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_TIME = r"^([0-9]+(\.[0-9]+)?|([0-9]+(\.[0-9]+)?[smh])+)$"
_ZIP = rf"^({_BUCKET}/[^\0]+|(?![^\0]*://)[^\0]*)\.[zZ][iI][pP]$"
_RULES = (
    *("type", "enum", "pattern", "minLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
)


def _text(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def _list(item: str, *others: dict[str, Any]) -> list[dict[str, Any]]:
    """A list of texts, text with commas, and other forms that an item may have."""
    items = {"anyOf": [_text(f"^{item}$"), *others]}
    return [{"type": "array", "items": items}, _text(f"^{item}(,{item})*$"), *others]


_FORMS: dict[str, list[dict[str, Any]]] = {
    "n_clusters": [{"type": "integer", "minimum": 1}, _text(_INTEGERS[1]), {"const": AUTO}],
    "eps_thresholds": _list(_EPS, _EPS_NUMBER),
    "eps_to_extract": [_EPS_NUMBER, _text(f"^{_EPS}$")],
    "rank_by": _list(r"([^,]+:(asc|desc)|best_quality)"),
    "metadata_fields": _list(r"[^,]+"),
    "input_embeddings_path": [_text(_PATH)],
    "output_path": [_text(_PATH)],
    "clips_path": [_text(_PATH)],
    "input_s3_endpoint_url": [_text(_ENDPOINT)],
    "output_s3_endpoint_url": [_text(_ENDPOINT)],
}
"""What the types of `Settings` do not say."""

_MORE = {
    "n_clusters": " auto: the fewest that stay within time_budget.",
    "eps_to_extract": " null: stop after the histogram.",
}
_OF_RUN: dict[str, dict[str, Any]] = {
    "input_zip": {
        "description": "input_embeddings_path, for a ZIP file.",
        "anyOf": [_text(_ZIP), _NULL],
    },
    "output_zip": {
        "description": "ZIP file that everything below output_path is packed into in the end.",
        "anyOf": [_text(_ZIP), _NULL],
    },
    "time_budget": {
        "description": "With n_clusters auto, the time that the run may take up to its histogram: "
        "seconds, or text such as 90s or 2h.",
        "anyOf": [{"type": "number", "exclusiveMinimum": 0}, _text(_TIME), _NULL],
        "default": "10m",
    },
    "refit": {
        "description": "Fit the centroids again; with n_clusters auto, choose their number again.",
        "type": ["boolean", "null"],
        "default": False,
    },
    "replace_shards": {
        "description": "Replace curated clips of an earlier run also where a kept clip loses its "
        "media, or where tars, plain files and an index without media replace each other.",
        "type": ["boolean", "null"],
        "default": False,
    },
    "verbose": {
        "description": "Show Dagster's log.",
        "type": ["boolean", "null"],
        "default": False,
    },
}


def spec_schema() -> dict[str, Any]:
    """The schema, as a document of JSON Schema draft 2020-12."""
    models: list[type[BaseModel]] = [Settings, *GROUPS.values()]
    fields = {k: v for model in models for k, v in model.model_json_schema()["properties"].items()}
    settings = {name: _setting(name, fields[name]) for name in KEYS if name in fields}
    aliases = {
        alias: {"$ref": f"#/properties/args/properties/{name}", "description": f"As {name}."}
        for alias, name in ALIASES.items()
    }
    clusters = ("n_clusters", *(a for a, name in ALIASES.items() if name == "n_clusters"))
    return {
        "$schema": DIALECT,
        "title": "Job spec of dedup-assets run --spec",
        "description": "null stands for a key that is not given, but in eps_to_extract. The "
        "command also takes keys with dashes, and more spellings of numbers as text.",
        "type": "object",
        "properties": {
            "pipeline": {"description": "Both names mean the same.", "enum": list(PIPELINES)},
            "args": {
                "type": "object",
                "properties": settings | aliases | _OF_RUN,
                "additionalProperties": False,
                "oneOf": [{"required": [name]} for name in clusters],
                "if": {
                    "properties": {"time_budget": {"not": _NULL}},
                    "required": ["time_budget"],
                },
                "then": {"properties": {name: {"const": AUTO} for name in clusters}},
            },
        },
        "required": ["pipeline", "args"],
        "additionalProperties": False,
    }


def _setting(name: str, field: dict[str, Any]) -> dict[str, Any]:
    """One setting: as JSON, as the text of its flag and, if it may be left out, null."""
    kinds = [kind for kind in field.get("anyOf", [field]) if kind != _NULL]
    forms = _FORMS.get(name) or [form for kind in kinds for form in _forms(name, kind)]
    described = {"description": field["description"] + _MORE.get(name, "")}
    if name == "n_clusters":
        return {**described, "anyOf": forms}
    schema = {**described, "anyOf": [*forms, _NULL]}
    if name == "eps_to_extract":
        schema["default"] = EPS_TO_EXTRACT
    elif field.get("type") == "array":
        schema["default"] = []
    elif "default" in field:
        schema["default"] = field["default"]
    return schema


def _forms(name: str, kind: dict[str, Any]) -> list[dict[str, Any]]:
    """A kind of value, and the text of one that is no text itself."""
    schema = {rule: kind[rule] for rule in _RULES if rule in kind}
    if name in SIZES:
        return [schema, _text(_SIZE)]
    if kind["type"] == "integer":
        return [schema, _text(_INTEGERS[kind["minimum"]])]
    return [schema, _text(_NUMBER)] if kind["type"] == "number" else [schema]
