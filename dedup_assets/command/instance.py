"""The Dagster instance that a run of the command records its events in."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from sqlalchemy.exc import DBAPIError

from dedup_assets.errors import SettingsError
from dedup_assets.store import layout
from dedup_assets.store.access import is_remote
from dedup_assets.store.fingerprints import fingerprint

_GUARD = ".dedup-assets.lock"
_CONFIG = "dagster.yaml"

_INSTANCE_YAML = """\
# Dagster instance of this output folder. It stores its events next to this file.
telemetry:
  enabled: false
nux:
  enabled: false
"""


def use_instance(output: str) -> None:
    """Point Dagster at ``DAGSTER_HOME``, or if that is unset at ``<output>/.dagster``.

    Raises:
        SettingsError: ``DAGSTER_HOME`` is no folder.
    """
    home = os.environ.get("DAGSTER_HOME")
    if home and not Path(home).is_dir():
        raise SettingsError(
            f"DAGSTER_HOME is {home}, which is no folder; make it, or unset DAGSTER_HOME to keep "
            f"the events in {own_instance(output)}"
        )
    folder = Path(home).absolute() if home else own_instance(output)
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


def own_instance(output: str) -> Path:
    """Where an output's events go: below it, or else below the user's state folder."""
    if not is_remote(output):
        output = str(Path(output).absolute())
        # Dagster writes the path of its database into a URL as it is.
        if not set(output) & set("?%"):
            return Path(output, layout.INSTANCE)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    readable = re.sub(r"[^A-Za-z0-9]+", "-", output.rpartition("://")[2]).strip("-")[-100:]
    return Path(state, "dedup-assets", f"{readable}-{fingerprint(output.rstrip('/'))[:8]}")
