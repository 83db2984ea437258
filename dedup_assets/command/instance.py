"""The Dagster instance that a run of the command records its events in."""

import fcntl
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import dagster as dg
from dagster import DagsterInvalidInvocationError
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster_shared.check import CheckError
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError

from dedup_assets.errors import SettingsError, shorten
from dedup_assets.store import layout
from dedup_assets.store.access import is_remote
from dedup_assets.store.fingerprints import fingerprint

_GUARD = ".dedup-assets.lock"
_CONFIG = "dagster.yaml"

_SPECIAL = set("?%*[")
"""Dagster writes the path of its database into a URL as it is, and looks for its configuration by a
pattern: where it does not find it, telemetry is on."""

_DAMAGED = {"SQLITE_ERROR", "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT", "SQLITE_SCHEMA"}
"""Codes of SQLite for a file that is no database, or lacks a table or a column."""

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
        SettingsError: ``DAGSTER_HOME`` is not a folder that Dagster can use.
    """
    home = os.environ.get("DAGSTER_HOME")
    if home and not Path(home).is_dir():
        raise SettingsError(
            f"DAGSTER_HOME is {home}, which is no folder; make it, or unset DAGSTER_HOME to keep "
            f"the events in {own_instance(output)}"
        )
    folder = Path(home).absolute() if home else own_instance(output)
    if wrong := sorted(_SPECIAL & set(str(folder))):
        raise SettingsError(
            f"Dagster cannot keep its events in {folder}: the path holds {wrong[0]}, by which it "
            "does not find its dagster.yaml or its database; set DAGSTER_HOME to another folder"
        )
    try:
        if not home:
            refuse_links(folder)
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
    except SQLAlchemyError as error:
        raise _refused(folder, error) from error
    os.environ["DAGSTER_HOME"] = str(folder)  # Dagster wants it absolute


def has_instance(output: str) -> bool:
    """Whether there is an instance to look at, without making one."""
    home = os.environ.get("DAGSTER_HOME")
    return Path(home).is_dir() if home else (own_instance(output) / _CONFIG).exists()


@contextmanager
def open_instance() -> Iterator[dg.DagsterInstance]:
    """The instance of `use_instance`. One process at a time: the first one makes its tables.

    Raises:
        SettingsError: its configuration or its database cannot be used.
    """
    # Halves the events that a run over many partitions starts with. Not for the UI: Dagster does
    # not mark partitions as failed then.
    os.environ.setdefault("DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS", "1")
    folder = Path(os.environ["DAGSTER_HOME"])
    with _alone(folder):
        instance = _open(folder)
    try:
        with instance:
            yield instance
    except SQLAlchemyError as error:
        raise _refused(folder, error) from error


@contextmanager
def held_open(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Keep the SQLite databases of a run's events open, where they are in some.

    Dagster opens them anew for each event, and who closes one last writes its log back and syncs
    it to disk.
    """
    storage = instance.event_log_storage
    with ExitStack() as held:
        if isinstance(storage, SqliteEventLogStorage):
            with storage.run_connection(run_id):
                pass  # makes the database
            for shard in (INDEX_SHARD_NAME, run_id):
                connection = sqlite3.connect(storage.path_for_shard(shard))
                held.enter_context(closing(connection))
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens it
        yield


def _open(folder: Path) -> dg.DagsterInstance:
    try:
        instance = dg.DagsterInstance.get()
        _touch_tables(instance)
    except SQLAlchemyError as error:
        raise _refused(folder, error) from error
    except (DagsterInvalidInvocationError, CheckError) as error:
        if "instance migrate" not in str(error):
            raise _unusable(folder, error) from error
        raise _damaged(folder, error) from error
    except Exception as error:  # of any kind, since a configuration names classes to load
        raise _unusable(folder, error) from error
    return instance


