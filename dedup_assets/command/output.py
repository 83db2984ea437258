"""An output folder of the command: the configuration it ran with, and its Dagster instance."""

import fcntl
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import yaml
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from dedup_assets.automation import LOCATION
from dedup_assets.command.arguments import describe
from dedup_assets.component import SemanticDedup, build_definitions
from dedup_assets.errors import SettingsError
from dedup_assets.settings import Settings
from dedup_assets.store import layout
from dedup_assets.store.access import Access, is_remote
from dedup_assets.store.filesystem import Store
from dedup_assets.store.fingerprints import fingerprint
from dedup_assets.store.guard import refuse_other_layout

TYPE = "dedup_assets.SemanticDedup"
OUTPUT = "DEDUP_ASSETS_OUTPUT"
"""Environment variable: an output folder whose ``defs.yaml`` is loaded instead of ``defs/``."""

_GUARD = ".dedup-assets.lock"
_CONFIG = "dagster.yaml"

_INSTANCE_YAML = """\
# Dagster instance of this output folder. It stores its events next to this file.
telemetry:
  enabled: false
nux:
  enabled: false
"""


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


def use_instance(output: str) -> None:
    """Point Dagster at ``DAGSTER_HOME``, or if that is unset at ``<output>/.dagster``.

    Raises:
        SettingsError: ``DAGSTER_HOME`` is no folder.
    """
    home = os.environ.get("DAGSTER_HOME")
    if home and not Path(home).is_dir():
        raise SettingsError(
            f"DAGSTER_HOME is {home}, which is no folder; make it, or unset DAGSTER_HOME to keep "
            f"the events in {_own_instance(output)}"
        )
    folder = Path(home).absolute() if home else _own_instance(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _GUARD).touch()
        if not home:
            with _alone(folder):
                _make_instance(folder)
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be written ({error.strerror}); the events of runs go there: choose "
            "another output_path, or set DAGSTER_HOME to a folder of yours"
        ) from error
    except DBAPIError as error:
        raise refused_events(folder, error) from error
    os.environ["DAGSTER_HOME"] = str(folder)  # Dagster wants it absolute


def open_instance() -> dg.DagsterInstance:
    """The instance of `use_instance`. One process at a time: the first one makes its tables."""
    # Halves the events that a run over many partitions starts with. Not for the UI: Dagster does
    # not mark partitions as failed then.
    os.environ.setdefault("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "1")
    with _alone(Path(os.environ["DAGSTER_HOME"])):
        return dg.DagsterInstance.get()


def refused_events(folder: str | Path, error: DBAPIError) -> SettingsError:
    """What to say where Dagster's database cannot be written."""
    return SettingsError(
        f"Dagster cannot write its events to {folder} ({error.orig}); free space there, or set "
        "DAGSTER_HOME to another folder, and run again"
    )


def _make_instance(folder: Path) -> None:
    """Make Dagster's database and configuration aside, unless they are there, and move them in.

    Dagster does not mend tables of which a killed run has made some only: every later run would
    fail. The configuration comes last and says that all is there.
    """
    if (folder / _CONFIG).exists():
        return
    aside = folder / "new"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    (aside / _CONFIG).write_text(_INSTANCE_YAML)
    with dg.DagsterInstance.from_config(str(aside)) as instance:
        # Each of the three databases gets its tables when it is first asked for something.
        instance.get_runs_count()
        instance.get_dynamic_partitions("")
        instance.all_instigator_state()
    for part in ("history", "schedules", _CONFIG):
        if not (folder / part).exists():
            (aside / part).replace(folder / part)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time in a block, for an instance's folder."""
    with (folder / _GUARD).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _own_instance(output: str) -> Path:
    """Where an output's events go: below it, or else below the user's state folder."""
    if not is_remote(output):
        output = str(Path(output).absolute())
        # Dagster writes the path of its database into a URL as it is.
        if not set(output) & set("?%"):
            return Path(output, layout.INSTANCE)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    readable = re.sub(r"[^A-Za-z0-9]+", "-", output.rpartition("://")[2]).strip("-")[-100:]
    return Path(state, "dedup-assets", f"{readable}-{fingerprint(output.rstrip('/'))[:8]}")


def open_ui(output: str, port: int, access: Access | None = None) -> int:
    """Become a Dagster web server and daemon on what an output folder describes.

    Raises:
        SettingsError: the folder is not one of the command's.
    """
    settings = load_settings(output, access)
    use_instance(output)
    workspace = _own_instance(output) / "workspace.yaml"
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
