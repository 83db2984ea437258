"""The ``dedup-assets`` command."""

import argparse
import json
import os
import re
import sys
import warnings
from pathlib import Path

from rich.console import Console

from dedup_assets import __version__
from dedup_assets.command.arguments import (
    INPUT_SETTINGS,
    S3_SETTINGS,
    SPLIT_SETTINGS,
    OneLineParser,
    add_settings,
    given_flags,
    parse_settings,
)
from dedup_assets.command.durations import parse_duration
from dedup_assets.command.terminal import guarded_output
from dedup_assets.compute.thresholds import canonical_eps
from dedup_assets.errors import DedupError, SettingsError, describe_fault, shown
from dedup_assets.settings import Settings

_BUDGET = "10m"
_OUTPUT = "out"
_SPEC_HELP = (
    "Job spec in JSON, a file or - for the standard input, instead of the flags of settings; "
    "dedup-assets spec --schema describes it."
)
_S3_SPEC_HELP = (
    "Job spec whose args name the S3 profiles and endpoints, unless flags do; a file or - for the "
    "standard input."
)
_ZIP_HELP = (
    "Pack everything below the output folder into this ZIP file when the run has ended; local or "
    "s3://bucket/key."
)


def main(argv: list[str] | None = None) -> int:
    """Run the command. Returns 0, 1 for a failed run, 130 if interrupted; exits with 2
    for wrong arguments.
    """
    if argv is None and not sys.warnoptions:  # what libraries tell programmers
        warnings.simplefilter("ignore")
    name = "dedup-assets"
    try:
        with guarded_output():
            arguments = _parser().parse_args(argv)
            name = f"{name} {arguments.name}"
            _refuse_deleted_directory()
            return arguments.command(arguments)
    except DedupError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{name}: {describe_fault(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130


def _refuse_deleted_directory() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise SettingsError(
            "the working directory does not exist any more; change to one that does"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="dedup-assets", description="Semantic deduplication of video-clip embeddings."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="deduplicate embeddings and write curated shards",
        usage="%(prog)s --input-embeddings-path PATH --output-path PATH --n-clusters N [OPTION ...]"
        "\n       %(prog)s --video-dir PATH --output-path PATH --n-clusters N [OPTION ...]"
        "\n       %(prog)s --spec FILE [OPTION ...]",
    )
    run.add_argument("--spec", metavar="FILE", help=_SPEC_HELP)
    add_settings(run, require=False)
    run.add_argument("--input-zip", metavar="ZIP", help="--input-embeddings-path, for a ZIP file.")
    run.add_argument("--output-zip", metavar="ZIP", help=_ZIP_HELP)
    _add_budget(run)
    run.add_argument(
        "--refit",
        action="store_true",
        help="Fit the centroids again; with --n-clusters auto, choose their number again too.",
    )
    run.add_argument(
        "--plan",
        action="store_true",
        help="Print what a run would make and why, and stop: exit code 0 if there is nothing to "
        "do, 3 otherwise. Nothing is written.",
    )
    run.add_argument("--json", action="store_true", help="With --plan: print one JSON document.")
    _add_run_options(run)
    run.set_defaults(command=lambda arguments: _run(run, arguments))

    split = commands.add_parser(
        "split", help="split videos into clips and embed them, for run to deduplicate"
    )
    add_settings(split, only=SPLIT_SETTINGS, require=False)
    split.add_argument("--limit", type=int, metavar="N", help="Split at most N videos in this run.")
    split.add_argument(
        "--dry-run", action="store_true", help="Say what would be split, and write nothing."
    )
    split.set_defaults(command=lambda arguments: _split(split, arguments))

    suggest = commands.add_parser(
        "suggest-clusters", help="say how long a run would take by number of clusters"
    )
    add_settings(suggest, only=INPUT_SETTINGS)
    suggest.add_argument(
        "--output-path",
        default=argparse.SUPPRESS,
        metavar="PATH",
        help=f"Only for the command line that is printed. Default: {_OUTPUT}.",
    )
    _add_budget(suggest)
    suggest.add_argument("--json", action="store_true", help="Print one JSON document.")
    suggest.set_defaults(command=lambda arguments: _suggest(suggest, arguments))

    spec = commands.add_parser("spec", help="describe the job specs that run --spec takes")
    spec.add_argument(
        "--schema", action="store_true", required=True, help="Print their JSON Schema."
    )
    spec.set_defaults(command=_spec)

    demo = commands.add_parser("demo", help="make a small real data set and deduplicate it")
    demo.add_argument("folder", nargs="?", default="./demo", help="Default: ./demo.")
    demo.add_argument("--verbose", action="store_true", help="Show Dagster's log.")
    demo.set_defaults(command=_demo)

    ui = commands.add_parser("ui", help="open what a run materialized in the Dagster UI")
    _add_output(ui)
    ui.add_argument("--port", type=_port, default=3000, help="Default: 3000, on this machine only.")
    ui.set_defaults(command=lambda arguments: _ui(ui, arguments))

    backfill = commands.add_parser(
        "backfill", help="list the duplicates of an output at more eps, from the scores it has"
    )
    _add_output(backfill)
    backfill.add_argument(
        "--eps", nargs="+", required=True, type=_eps, metavar="EPS", help="One Dagster run each."
    )
    backfill.add_argument(
        "--shards", action="store_true", help="Write curated shards at each of them too."
    )
    _add_run_options(backfill)
    backfill.set_defaults(command=lambda arguments: _backfill(backfill, arguments))

    verify = commands.add_parser(
        "verify", help="compare the files of an output by content with what they were made from"
    )
    _add_output(verify)
    verify.set_defaults(command=lambda arguments: _verify(verify, arguments))

    scaffold = commands.add_parser(
        "scaffold", help="print the YAML of a run's settings, for a Dagster project"
    )
    _add_output(scaffold)
    scaffold.set_defaults(command=lambda arguments: _scaffold(scaffold, arguments))
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", help="Output folder of dedup-assets run, or its s3:// URL.")
    parser.add_argument("--spec", metavar="FILE", help=_S3_SPEC_HELP)
    add_settings(parser, only=S3_SETTINGS)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--replace-shards",
        action="store_true",
        help="Replace curated clips of an earlier run also where a kept clip loses its media, or "
        "where tars and plain files replace each other.",
    )
    parser.add_argument(
        "--code-location",
        metavar="NAME",
        help="Of your workspace, whose jobs list the Dagster runs; goes with DAGSTER_HOME. "
        "Default: dedup_assets.",
    )
    parser.add_argument("--verbose", action="store_true", help="Show Dagster's log.")


def _location(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    from dedup_assets.runs import LOCATION

    if arguments.code_location is None:
        return LOCATION
    if not os.environ.get("DAGSTER_HOME"):
        parser.error("--code-location goes with DAGSTER_HOME, which is not set")
    if not arguments.code_location.strip():
        parser.error("--code-location is empty; name one of your workspace")
    return arguments.code_location


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from dedup_assets.command.job import read_job
    from dedup_assets.command.run import RunOptions, run_and_report

    if arguments.json and not arguments.plan:
        parser.error("--json goes with --plan")
    location = _location(parser, arguments)
    job = read_job(parser, arguments)
    console = Console()

    def choose(settings: Settings) -> Settings:
        from dedup_assets.command.suggest import resolve_clusters

        return resolve_clusters(settings, _budget(job.time_budget), console, anew=job.refit)

    complete = choose if job.choose_clusters else None
    if arguments.plan:
        from dedup_assets.command.plan import plan_only

        return plan_only(
            job.settings, console, refit=job.refit, as_json=arguments.json, complete=complete
        )
    return run_and_report(
        job.settings,
        console,
        RunOptions(job.verbose, job.refit, job.replace_shards, job.output_zip, location),
        complete=complete,
    )


def _split(parser: OneLineParser, arguments: argparse.Namespace) -> int:
    from dedup_assets.command.split import run_split

    return run_split(parser, arguments, Console())


def _suggest(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from dedup_assets.command.suggest import suggest_clusters
    from dedup_assets.component import rooted

    arguments.output_path = getattr(arguments, "output_path", _OUTPUT)
    settings = rooted(parse_settings(parser, arguments, n_clusters=1), Path.cwd())
    flags = given_flags(arguments)
    budget = _budget(arguments.time_budget)
    return suggest_clusters(settings, budget, flags, Console(), as_json=arguments.json)


def _add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--time-budget",
        type=_duration,
        metavar="TIME",
        help="Time that the run may take up to its histogram, such as 90s or 2h. "
        f"Default: {_BUDGET}.",
    )


def _budget(seconds: float | None) -> float:
    return seconds if seconds is not None else parse_duration(_BUDGET)


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _eps(text: str) -> str:
    try:
        return canonical_eps(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 65535, got {shown(text)}")
    return int(text)


def _spec(arguments: argparse.Namespace) -> int:
    from dedup_assets.command.schema import spec_schema

    print(json.dumps(spec_schema(), indent=1))
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from dedup_assets.command.demo import run_demo

    return run_demo(Path(arguments.folder).absolute(), Console(), verbose=arguments.verbose)


def _ui(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from dedup_assets.command.job import read_output
    from dedup_assets.command.output import open_ui

    return open_ui(read_output(parser, arguments), arguments.port)


def _backfill(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from dedup_assets.command.backfill import backfill
    from dedup_assets.command.job import read_output

    if arguments.replace_shards and not arguments.shards:
        parser.error("--replace-shards goes with --shards")
    return backfill(
        read_output(parser, arguments),
        arguments.eps,
        Console(),
        shards=arguments.shards,
        replace_shards=arguments.replace_shards,
        verbose=arguments.verbose,
        location=_location(parser, arguments),
    )


def _verify(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from dedup_assets.command.job import read_output
    from dedup_assets.command.verify import verify_output

    return verify_output(read_output(parser, arguments), Console())


def _scaffold(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    from dedup_assets.command.job import read_output
    from dedup_assets.scaffolding import component_yaml

    print(component_yaml(read_output(parser, arguments)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
