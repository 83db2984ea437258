"""What the command shows: progress bars while it works, and tables at the end."""

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from dedup_assets.errors import DedupError
from dedup_assets.progress import Advance, LogProgress
from dedup_assets.progress import Progress as Listener


class OutputError(DedupError):
    """Standard output cannot be written."""


class _Guarded:
    """A stream whose faults are told apart from those of other files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _named_faults():
            return self._stream.write(text)

    def flush(self) -> None:
        with _named_faults():
            self._stream.flush()


@contextmanager
def _named_faults() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"standard output cannot be written ({error.strerror}); free space there or send it "
            "elsewhere, and run again"
        ) from error


@contextmanager
def guarded_output() -> Iterator[None]:
    """Let faults of standard output be errors of their own, to the last byte of it.

    Raises:
        OutputError: it cannot be written.
    """
    guarded = _Guarded(sys.stdout or io.StringIO())  # none where it is closed
    try:
        with redirect_stdout(guarded):
            try:
                yield
            finally:
                guarded.flush()
    except OutputError:
        # Python flushes it again at its end, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def show_progress(console: Console) -> Listener:
    """Bars in a terminal; elsewhere, such as in a log file, a line at most every ten seconds."""
    if console.is_terminal:
        return TerminalProgress(console)
    return LogProgress(lambda line: console.out(line, highlight=False))


class TerminalProgress:
    """A bar for each pass under way. Where the output is no terminal, nothing."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._open: list[TaskID] = []

    def start(self, label: str, total: int, unit: str) -> Advance:
        if not self._open:
            self._bars.start()
        task = self._bars.add_task(label, total=total or None, unit=unit)
        self._open.append(task)
        return lambda units: self._bars.advance(task, units)

    def finish(self) -> None:
        self._bars.remove_task(self._open.pop())
        if not self._open:
            self._bars.stop()


def make_table(
    title: str, columns: list[str], rows: list[list[Any]], right: Sequence[str] = ()
) -> Table:
    """A table whose numbers, and the columns ``right``, are right-aligned; with separators."""
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    for position, name in enumerate(columns):
        numeric = name in right or any(isinstance(row[position], int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(value) for value in row))
    return table


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
