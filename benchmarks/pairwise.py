"""The pairwise search against the peers' algorithms, their own products, and float64.

    python -m benchmarks.pairwise --json benchmarks/results/pairwise.json

Same rows, same process, same threads, in turns. Every contestant's scores are compared with a
float64 brute force at each of the 29,901 values of eps from 0.001 to 0.3. Without ``--rows``: on a
CPU 20,000 rows in one cluster; on a GPU 100,000 rows in one cluster, and 1,000 clusters of 1,000.

The floor is half of the quickest float32 product of all rows with all rows that is seen in the
same rounds. NumPy and threadpoolctl are enough to run it; ``pip install torch`` for the peers'
form in torch, ``pip install numkong`` for bfloat16 and CuPy for a GPU.
"""

import argparse
import sys
from typing import Any

import numpy as np

from benchmarks import floors
from benchmarks.data import make_clusters
from benchmarks.options import add_rounds, array_parser, positive
from benchmarks.output import print_targets, write_json
from benchmarks.pairwise_results import Case, Measured, document, judge, show
from benchmarks.rounds import take_turns, waiting
from benchmarks.searches import HALF, NEMO, PRODUCTS, scores, searches
from benchmarks.truth import changed, true_scores
from dedup_assets.compute.arrays import device_array_module, resolve_device

ROWS_PER_CENTRE = 1_000


def main() -> int:
    parser = array_parser(__doc__.splitlines()[0])
    parser.add_argument("--centres", type=positive, help="of each cluster; one for 1,000 rows")
    parser.add_argument(
        "--scene", type=positive, metavar="ROWS", help="near-duplicates: static scenes of so many"
    )
    add_rounds(parser)
    options = parser.parse_args()
    device = resolve_device(options.device)
    measured = []
    for case in cases(options, device):
        measured.append(measure(case, device, options.rounds, options.seed))
        show(measured[-1])
    targets = [target for one in measured for target in judge(one, device)]
    print_targets(targets)
    if options.json is not None:
        write_json(options.json, document(options, device, measured, targets))
    return 0


def cases(options: argparse.Namespace, device: str) -> list[Case]:
    if options.rows is None and options.clusters is None:
        shapes = [(1, 20_000)] if device == "cpu" else [(1, 100_000), (1_000, 1_000)]
    else:
        clusters = options.clusters or 1
        shapes = [(clusters, max(2, (options.rows or 20_000) // clusters))]
    return [
        Case(
            clusters,
            rows,
            options.dim,
            options.centres or max(1, rows // ROWS_PER_CENTRE),
            options.scene,
        )
        for clusters, rows in shapes
    ]


def measure(case: Case, device: str, rounds: int, seed: int) -> Measured:
    """Make the rows of a case, and let everyone search them."""
    xp = device_array_module(device)
    x = xp.asarray(
        make_clusters(case.clusters, case.rows, case.dim, case.centres, seed, case.scene)
    )
    offsets = np.arange(case.clusters + 1) * case.rows
    wait = waiting(xp)
    taking_part = searches(xp, x, offsets)
    clusters = np.split(x, offsets[1:-1]) if xp is np else xp.split(x, offsets[1:-1].tolist())
    plain = floors.all_products([(rows, rows) for rows in clusters])
    contestants = [floors.copying(xp), *plain, *taking_part.contestants]
    if xp is not np:
        contestants += floors.on_tensor_cores(xp)

    def keep(result: Any) -> Any:
        return None if result is None else scores(result)

    turns = take_turns(contestants, rounds, wait=wait, keep=keep)
    truth = true_scores(x, offsets)
    # cosmos-curate's leave some products out, so half of them would not be half of all.
    products = [n for n in turns if n.startswith(NEMO) and n.endswith(PRODUCTS) and HALF not in n]
    products += [one.name for one in plain]
    tensor = [name for name in turns if name.startswith(floors.TENSOR_CORES)]
    return Measured(
        case,
        floor=floors.quickest(turns, products),
        turns=turns,
        changed={
            name: changed(one.result, truth, offsets)
            for name, one in turns.items()
            if one.result is not None and not name.endswith(PRODUCTS)
        },
        skipped=taking_part.skipped,
        bandwidth=floors.copy_bandwidth(xp, turns[floors.COPY]),
        tensor_cores=floors.quickest(turns, tensor) if tensor else None,
    )


if __name__ == "__main__":
    sys.exit(main())
