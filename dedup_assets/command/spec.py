"""Job specs: ``{"pipeline": "semantic-dedup", "args": {"n_clusters": 1000, ...}}``."""

import difflib
import json
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_origin

from dedup_assets.command.arguments import SECRET, YAML_ONLY, flag, is_switch
from dedup_assets.command.durations import parse_duration
from dedup_assets.errors import shown
from dedup_assets.settings import FIELDS, OF_READER
from dedup_assets.store.access import Access, is_object, is_other_url, is_remote
from dedup_assets.store.filesystem import Store
from dedup_assets.store.local import absolute_path, open_regular, special_kind
from dedup_assets.store.source import folder_and_name
from dedup_assets.store.strict_json import MOST_BYTES, JsonError, parse_json

PIPELINES = ("dedup", "semantic-dedup")
EPS_TO_EXTRACT = 0.01
"""What a spec that does not say otherwise extracts; a run by flags extracts nothing then."""

ALIASES = {"num_clusters": "n_clusters"}
_OF_RUN = ("refit", "replace_shards", "verbose")
SWITCHES = (*_OF_RUN, *(name for name in FIELDS if is_switch(name)))
RUN_KEYS = ("input_zip", "output_zip", "time_budget", *_OF_RUN)
"""Flags of ``run`` that are no settings."""

KEYS = (*(name for name in FIELDS if name not in YAML_ONLY | OF_READER | {"address"}), *RUN_KEYS)


class SpecError(ValueError):
    """A spec breaks a rule; the message names the key, and no value that may be secret."""


@dataclass(frozen=True)
class Spec:
    """What a spec asks for.

    Attributes:
        values: of settings and `RUN_KEYS`, by name; what was not given, or null, is not there.
        keys: of the values, as the spec spells them.
    """

    values: dict[str, Any]
    keys: dict[str, str]


def read_spec(source: str, access: Access | None = None) -> Spec:
    """Read a spec from a file, an object or, for ``-``, the standard input.

    Raises:
        SpecError: there is none, or it breaks a rule of specs; `Settings` checks the values.
    """
    try:
        document = parse_json(_read(source, access))
    except JsonError as error:
        raise SpecError(str(error)) from error
    if not isinstance(document, dict):
        raise SpecError(f"must be a JSON object with pipeline and args, got {_kind(document)}")
    for key in document:
        if key not in ("pipeline", "args"):
            raise SpecError(f"unknown key {shown(key)}{_hint(key, ('pipeline', 'args'))}")
    if "pipeline" not in document or document["pipeline"] not in PIPELINES:
        given = _shown_json(document["pipeline"]) if "pipeline" in document else "nothing"
        raise SpecError(f"pipeline must be {' or '.join(map(json.dumps, PIPELINES))}, got {given}")
    args = document.get("args")
    if not isinstance(args, dict):
        given = _kind(args) if "args" in document else "nothing"
        raise SpecError(f"args must be a JSON object of settings, got {given}")
    return _checked(args)


def _read(source: str, access: Access | None) -> bytes:
    if is_other_url(source) or (is_remote(source) and not is_object(source)):
        raise SpecError("must be a file, s3://bucket/key or -")
    try:
        if source == "-":
            text = sys.stdin.buffer.read(MOST_BYTES + 1)
        elif is_remote(source):
            folder, name = folder_and_name(source)
            with Store(folder, access).open(name) as file:
                text = file.read(MOST_BYTES + 1)
        else:
            path = absolute_path(source, Path.cwd())
            if (kind := special_kind(path)) is not None:
                raise SpecError(f"is {kind}; give a file, or - for the standard input")
            with open_regular(path) as file:
                text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SpecError(f"cannot be read ({error.strerror or error})") from error
    return text


def _checked(args: dict[str, Any]) -> Spec:
    values: dict[str, Any] = {"eps_to_extract": EPS_TO_EXTRACT}
    keys: dict[str, str] = {}
    for key, value in args.items():
        name = key.replace("-", "_")
        name = ALIASES.get(name, name)
        if name in SECRET:
            side = name.partition("_")[0]
            raise SpecError(
                f"{key!r} is not a key of a spec, since it may hold secrets: put credentials into "
                f"the environment, or into a profile that {side}_s3_profile_name names"
            )
        if name == "address":
            raise SpecError(
                f"{key!r} is not a key of a spec, since a Ray cluster can run code here: pass it "
                "as --address"
            )
        if name in OF_READER:
            raise SpecError(
                f"{key!r} is not a key of a spec, since it lets a model's code run here: pass it "
                f"as {flag(name)}"
            )
        if name not in KEYS:
            raise SpecError(f"unknown key {shown(key)} in args{_hint(name, (*KEYS, *ALIASES))}")
        if name in keys:
            both = f"{shown(keys[name])} and {shown(key)}"
            raise SpecError(f"{both} in args are the same; give one of them")
        keys[name] = key
        if value is not None:
            values[name] = _value(name, key, value)
        elif name == "eps_to_extract":
            del values[name]  # stop after the histogram
    return Spec(values, keys)


def _value(name: str, key: str, value: Any) -> Any:
    if name in SWITCHES:
        if not isinstance(value, bool):
            raise SpecError(f"args.{key} must be true or false, got {_shown_json(value)}")
        return value
    if isinstance(value, bool):
        # Pydantic would take true for 1.
        raise SpecError(f"args.{key} must not be true or false, got {_shown_json(value)}")
    if name == "time_budget":
        try:
            return parse_duration(str(value))
        except ValueError as error:
            raise SpecError(f"args.{key}: {error}") from None
    if name in RUN_KEYS and not isinstance(value, str):
        raise SpecError(f"args.{key} must be text, got {_shown_json(value)}")
    if name in FIELDS and get_origin(FIELDS[name].annotation) is list:
        return _as_list(value)
    return value


def _as_list(value: Any) -> list[Any]:
    """A list, or what a flag takes for one: text with commas, or one number."""
    if isinstance(value, str):
        return [part for part in value.split(",") if part]
    return value if isinstance(value, list) else [value]


def _shown_json(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _hint(key: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f", did you mean {close[0]}?" if close else ""


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return kinds.get(type(value), "a number")
