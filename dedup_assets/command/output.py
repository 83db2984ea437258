"""An output folder of the command: the configuration it ran with, and its page in the UI."""

import os
import sys

import dagster as dg
import yaml
from pydantic import ValidationError

from dedup_assets.automation import LOCATION
from dedup_assets.command.arguments import describe
from dedup_assets.command.instance import own_instance, use_instance
from dedup_assets.component import SemanticDedup, build_definitions
from dedup_assets.errors import SettingsError
from dedup_assets.settings import Settings
from dedup_assets.store import layout
from dedup_assets.store.access import Access, is_remote
from dedup_assets.store.filesystem import Store
from dedup_assets.store.guard import refuse_other_layout

TYPE = "dedup_assets.SemanticDedup"
OUTPUT = "DEDUP_ASSETS_OUTPUT"
"""Environment variable: an output folder whose ``defs.yaml`` is loaded instead of ``defs/``."""


def write_defs(settings: Settings, store: Store) -> None:
    """Write the component configuration; the same file works in ``defs/<name>/``.

    Raises:
        SettingsError: the folder holds files in another layout.
    """
    refuse_other_layout(store)
    # Storage options may hold secrets: those of the YAML come from the environment, and stay there.
    attributes = settings.model_dump(
        exclude_defaults=True,
        exclude={"input_storage_options", "output_storage_options"},
        mode="json",
    )
    document = {"type": TYPE, "attributes": {"dataset": settings.dataset, **attributes}}
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    store.write_bytes(layout.DEFS, text.encode())


def load_settings(output: str, access: Access | None = None) -> SemanticDedup:
    """Read the configuration that an output folder was made with.

    Raises:
        SettingsError: there is none, or a setting breaks its rule.
    """
    store = Store(output, access)
    try:
        text = store.read_bytes(layout.DEFS)
    except FileNotFoundError:
        raise SettingsError(
            f"{store.url(layout.DEFS)} does not exist; give the output folder of dedup-assets run"
        ) from None
    try:
        return SemanticDedup.from_attributes_dict(attributes=yaml.safe_load(text)["attributes"])
    except ValidationError as error:
        broken = "; ".join(describe(e) for e in error.errors()[:3])
        raise SettingsError(f"{store.url(layout.DEFS)}: {broken}") from error


def recorded_clusters(store: Store, dataset: str) -> int | None:
    """The ``n_clusters`` of the last run of a dataset into an output folder, if there was one."""
    try:
        attributes = yaml.safe_load(store.read_bytes(layout.DEFS))["attributes"]
    except (FileNotFoundError, yaml.YAMLError, KeyError, TypeError):
        return None  # none, or nothing that a run has written
    if not isinstance(attributes, dict) or attributes.get("dataset") != dataset:
        return None
    found = attributes.get("n_clusters")
    return found if isinstance(found, int) else None


def load_output(output: str) -> dg.Definitions:
    """Definitions of the dataset that an output folder describes."""
    return build_definitions(load_settings(output))


def open_ui(output: str, port: int, access: Access | None = None) -> int:
    """Become a Dagster web server and daemon on what an output folder describes.

    Raises:
        SettingsError: the folder is not one of the command's.
    """
    settings = load_settings(output, access)
    use_instance(output)
    workspace = own_instance(output) / "workspace.yaml"
    workspace.parent.mkdir(parents=True, exist_ok=True)
    if is_remote(output):
        # The definitions are loaded often, and by several processes: from this machine.
        write_defs(settings, Store(str(workspace.parent)))
        output = str(workspace.parent)
    workspace.write_text(
        "load_from:\n  - python_module:\n      module_name: dedup_assets.definitions\n"
        f"      location_name: {LOCATION}\n"
    )
    os.environ[OUTPUT] = output
    os.chdir(workspace.parent)  # Dagster would import modules from the folder of the caller
    sys.stdout.write(f"http://127.0.0.1:{port} in some 15 seconds; stop with Ctrl-C\n")
    sys.stdout.flush()
    os.execv(
        sys.executable,
        [
            *(sys.executable, "-W", "ignore:Function `dev_command` is superseded"),
            *("-m", "dagster", "dev", "-w", str(workspace)),
            *("-h", "127.0.0.1", "-p", str(port)),
        ],
    )
