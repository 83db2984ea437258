"""What Dagster's SQLite storage does anew for each event, done once: a third of a run in a test.

For each event it makes an engine, which has to compile its statements, and whenever it opens a
database, it executes all of its migrations to learn the number of the last one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

_MOST_ENGINES = 16
"""Of databases in use; a test has a few, and there are thousands of tests."""


@contextmanager
def done_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
            patch.setattr(module, "create_engine", _kept_engines(module.create_engine))
        patch.setattr(ScriptDirectory, "from_config", _kept_scripts(ScriptDirectory.from_config))
        yield


def _kept_engines(create_engine: Callable[..., Any]) -> Callable[..., Any]:
    engines: dict[str, Any] = {}

    def kept(url: str, **options: Any) -> Any:
        key = f"{url} {options}"
        if key not in engines:
            if len(engines) == _MOST_ENGINES:
                del engines[next(iter(engines))]
            engines[key] = create_engine(url, **options)
        return engines[key]

    return kept


def _kept_scripts(from_config: Callable[[Config], Any]) -> Callable[[Config], Any]:
    scripts: dict[tuple[str | None, str | None], Any] = {}

    def kept(config: Config) -> Any:
        key = config.config_file_name, config.get_main_option("script_location")
        if key not in scripts:
            scripts[key] = from_config(config)
        return scripts[key]

    return kept
