"""``python -m dedup_assets_tests.kills --kills 30``: kill the command, run it again, compare."""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from dedup_assets_tests.kills.places import Local, Place, remote
from dedup_assets_tests.kills.rounds import PHASES, VARIANTS, Harness, Result


def main() -> int:
    """Returns 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="python -m dedup_assets_tests.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="Default: 30.")
    parser.add_argument("--seed", type=int, default=1, help="Default: 1.")
    parser.add_argument("--store", choices=("local", "s3"), default="local")
    parser.add_argument("--rows", type=int, default=600, help="Of the small input. Default: 600.")
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=[v.name for v in VARIANTS],
        default=[v.name for v in VARIANTS],
        help="fresh: an empty output; changed: one that a run with other settings has filled; "
        "spilled: rows beyond the memory budget; back: a finished one in which runs with other "
        "settings are killed; videos: from videos on. Default: all, in turn.",
    )
    arguments = parser.parse_args()
    variants = tuple(v for v in VARIANTS if v.name in arguments.variants)
    began = time.monotonic()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kills-")))
        place: Place = Local(scratch / "place")
        if arguments.store == "s3":
            place = stack.enter_context(remote(scratch / "place"))
        harness = Harness(place, scratch, rows=arguments.rows, say=say)
        result = harness.play(arguments.kills, arguments.seed, variants)
    show(result)
    say(
        f"{result.kills.total()} kills in {result.rounds} rounds on {arguments.store}, seed "
        f"{arguments.seed}, {arguments.rows} rows, {time.monotonic() - began:.0f} s: "
        f"{len(result.differences)} differences; of {result.reused['of']} clusters at the last "
        f"runs {result.reused['clusters']} were there and none of these was compared again"
        if not result.differences
        else f"{len(result.differences)} differences; the same seed and arguments show them again"
    )
    return 1 if result.differences else 0


def show(result: Result) -> None:
    say(f"\n{'killed during':<24}{'kills':>6}{'differences':>13}")
    differences = [phase for phase, _ in result.differences]
    for phase in (*PHASES, "end"):
        if result.kills[phase] or phase != "end":
            say(f"{phase:<24}{result.kills[phase]:>6}{differences.count(phase):>13}")
    say("\nkilled " + "; ".join(f"{kind}: {n}" for kind, n in result.moments.most_common()) + "\n")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