def _touch_tables(instance: dg.DagsterInstance) -> None:
    """Ask the three databases for what a run needs; each makes its tables at the first time."""
    asset = dg.AssetKey("none")
    instance.get_runs(limit=1)
    instance.get_run_tags(["none"])
    instance.daemon_cursor_storage.get_cursor_values({"none"})
    instance.all_instigator_state()
    instance.get_dynamic_partitions("none")
    instance.get_asset_records([asset])
    instance.event_log_storage.get_event_tags_for_asset(asset)
    check = dg.AssetCheckKey(asset, "none")
    instance.event_log_storage.get_latest_asset_check_execution_by_key([check])


def _refused(folder: Path, error: SQLAlchemyError) -> SettingsError:
    """What to say where Dagster's database fails."""
    why = getattr(error, "orig", None) or error
    if isinstance(error, NoSuchTableError) or getattr(why, "sqlite_errorname", "") in _DAMAGED:
        return _damaged(folder, why)
    return SettingsError(
        f"Dagster cannot write its events to {folder} ({shorten(why)}); free space there, or set "
        "DAGSTER_HOME to another folder, and run again"
    )


def _unusable(folder: Path, error: Exception) -> SettingsError:
    errors = getattr(error, "errors", None)
    why = errors[0].message if errors else f"{type(error).__name__}: {error}"
    for value in (' Value "', ", instead got", ". Expected:"):  # it may be a secret, or is long
        why = why.partition(value)[0]
    return SettingsError(
        f"Dagster cannot use {folder / _CONFIG} ({shorten(why)}); correct it, or set DAGSTER_HOME "
        "to another folder"
    )


def _damaged(folder: Path, why: object) -> SettingsError:
    return SettingsError(
        f"Dagster's database in {folder} is damaged or of another version ({shorten(why)}); move "
        "that folder away or delete it, or set DAGSTER_HOME to another one: lost with it is what "
        "Dagster shows of earlier runs, and no result"
    )


def _make_instance(folder: Path) -> None:
    """Make Dagster's database and configuration aside, unless they are there, and move them in.

    Dagster does not complete the tables that a killed run left half made: every later run would
    fail. The configuration comes last and says that all is there.
    """
    if (folder / _CONFIG).exists():
        _refuse_other_config(folder / _CONFIG)
        return
    aside = folder / "new"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    (aside / _CONFIG).write_text(_INSTANCE_YAML)
    with dg.DagsterInstance.from_config(str(aside)) as instance:
        _touch_tables(instance)
    for part in ("history", "schedules", _CONFIG):
        if not (folder / part).exists():
            (aside / part).replace(folder / part)
    shutil.rmtree(aside, ignore_errors=True)


def refuse_links(folder: Path) -> None:
    """Refuse links in the instance of an output, which may come from someone else.

    Dagster writes to its databases and logs wherever they lead to.

    Raises:
        SettingsError: there is one.
    """
    databases = (p for part in ("history", "schedules") for p in (folder / part).rglob("*"))
    within = folder.iterdir() if folder.is_dir() else ()
    for path in (folder, *within, *databases):
        if path.is_symlink():
            raise SettingsError(
                f"{path} is a link, and what Dagster keeps of an output lies in it; delete the "
                "link, or set DAGSTER_HOME to a folder of yours"
            )


def _refuse_other_config(path: Path) -> None:
    """Refuse a configuration that is not ours: it may name any class to load, and any place.

    Raises:
        SettingsError: it is.
    """
    with path.open("rb") as file:
        if file.read(len(_INSTANCE_YAML) + 1) != _INSTANCE_YAML.encode():
            raise SettingsError(
                f"{path} is not what dedup-assets writes there, and may come from someone else; "
                f"delete it, or if it is yours, set DAGSTER_HOME to {path.parent}"
            )


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
        if not _SPECIAL & set(output):
            return Path(output, layout.INSTANCE)
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    readable = re.sub(r"[^A-Za-z0-9]+", "-", output.rpartition("://")[2]).strip("-")[-100:]
    return Path(state, "dedup-assets", f"{readable}-{fingerprint(output.rstrip('/'))[:8]}")
