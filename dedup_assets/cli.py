"""The ``dedup-assets`` command."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from dedup_assets import __version__
from dedup_assets.command.arguments import OneLineParser, add_settings, parse_settings
from dedup_assets.errors import DedupError


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns 0, 1 for a failed run, 130 if interrupted; exits with 2
    for wrong arguments.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        return arguments.command(arguments)
    except DedupError as error:
        print(f"dedup-assets {arguments.name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="dedup-assets", description="Semantic deduplication of video-clip embeddings."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="deduplicate embeddings and write curated shards")
    add_settings(run)
    run.add_argument("--refit", action="store_true", help="Fit the centroids again.")
    run.add_argument("--verbose", action="store_true", help="Show Dagster's log.")
    run.set_defaults(command=lambda arguments: _run(run, arguments))

    demo = commands.add_parser("demo", help="make a small real data set and deduplicate it")
    demo.add_argument("folder", nargs="?", default="./demo", help="Default: ./demo.")
    demo.add_argument("--verbose", action="store_true", help="Show Dagster's log.")
    demo.set_defaults(command=_demo)

    ui = commands.add_parser("ui", help="open what a run materialized in the Dagster UI")
    ui.add_argument("output", help="Output folder of dedup-assets run.")
    ui.add_argument("--port", type=int, default=3000, help="Default: 3000, on this machine only.")
    ui.set_defaults(command=_ui)
    return parser


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from dedup_assets.command.run import run_and_report
    from dedup_assets.component import rooted

    settings = rooted(parse_settings(parser, arguments), Path.cwd())
    return run_and_report(settings, Console(), verbose=arguments.verbose, refit=arguments.refit)


def _demo(arguments: argparse.Namespace) -> int:
    from dedup_assets.command.demo import run_demo

    return run_demo(Path(arguments.folder).absolute(), Console(), verbose=arguments.verbose)


def _ui(arguments: argparse.Namespace) -> int:
    from dedup_assets.command.output import open_ui

    return open_ui(str(Path(arguments.output).absolute()), arguments.port)


if __name__ == "__main__":
    sys.exit(main())
