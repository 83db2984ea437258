"""``dedup-assets run``: the graph on an instance on disk, then what came out."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import dagster as dg
from rich.console import Console

from dedup_assets.command.instance import open_instance, use_instance
from dedup_assets.command.plan import plan_run, plan_videos, show_plan
from dedup_assets.command.report import show_report
from dedup_assets.command.runner import Report, run_graph
from dedup_assets.command.settings_file import check_output, write_settings
from dedup_assets.command.split import show_failures
from dedup_assets.command.terminal import show_progress
from dedup_assets.engine import session
from dedup_assets.errors import SettingsError
from dedup_assets.graph import TASKS
from dedup_assets.progress import listening, track
from dedup_assets.runs import LOCATION
from dedup_assets.settings import Settings
from dedup_assets.stages.machine import engine_of
from dedup_assets.stages.plan import Work
from dedup_assets.stages.videos import Splitting
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store.locks import COMMAND, WHOLE, writing
from dedup_assets.store.sizes import format_bytes
from dedup_assets.store.zip_writer import pack, refuse_other_file


@dataclass(frozen=True)
class RunOptions:
    """What a run is told beside its settings.

    Attributes:
        verbose: show Dagster's log.
        refit: fit the centroids again.
        replace_shards: replace curated clips also where media would be lost.
        output_zip: path or URL that the results are packed into.
        location: code location under which the UI lists the Dagster runs.
    """

    verbose: bool = False
    refit: bool = False
    replace_shards: bool = False
    output_zip: str | None = None
    location: str = LOCATION


def run_and_report(
    settings: Settings,
    console: Console,
    options: RunOptions,
    *,
    complete: Callable[[Settings], Settings] | None = None,
) -> int:
    """Run the graph on an instance on disk, say what came out, and pack it if asked to.

    No other command works on the output meanwhile.

    Args:
        settings: of the dataset.
        console: where to print.
        options: what else was asked for.
        complete: chooses what the settings leave open.

    Raises:
        LockedError: another command works on the output.
    """
    check_output(settings)
    if options.output_zip is not None:
        refuse_other_file(options.output_zip, settings.storage.output_access)
    with alone(settings):
        check_output(settings)  # another dataset's command may have been quicker
        started = time.monotonic()
        report = Report()
        for warning in settings.warnings():
            console.print(warning, style="yellow", markup=False)
        if settings.begins_with_videos:
            _split(settings, console, options, report)
        if complete is not None:
            settings = complete(settings)
        return _run(settings, console, options, report, started)


@contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Hold the lease of the command on an output, and point Dagster at its instance.

    Raises:
        LockedError: another command works on the output.
    """
    use_instance(settings.storage.output_path)
    with ExitStack() as held:
        with _writable(settings):
            held.enter_context(writing(settings.storage.open_output(), COMMAND, [WHOLE], reads={}))
        yield


@contextmanager
def _writable(settings: Settings) -> Iterator[None]:
    """Name the output in errors of writing to it."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"output_path {settings.storage.output_path} cannot be written ({error.strerror}); "
            "choose a folder that you may write to"
        ) from error


def _split(settings: Settings, console: Console, options: RunOptions, report: Report) -> None:
    """Make what is lacking of the clips and their embeddings, before clusters can be chosen."""
    store = settings.storage.open_output()
    with open_instance() as instance, listening(show_progress(console)):
        with track("planning"):
            work = plan_videos(settings, store, instance)
        if work:
            show_plan(console, work)
            _execute(settings, instance, work, console, options, report)
    common = Splitting(settings)
    common.store.sweep()  # of a run that was killed, also where none was started now
    show_failures(console, common)


def _run(
    settings: Settings, console: Console, options: RunOptions, report: Report, started: float
) -> int:
    store = settings.storage.open_output()
    with _writable(settings):
        write_settings(settings, store)
    with open_instance() as instance, listening(show_progress(console)):
        with track("planning"):
            work = plan_run(settings, store, instance, refit=options.refit)
        show_plan(console, work)
        _execute(settings, instance, work, console, options, report)
        store.sweep()  # each asset does, but perhaps none was started
    with listening(show_progress(console)), track("reporting"):
        show_report(console, Snapshot(settings, store), report, time.monotonic() - started)
    if options.output_zip is not None:
        with listening(show_progress(console)):
            packed = pack(store, options.output_zip, settings.storage.output_access)
        what = f"{packed.files:,} files, {format_bytes(packed.bytes)}"
        console.print(f"packed into:  {packed.url}  ({what})", soft_wrap=True, markup=False)
    return 0


def _execute(
    settings: Settings,
    instance: dg.DagsterInstance,
    work: list[Work],
    console: Console,
    options: RunOptions,
    report: Report,
) -> None:
    with _engine(settings, work):
        run_graph(
            settings,
            instance,
            work,
            verbose=options.verbose,
            refit=options.refit,
            replace_shards=options.replace_shards,
            location=options.location,
            report=report,
            on_part=lambda what: console.print(f"[bold]{settings.dataset}[/] {what}"),
        )


def _engine(settings: Settings, work: list[Work]) -> AbstractContextManager[None]:
    """What the steps of a plan do their tasks on, kept for all of them: Ray takes long to start."""
    if any(item.asset in TASKS for item in work):
        return session(engine_of(settings))
    return nullcontext()
