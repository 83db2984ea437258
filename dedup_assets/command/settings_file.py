"""``settings.json`` of an output folder: the settings it was made with, as data, never rendered.

The folder may come from someone else. So the file holds no credentials, and results go to the
folder that it lies in, whatever it says.
"""

import json
from pathlib import Path

from pydantic import ValidationError

from dedup_assets.command.arguments import describe
from dedup_assets.errors import SettingsError, shown
from dedup_assets.settings import (
    FIELDS,
    OF_CLUSTER,
    OF_PROJECT,
    OF_READER,
    PATHS,
    SECRET,
    Settings,
)
from dedup_assets.settings.videos import Videos
from dedup_assets.store import layout
from dedup_assets.store.access import Access, is_remote
from dedup_assets.store.filesystem import Store
from dedup_assets.store.guard import refuse_other_dataset, refuse_other_layout
from dedup_assets.store.strict_json import MOST_BYTES, JsonError, parse_json

VERSION = 1
UNWRITTEN = SECRET | OF_PROJECT | OF_CLUSTER | OF_READER | {"output_clip_path"}
"""Settings that no output folder may set: secrets, what is of the reader's own, and another place
to write to."""

_AGAIN = "run dedup-assets run with this output_path again, which writes the file anew"


def write_settings(settings: Settings, store: Store) -> None:
    """Write the settings of a run, whose paths are absolute."""
    if settings.videos.output_clip_path is not None:
        # Whoever opens the folder writes to it alone, so the clips elsewhere are an input to them.
        settings = _reading_clips(settings)
    written = {k: v for k, v in settings.values().items() if k not in UNWRITTEN}
    document = {"version": VERSION, "settings": written}
    store.write_bytes(layout.SETTINGS, f"{json.dumps(document, indent=1)}\n".encode())


def _reading_clips(settings: Settings) -> Settings:
    """The settings of a dataset whose embeddings are those that were made of the videos."""
    storage = settings.storage
    return settings.replace(
        **{name: field.default for name, field in Videos.model_fields.items()},
        input_embeddings_path=settings.split_path,
        metadata_fields=settings.described_columns,
        input_s3_profile_name=storage.output_s3_profile_name,
        input_s3_endpoint_url=storage.output_s3_endpoint_url,
    )


def load_settings(output: str, access: Access | None = None, copy: str | None = None) -> Settings:
    """Read the settings that an output folder was made with.

    Args:
        output: absolute path or URL of the folder, which `output_path` becomes: it may have moved.
        access: credentials and endpoint of a URL.
        copy: another folder to read the file from.

    Raises:
        SettingsError: there is none, or it breaks a rule.
    """
    store = Store(copy or output, access)
    settings = read_settings(store)
    if settings is None:
        raise SettingsError(
            f"{store.url(layout.SETTINGS)} does not exist; give the output folder of "
            "dedup-assets run"
        )
    return settings.replace(output_path=output)


def read_settings(store: Store) -> Settings | None:
    """The settings of the last run into a folder, if there was one.

    Raises:
        SettingsError: the file breaks a rule.
    """
    try:
        with store.open(layout.SETTINGS) as file:
            return _parse(file.read(MOST_BYTES + 1))
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error}); make it a file that you may read"
        raise SettingsError(f"{store.url(layout.SETTINGS)} {problem}") from error
    except SettingsError as error:
        raise SettingsError(f"{store.url(layout.SETTINGS)}: {error}") from error


def check_output(settings: Settings) -> None:
    """Refuse, before anything is written, an output folder that this run must not write to.

    Raises:
        SettingsError: it is of another dataset or layout, or cannot be read.
    """
    store = settings.storage.open_output()
    try:
        refuse_other_dataset(store, settings.dataset)
        refuse_other_layout(store)
    except OSError as error:
        raise SettingsError(
            f"output_path {settings.storage.output_path} cannot be read "
            f"({error.strerror or error}); choose a folder that you may read and write"
        ) from error


def _parse(data: bytes) -> Settings:
    try:
        document = parse_json(data)
    except JsonError as error:
        raise SettingsError(f"{error}; {_AGAIN}") from error
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is int and version > VERSION:
        raise SettingsError(
            f"is of version {shown(version)}, and this dedup-assets reads version {VERSION}; "
            "update dedup-assets"
        )
    known = type(version) is int and version == VERSION
    values = document.get("settings") if known else None
    if not isinstance(values, dict):
        raise SettingsError(f"is not a file that dedup-assets run writes; {_AGAIN}")
    if UNWRITTEN & values.keys():
        raise SettingsError(
            f"{min(UNWRITTEN & values.keys())} must not be in it: it may hold secrets, or name "
            f"what is not of this folder; {_AGAIN}"
        )
    unknown = values.keys() - FIELDS.keys()
    if unknown:
        raise SettingsError(f"{shown(min(unknown))} is not a setting; {_AGAIN}")
    try:
        settings = Settings.of(**values)
    except ValidationError as error:
        broken = "; ".join(describe(e) for e in error.errors()[:3])
        raise SettingsError(f"{broken}; {_AGAIN}") from error
    for name in PATHS:
        path = settings.values()[name]
        if path is not None and not is_remote(path) and not Path(path).is_absolute():
            raise SettingsError(f"{name}: must be an absolute path, got {shown(path)}; {_AGAIN}")
    return settings
