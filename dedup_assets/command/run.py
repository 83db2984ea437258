"""``dedup-assets run``: the graph on an instance on disk, then what came out."""

import os
import time

from rich.console import Console
from sqlalchemy.exc import DBAPIError

from dedup_assets.command.instance import open_instance, refused_events, use_instance
from dedup_assets.command.output import write_defs
from dedup_assets.command.report import show_report
from dedup_assets.command.runner import run_graph
from dedup_assets.command.terminal import show_progress
from dedup_assets.errors import SettingsError
from dedup_assets.progress import listening
from dedup_assets.settings import Settings
from dedup_assets.store.packing import pack
from dedup_assets.store.sizes import format_bytes


def run_and_report(
    settings: Settings,
    console: Console,
    *,
    verbose: bool,
    refit: bool = False,
    output_zip: str | None = None,
) -> int:
    """Run the graph on an instance on disk, say what came out, and pack it if asked to."""
    started = time.monotonic()
    use_instance(settings.output_path)
    for warning in settings.warnings():
        console.print(warning, style="yellow", markup=False)
    try:
        write_defs(settings, settings.open_output())
    except OSError as error:
        raise SettingsError(
            f"output_path {settings.output_path} cannot be written ({error.strerror}); choose a "
            "folder that you may write to"
        ) from error
    try:
        with open_instance() as instance, listening(show_progress(console)):
            report = run_graph(
                settings,
                instance,
                verbose=verbose,
                refit=refit,
                on_half=lambda what: console.print(f"[bold]{settings.dataset}[/] {what}"),
            )
    except DBAPIError as error:
        raise refused_events(os.environ["DAGSTER_HOME"], error) from error
    show_report(console, settings, report, time.monotonic() - started)
    if output_zip is not None:
        with listening(show_progress(console)):
            packed = pack(settings.open_output(), output_zip, settings.output_access)
        what = f"{packed.files:,} files, {format_bytes(packed.bytes)}"
        console.print(f"packed into:  {packed.url}  ({what})", soft_wrap=True, markup=False)
    return 0
