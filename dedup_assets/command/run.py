"""``dedup-assets run``: the graph on an instance on disk, then what came out."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console

from dedup_assets.command.instance import open_instance, use_instance
from dedup_assets.command.output import write_defs
from dedup_assets.command.report import show_report
from dedup_assets.command.runner import run_graph
from dedup_assets.command.terminal import show_progress
from dedup_assets.errors import SettingsError
from dedup_assets.progress import listening, track
from dedup_assets.settings import Settings
from dedup_assets.store.locks import COMMAND, WHOLE, writing
from dedup_assets.store.packing import pack
from dedup_assets.store.sizes import format_bytes


def run_and_report(
    settings: Settings,
    console: Console,
    *,
    verbose: bool,
    refit: bool = False,
    output_zip: str | None = None,
    complete: Callable[[Settings], Settings] | None = None,
) -> int:
    """Run the graph on an instance on disk, say what came out, and pack it if asked to.

    No other command works on the output meanwhile.

    Args:
        settings: of the dataset.
        console: where to print.
        verbose: show Dagster's log.
        refit: fit the centroids again.
        output_zip: path or URL that the results are packed into.
        complete: chooses what the settings leave open.

    Raises:
        LockedError: another command works on the output.
    """
    use_instance(settings.output_path)
    with ExitStack() as held:
        with _writable(settings):
            held.enter_context(writing(settings.open_output(), COMMAND, [WHOLE], reads={}))
        if complete is not None:
            settings = complete(settings)
        return _run(settings, console, verbose, refit, output_zip)


@contextmanager
def _writable(settings: Settings) -> Iterator[None]:
    """Name the output in errors of writing to it."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"output_path {settings.output_path} cannot be written ({error.strerror}); choose a "
            "folder that you may write to"
        ) from error


def _run(
    settings: Settings, console: Console, verbose: bool, refit: bool, output_zip: str | None
) -> int:
    started = time.monotonic()
    for warning in settings.warnings():
        console.print(warning, style="yellow", markup=False)
    with _writable(settings):
        write_defs(settings, settings.open_output())
    with open_instance() as instance, listening(show_progress(console)):
        report = run_graph(
            settings,
            instance,
            verbose=verbose,
            refit=refit,
            on_half=lambda what: console.print(f"[bold]{settings.dataset}[/] {what}"),
        )
    with listening(show_progress(console)), track("reporting"):
        show_report(console, settings, report, time.monotonic() - started)
    if output_zip is not None:
        with listening(show_progress(console)):
            packed = pack(settings.open_output(), output_zip, settings.output_access)
        what = f"{packed.files:,} files, {format_bytes(packed.bytes)}"
        console.print(f"packed into:  {packed.url}  ({what})", soft_wrap=True, markup=False)
    return 0
