"""What a command is asked to do: by flags, or by a spec and a few flags beside it."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dedup_assets.command.arguments import AUTO, S3_SETTINGS, check_settings, flag, given_values
from dedup_assets.command.settings_file import load_settings
from dedup_assets.command.spec import RUN_KEYS, Spec, SpecError, read_spec
from dedup_assets.component import rooted
from dedup_assets.errors import SettingsError
from dedup_assets.settings import FIELDS, OF_CLUSTER, OF_READER, Settings
from dedup_assets.stages.overlaps import refuse_overlaps
from dedup_assets.store.access import Access, check_endpoint, is_object, is_other_url, is_remote
from dedup_assets.store.local import absolute_path

BESIDE = (
    *("input_zip", "output_zip", "output_path", "replace_shards", "verbose"),
    *sorted(OF_CLUSTER | OF_READER),
    *S3_SETTINGS,
)
"""Flags that may be given beside a spec."""

_REQUIRED = tuple(name for name, field in FIELDS.items() if field.is_required())
_INSTEAD = {"input_embeddings_path": "video_dir or --input-zip", "output_path": "--output-path"}
_OR = {"input_embeddings_path": " (or --video-dir)"}
_Spell = Callable[[str], str]


@dataclass(frozen=True)
class Job:
    """A run to do.

    Attributes:
        settings: with absolute paths; of ``n_clusters`` 1 where it is to be chosen.
        choose_clusters: whether to choose ``n_clusters``.
        time_budget: seconds within which to choose it; None for the default.
        output_zip: absolute path or URL that the results are packed into.
    """

    settings: Settings
    choose_clusters: bool
    time_budget: float | None
    refit: bool
    replace_shards: bool
    verbose: bool
    output_zip: str | None


def read_job(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Job:
    """The job of some arguments; ends the process with exit code 2 if one breaks its rule."""
    flags = given_values(arguments) | {
        name: value
        for name in RUN_KEYS
        if (value := getattr(arguments, name)) is not None and value is not False
    }
    try:
        if arguments.spec is None:
            return _job(parser, flags, flag)
        return _job_of_spec(parser, arguments.spec, flags)
    except SpecError as error:
        place = "" if arguments.spec is None else f"--spec {arguments.spec}: "
        parser.error(f"{place}{error}")


def _job_of_spec(parser: argparse.ArgumentParser, source: str, flags: dict[str, Any]) -> Job:
    alien = [flag(name) for name in flags if name not in BESIDE]
    if alien:
        raise SpecError(f"{', '.join(alien)} cannot be given beside a spec; write it into its args")
    spec = _read_spec(source, flags)

    def spell(name: str) -> str:
        return flag(name) if name in flags else f"args.{spec.keys.get(name, name)}"

    for name, value in flags.items():
        if spec.values.get(name, value) != value:
            raise SpecError(f"{flag(name)} and args.{spec.keys[name]} differ; give one of them")
    return _job(parser, {**spec.values, **flags}, spell, of_spec=True)


def _read_spec(source: str, flags: dict[str, Any]) -> Spec:
    """A spec, reached as the flags beside it say."""
    endpoint = flags.get("input_s3_endpoint_url")
    try:
        access = Access(flags.get("input_s3_profile_name"), endpoint and check_endpoint(endpoint))
    except ValueError as error:
        raise SpecError(f"{flag('input_s3_endpoint_url')}: {error}") from None
    return read_spec(source, access)


def read_output(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Settings:
    """The settings of the output folder that a command was given, with the S3 access it was given.

    Profiles and endpoints come from flags, else from the spec, else from the folder's own settings.
    Ends the process with exit code 2 if a flag or the spec breaks its rule.

    Raises:
        SettingsError: the folder is not one of ``dedup-assets run``.
    """
    given = given_values(arguments)
    keys: dict[str, str] = {}
    if arguments.spec is not None:
        try:
            spec = _read_spec(arguments.spec, given)
        except SpecError as error:
            parser.error(f"--spec {arguments.spec}: {error}")
        keys = {name: f"args.{spec.keys[name]}" for name in S3_SETTINGS if name in spec.values}
        given = {name: spec.values[name] for name in keys} | given
    spelled = {"output_path": "OUTPUT"} | keys | {n: flag(n) for n in given_values(arguments)}
    whatever = {"input_embeddings_path": "/", "n_clusters": 1}
    asked = check_settings(
        parser, {**whatever, "output_path": arguments.output, **given}, lambda name: spelled[name]
    )
    asked = rooted(asked, Path.cwd())
    settings = load_settings(asked.storage.output_path, asked.storage.output_access)
    return settings.replace(**{name: asked.values()[name] for name in given})


def _job(
    parser: argparse.ArgumentParser, values: dict[str, Any], spell: _Spell, *, of_spec: bool = False
) -> Job:
    spell = _take_input_zip(values, spell)
    begins = any(name in values for name in ("input_embeddings_path", "video_dir"))
    missing = [] if begins else ["input_embeddings_path"]
    missing += [name for name in _REQUIRED if name not in values]
    if missing and of_spec:
        also = " and ".join(_INSTEAD[name] for name in missing if name in _INSTEAD)
        also = also and f" (or give {also})"
        raise SpecError(f"args must have {', '.join(missing)}{also}")
    if missing:
        named = [f"{flag(name)}{_OR.get(name, '')}" for name in missing]
        raise SpecError(f"the following arguments are required: {', '.join(named)}")
    choose = values["n_clusters"] == AUTO
    if "time_budget" in values and not choose:
        raise SpecError(f"{spell('time_budget')} goes with {spell('n_clusters')} auto")
    given = {name: value for name, value in values.items() if name not in RUN_KEYS}
    instead = {"n_clusters": 1} if choose else {}
    settings = rooted(check_settings(parser, given | instead, spell), Path.cwd())
    output_zip = _output_zip(values["output_zip"], spell) if "output_zip" in values else None
    try:  # now, before anything is written
        refuse_overlaps(settings, output_zip, spell)
    except (SettingsError, OSError) as error:
        raise SpecError(str(error)) from error
    return Job(
        settings,
        choose,
        values.get("time_budget"),
        values.get("refit", False),
        values.get("replace_shards", False),
        values.get("verbose", False),
        output_zip,
    )


def _take_input_zip(values: dict[str, Any], spell: _Spell) -> _Spell:
    """``input_zip`` is ``input_embeddings_path`` for a ZIP file; says how to spell that then."""
    path = values.get("input_zip")
    if path is None:
        return spell
    _check_suffix(path, spell("input_zip"))
    if values.setdefault("input_embeddings_path", path) != path:
        raise SpecError(
            f"{spell('input_zip')} and {spell('input_embeddings_path')} differ; give one of them"
        )
    return lambda name: spell("input_zip" if name == "input_embeddings_path" else name)


def _output_zip(path: str, spell: _Spell) -> str:
    name = spell("output_zip")
    _check_suffix(path, name)
    if is_other_url(path) or (is_remote(path) and not is_object(path)):
        raise SpecError(f"{name}: must be a local path or s3://bucket/key, got {path!r}")
    return path if is_remote(path) else absolute_path(path, Path.cwd())


def _check_suffix(path: str, name: str) -> None:
    if "\0" in path:
        raise SpecError(f"{name}: must hold no NUL character, got {path!r}")
    if not path.lower().endswith(".zip"):
        raise SpecError(f"{name}: must end in .zip, got {path!r}")
