"""The compute stages without Dagster against SemHash: time, and the share of similar pairs found.

    python -m benchmarks.semhash --json benchmarks/results/semhash.json

Each is asked to remove the duplicates of the same unit rows at two values of eps. SemHash
(``pip install semhash``) is used as it is, with its default index, whose making counts: embeddings
and unique names go in, it compares at the lower threshold, and takes the higher one from that. Its
threshold is the lowest cosine that counts as a duplicate, so 1 - eps. The product fits k-means on
256 rows a cluster, assigns, ranks and compares within clusters, once from arrays, and once as its
stages do, from Parquet to lists of duplicates, with their checks and files.

``--clusters`` takes several numbers; without it, one for each 1,000 rows, and 1, which compares
all with all. So does ``--centres``, around which the data is drawn: without it, one for each
1,000 rows, where clusters can be what the data is made of, and one for each 5,000, where k-means
has to cut through groups and so parts some pairs.

A pair is two rows with a cosine of at least 1 - eps anywhere in the data, by comparing all with all
in float64. It counts as found when at most one of its rows is kept. So nobody gains or loses by
which row of a group it keeps, or by the order in which it goes: an exact search scores 1 whatever
its rule. Rows removed that are in no pair are counted apart.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import make_rows
from benchmarks.machine import describe
from benchmarks.options import add_rounds, array_parser, positive
from benchmarks.output import Target, print_table, print_targets, write_json
from benchmarks.removals import Pairs, similar_pairs
from benchmarks.removers import by_stages, remove_by_arrays, remove_by_semhash
from benchmarks.rounds import Contestant, Turns, missing, ratio, take_turns
from dedup_assets.compute.arrays import resolve_device
from dedup_assets.compute.threads import thread_count

ROWS, ROWS_PER_CLUSTER = 50_000, 1_000
ROWS_PER_CENTRE = (1_000, 5_000)
LIMITS = {"0.01": 0.99, "0.1": 0.97}  # eps, and the share of pairs to find
TIMES = 5.0
SEMHASH = "SemHash"


def main() -> int:
    parser = array_parser(__doc__.splitlines()[0], clusters="+")
    parser.set_defaults(rows=ROWS, device="cpu")
    parser.add_argument(
        "--centres", type=positive, nargs="+", help="of the data; one for 1,000 rows and for 5,000"
    )
    add_rounds(parser)
    options = parser.parse_args()
    resolve_device(options.device)
    options.clusters = options.clusters or [max(2, options.rows // ROWS_PER_CLUSTER), 1]
    options.centres = options.centres or [max(1, options.rows // each) for each in ROWS_PER_CENTRE]
    measured = [measure(options, centres) for centres in options.centres]
    for one in measured:
        show(options, one)
    targets = [target for one in measured for target in judge(options, one)]
    print_targets(targets)
    if options.json is not None:
        write_json(options.json, document(options, measured, targets))
    return 0


@dataclass(frozen=True)
class Measured:
    """What came of one data set."""

    centres: int
    turns: dict[str, Turns]
    pairs: Pairs
    skipped: dict[str, str]


def measure(options: argparse.Namespace, centres: int) -> Measured:
    x = make_rows(options.rows, options.dim, centres, options.seed)
    pairs = similar_pairs(x, max(LIMITS, key=float))
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        contestants, skipped = taking_part(options, x, Path(folder))
        turns = take_turns(contestants, options.rounds)
    return Measured(centres, turns, pairs, skipped)


def own(clusters: int) -> str:
    return f"dedup_assets, {clusters:,} cluster{'s' if clusters > 1 else ''}"


def taking_part(
    options: argparse.Namespace, x: np.ndarray, folder: Path
) -> tuple[list[Contestant], dict[str, str]]:
    """Everyone who can take part here, and why others do not."""
    skipped: dict[str, str] = {}
    eps = list(LIMITS)
    contestants = [
        Contestant(own(k), partial(remove_by_arrays, x, k, options.device, eps))
        for k in options.clusters
    ]
    first = options.clusters[0]
    name = f"{own(first)}, stages over Parquet"
    reason = missing("pyarrow", "dagster")
    if reason is None:
        contestants.append(Contestant(name, by_stages(x, first, options.device, eps, folder)))
    else:
        skipped[name] = reason
    reason = missing("semhash")
    if reason is None:
        contestants.append(Contestant(SEMHASH, partial(remove_by_semhash, x, eps)))
    else:
        skipped[SEMHASH] = reason
    return contestants, skipped


def judge(options: argparse.Namespace, measured: Measured) -> list[Target]:
    name, turns = own(options.clusters[0]), measured.turns
    data = f"; {measured.centres:,} centres"
    targets = []
    if SEMHASH in turns:
        times = ratio(turns[SEMHASH].seconds, turns[name].seconds)
        what = f"time: {SEMHASH} / {name}{data}"
        targets.append(Target(what, times.value, TIMES, "x", times.noise, at_least=True))
    for eps, limit in LIMITS.items():
        share = measured.pairs.at(eps).share_found(turns[name].result.rows[eps])
        what = f"{name}: pairs found at eps {eps}{data}"
        targets.append(Target(what, 100 * share, 100 * limit, "%", at_least=True))
    return targets


def show(options: argparse.Namespace, measured: Measured) -> None:
    turns, pairs = measured.turns, measured.pairs
    names = list(turns)
    rows = []
    for name in names:
        one = turns[name]
        times = ratio(one.seconds, turns[names[0]].seconds)
        row = [name, one.median, f"{min(one.seconds):,.2f} to {max(one.seconds):,.2f}", times.value]
        for eps in LIMITS:
            removed, at = one.result.rows[eps], pairs.at(eps)
            row += [f"{100 * at.share_found(removed):.2f} %", int(removed.sum())]
            row.append(at.without_partner(removed))
        rows.append(row)
    columns = ["", "seconds", "range", f"x {names[0]}"]
    for eps in LIMITS:
        columns += [f"pairs found at {eps}", "rows removed", "in no pair"]
    print_table(f"{options.rows:,} x {options.dim}, {measured.centres:,} centres", columns, rows)
    print("\nfirst round, seconds:")
    for name in names:
        parts = ", ".join(f"{k} {v:.2f}" for k, v in turns[name].result.seconds.items())
        print(f"  {name}: {parts}")
    for eps in LIMITS:
        print(f"pairs at eps {eps}: {len(pairs.at(eps).later):,}")
    for name, reason in measured.skipped.items():
        print(f"not here: {name} ({reason})")


def document(
    options: argparse.Namespace, measured: list[Measured], targets: list[Target]
) -> dict[str, Any]:
    names = ("rows", "dim", "clusters", "centres", "device", "seed", "rounds")
    return {
        "benchmark": "semhash",
        **describe("numpy", "numkong", "semhash", "vicinity", "usearch", "pyarrow"),
        "parameters": {
            **{name: getattr(options, name) for name in names},
            "threads": thread_count(),
        },
        "targets": [target.as_dict() for target in targets],
        "data": [
            {
                "centres": one.centres,
                "pairs": {eps: len(one.pairs.at(eps).later) for eps in LIMITS},
                "skipped": one.skipped,
                "runs": {name: _as_dict(turns, one.pairs) for name, turns in one.turns.items()},
            }
            for one in measured
        ],
    }


def _as_dict(turns: Turns, pairs: Pairs) -> dict[str, Any]:
    removed = turns.result.rows
    return {
        "seconds": turns.seconds,
        "parts_of_first_s": turns.result.seconds,
        "share_found": {eps: pairs.at(eps).share_found(rows) for eps, rows in removed.items()},
        "removed": {eps: int(rows.sum()) for eps, rows in removed.items()},
        "in_no_pair": {eps: pairs.at(eps).without_partner(rows) for eps, rows in removed.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
