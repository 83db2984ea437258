"""Command-line flags of `Settings`, generated from its fields."""

import argparse
import difflib
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from dedup_assets.errors import one_line, shown
from dedup_assets.settings import (
    FIELDS,
    GROUP_OF,
    GROUPS,
    OF_CLUSTER,
    OF_PROJECT,
    SECRET,
    SIZES,
    Settings,
)
from dedup_assets.settings.orchestration import Automation
from dedup_assets.settings.videos import Videos
from dedup_assets.store.sizes import format_bytes

_METAVARS = {
    "rank_by": "COLUMN:DIRECTION",
    **dict.fromkeys(SIZES, "SIZE"),
    "eps_thresholds": "EPS",
    "eps_to_extract": "EPS",
    "metadata_fields": "FIELD",
}
YAML_ONLY = SECRET | OF_PROJECT | Automation.model_fields.keys()
_UNSHOWN = SECRET | {"input_s3_endpoint_url", "output_s3_endpoint_url"}
_MORE_HELP = {"n_clusters": " auto: the fewest that stay within --time-budget."}
_MOST_SHOWN = 240
AUTO = "auto"
"""Instead of a number of clusters."""

S3_SETTINGS = (
    *("input_s3_profile_name", "output_s3_profile_name"),
    *("input_s3_endpoint_url", "output_s3_endpoint_url"),
)
"""How either side is reached; no secrets."""

SPLIT_SETTINGS = (
    "dataset",
    *Videos.model_fields,
    *S3_SETTINGS,
    *("allow_links", "storage_retries", "device"),
    *sorted(OF_CLUSTER),
)
"""What ``dedup-assets split`` takes."""

INPUT_SETTINGS = (
    *(
        "input_embeddings_path",
        "input_filetype",
        "id_field",
        "embedding_field",
        "embedding_dim",
        "metadata_fields",
    ),
    "rank_by",
    *("on_invalid", "files_per_partition", "max_iter", "tol", "random_state", "fit_data_fraction"),
    *("missed_sample", "precision", "kmeans", "memory_budget", "device"),
    *("input_s3_profile_name", "input_s3_endpoint_url", "storage_retries"),
)
"""The settings that decide how long a number of clusters takes."""


class OneLineParser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, with exit code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = _flags(self, found)
            close = difflib.get_close_matches(unknown[0].partition("=")[0], flags, n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


def is_switch(setting: str) -> bool:
    """Whether a setting is on or off: its flag takes no value."""
    return FIELDS[setting].annotation is bool


def is_on(setting: str) -> bool:
    """Whether a setting is a switch that is on by default: its flag turns it off."""
    return setting in FIELDS and FIELDS[setting].default is True


def flag(field: str) -> str:
    return f"--{'no-' if is_on(field) else ''}{field.replace('_', '-')}"


def add_settings(
    parser: argparse.ArgumentParser,
    only: Collection[str] = tuple(FIELDS),
    *,
    require: bool = True,
) -> None:
    """Add a flag for each setting, or for some; values stay text, `Settings` checks them.

    Without ``require`` the caller checks that the required ones are there.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, field in FIELDS.items():
        if name in YAML_ONLY or name not in only:
            continue
        group = GROUP_OF.get(name)
        if group is not None and group not in groups:
            groups[group] = parser.add_argument_group(group, GROUPS[group].__doc__)
        options: dict[str, Any] = {
            "dest": name,
            "default": argparse.SUPPRESS,
            "required": require and field.is_required(),
            "help": _help(name, field),
            "metavar": _metavar(name, field),
        }
        choices = _choices(field)
        if choices:
            options["metavar"] = "{" + ",".join(choices) + "}"
        if get_origin(field.annotation) is list:
            options["nargs"] = "+"
        if is_switch(name):
            options["action"] = "store_false" if is_on(name) else "store_true"
            del options["metavar"]
        (parser if group is None else groups[group]).add_argument(flag(name), **options)


def parse_settings(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, **instead: Any
) -> Settings:
    """Settings from parsed flags; ends the process with exit code 2 if one breaks its rule.

    ``instead`` holds values that go before those of the flags.
    """
    return check_settings(parser, given_values(arguments) | instead, flag)


def given_values(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that flags gave, as text; lists split at commas."""
    given = {k: v for k, v in vars(arguments).items() if k in FIELDS}
    for name, value in given.items():
        if isinstance(value, list):
            given[name] = [part for text in value for part in text.split(",") if part]
    return given


def check_settings(
    parser: argparse.ArgumentParser, values: dict[str, Any], spell: Callable[[str], str]
) -> Settings:
    """Settings from values; ends the process with exit code 2 if one breaks its rule.

    ``spell`` says how the user named a setting.
    """
    try:
        return Settings.of(**values)
    except ValidationError as error:
        parser.error("; ".join(describe(e, spell) for e in error.errors()[:3]))


def given_flags(arguments: argparse.Namespace) -> list[str]:
    """The flags of settings as they were given, for a command line to go on with."""
    flags: list[str] = []
    for name in FIELDS:
        if name in vars(arguments):
            value = getattr(arguments, name)
            values = value if isinstance(value, list) else [value]
            flags += [flag(name), *(() if is_switch(name) else values)]
    return flags


def describe(error: Any, spell: Any = str) -> str:
    """One validation error as ``name: rule, got value``."""
    place = error["loc"][1:] if error["loc"] and error["loc"][0] in GROUPS else error["loc"]
    name = spell(str(place[0])) if place else "settings"
    if not name.isprintable() or len(name) > _MOST_SHOWN:  # an unknown key of a file
        name = shown(name)
    message = error["msg"].removeprefix("Value error, ")
    if place and place[0] in _UNSHOWN:
        return f"{name}: {message[0].lower()}{message[1:]}"  # its value is nobody's business
    whole = isinstance(error["input"], Mapping)  # a rule of several settings, which it names
    if not whole and "got " not in message and error["type"] not in ("missing", "extra_forbidden"):
        message = f"{message[0].lower()}{message[1:]}, got {shown(error['input'])}"
    return f"{name}: {message if len(message) <= _MOST_SHOWN else message[:_MOST_SHOWN] + '...'}"


def _metavar(name: str, field: FieldInfo) -> str:
    if name in _METAVARS:
        return _METAVARS[name]
    annotation = str(field.annotation)
    if "float" in annotation:
        return "X"
    return "N" if "int" in annotation else name.rpartition("_")[2].upper()


def _help(name: str, field: FieldInfo) -> str:
    text = (field.description or "").replace("%", "%%") + _MORE_HELP.get(name, "")
    default = field.get_default(call_default_factory=True) if not field.is_required() else None
    if default in (None, []) or is_switch(name):
        return text
    value = format_bytes(default) if name in SIZES else default
    return f"{text} Default: {value}."


def _choices(field: FieldInfo) -> tuple[str, ...]:
    annotation: Any = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _flags(parser: argparse.ArgumentParser, found: argparse.Namespace) -> list[str]:
    """Every flag of a parser and of the command that was chosen."""
    flags: list[str] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            flags += _flags(action.choices[found.name], found)
        flags += action.option_strings
    return flags
