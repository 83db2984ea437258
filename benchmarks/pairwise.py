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
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks import floors
from benchmarks.data import make_clusters
from benchmarks.machine import describe
from benchmarks.options import add_rounds, array_parser, positive
from benchmarks.output import Target, print_table, print_targets, write_json
from benchmarks.rounds import Ratio, Turns, ratio, take_turns, waiting
from benchmarks.searches import (
    COSMOS,
    EXACT,
    EXACT_FLOAT32,
    FAST,
    HALF,
    NEMO,
    PRODUCTS,
    scores,
    searches,
)
from benchmarks.truth import Changed, changed, true_scores
from dedup_assets.compute.arrays import device_array_module, resolve_device
from dedup_assets.compute.threads import thread_count

ROWS_PER_CENTRE = 1_000


@dataclass(frozen=True)
class Case:
    """What is searched.

    Attributes:
        clusters: how many, of equal size.
        rows: in each of them.
        dim: length of the rows.
        centres: in each cluster, around which its rows are drawn (`benchmarks.data`).
    """

    clusters: int
    rows: int
    dim: int
    centres: int

    @property
    def title(self) -> str:
        many = (
            f"{self.clusters:,} clusters of {self.rows:,}" if self.clusters > 1 else "one cluster"
        )
        return f"{self.clusters * self.rows:,} x {self.dim}, {many}"

    @property
    def operations(self) -> float:
        """Multiplications and additions that half of all products take."""
        return float(self.clusters) * self.rows**2 * self.dim


@dataclass(frozen=True)
class Measured:
    """What came of a case."""

    case: Case
    floor: str
    turns: dict[str, Turns]
    changed: dict[str, Changed]
    skipped: dict[str, str]
    bandwidth: float
    tensor_cores: str | None

    def times(self, name: str, other: str) -> Ratio:
        """How many times as long as the other."""
        return ratio(self.turns[name].seconds, self.turns[other].seconds)

    @property
    def own(self) -> str:
        """The product's exact search in its quickest form."""
        return EXACT if EXACT in self.turns else EXACT_FLOAT32

    @property
    def timed(self) -> list[str]:
        """The searches that were timed."""
        return [n for n, t in self.turns.items() if t.seconds and n in self.changed]

    def share_of_floor(self, name: str) -> Ratio:
        """The floor's time over that of a search."""
        floor = [seconds / 2 for seconds in self.turns[self.floor].seconds]
        return ratio(floor, self.turns[name].seconds)


def main() -> int:
    parser = array_parser(__doc__.splitlines()[0])
    parser.add_argument("--centres", type=positive, help="of each cluster; one for 1,000 rows")
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
        Case(clusters, rows, options.dim, options.centres or max(1, rows // ROWS_PER_CENTRE))
        for clusters, rows in shapes
    ]


def measure(case: Case, device: str, rounds: int, seed: int) -> Measured:
    """Make the rows of a case, and let everyone search them."""
    xp = device_array_module(device)
    x = xp.asarray(make_clusters(case.clusters, case.rows, case.dim, case.centres, seed))
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


def judge(measured: Measured, device: str) -> list[Target]:
    if device == "cpu":
        return [*_speed_on_cpu(measured), *_decisions(measured)]
    return [*_speed_on_gpu(measured), *_decisions(measured)]


def _speed_on_cpu(measured: Measured) -> list[Target]:
    targets = []
    nemo = {
        name: measured.turns[name]
        for name in measured.timed
        if name.startswith(NEMO) and HALF not in name
    }
    if EXACT in measured.turns:
        targets += [
            _times(measured, name, EXACT, 6.0) for name in nemo if name.startswith(f"{NEMO}, torch")
        ]
        targets.append(_floor(measured, EXACT, 1.0))
    targets.append(_floor(measured, EXACT_FLOAT32, 0.85))
    for name in nemo:
        limit = 2.5 if name.startswith(f"{NEMO}, torch") else 4.0
        targets.append(_times(measured, name, EXACT_FLOAT32, limit))
    return targets


def _speed_on_gpu(measured: Measured) -> list[Target]:
    limits = {(NEMO, EXACT): 5.0, (NEMO, FAST): 15.0, (COSMOS, EXACT): 2.0, (COSMOS, FAST): 7.0}
    targets = []
    for (peer, own), limit in limits.items():
        # Their quickest form: the best that the algorithm can do here.
        forms = [n for n in measured.timed if n.startswith(peer) and HALF not in n]
        best = floors.quickest(measured.turns, forms)
        targets.append(_times(measured, best, own, limit))
    if measured.tensor_cores is not None:
        targets.append(_of_tensor_cores(measured))
    return targets


def _of_tensor_cores(measured: Measured) -> Target:
    cores = measured.turns[measured.tensor_cores]
    share = measured.case.operations / measured.turns[FAST].median / floors.tensor_rate(cores)
    name = f"{FAST}: share of the rate of tensor cores; {measured.case.title}"
    return Target(name, share, 0.5, "", at_least=True)


def _times(measured: Measured, peer: str, own: str, limit: float) -> Target:
    found = measured.times(peer, own)
    name = f"{peer} / {own}; {measured.case.title}"
    return Target(name, found.value, limit, "x", found.noise, at_least=True)


def _floor(measured: Measured, own: str, limit: float) -> Target:
    found = measured.share_of_floor(own)
    name = f"half of the float32 products / {own}; {measured.case.title}"
    return Target(name, found.value, limit, "x", found.noise, at_least=True)


def _decisions(measured: Measured) -> list[Target]:
    return [
        Target(f"{name}: changed decisions; {measured.case.title}", float(count.changed), 0.0, "")
        for name, count in measured.changed.items()
        if name.startswith(EXACT)
    ]


def show(measured: Measured) -> None:
    """Print what a page of the documentation needs."""
    rows = []
    for name, found in measured.changed.items():
        one = measured.turns[name]
        timed = bool(one.seconds)
        rows.append(
            [
                name,
                one.median if timed else None,
                f"{min(one.seconds):,.2f} to {max(one.seconds):,.2f}" if timed else None,
                measured.times(name, measured.own).value if timed else None,
                1 / measured.share_of_floor(name).value if timed else None,
                gemm_share(measured, name),
                found.changed,
                found.rows,
                f"{found.largest_difference:.0e}",
            ]
        )
    columns = ["search", "seconds", "range", f"x {measured.own}", "x floor", "products' share"]
    columns += ["changed decisions", "in rows", "largest error"]
    print_table(measured.case.title, columns, rows)
    floor = measured.turns[measured.floor].median / 2
    rate = measured.case.operations / floor
    decisions = next(iter(measured.changed.values())).decisions
    print(f"\nfloor: {floor:,.3f} s, half of {measured.floor}, {rate / 1e9:,.0f} GFLOP/s")
    print(f"copy: {measured.bandwidth / 1e9:,.1f} GB/s read and written")
    print(f"decisions: {decisions:,}, each row at each eps from 0.001 to 0.3 in steps of 0.00001")
    if measured.tensor_cores is not None:
        tensor = floors.tensor_rate(measured.turns[measured.tensor_cores])
        print(f"{measured.tensor_cores}: {tensor / 1e12:,.0f} TFLOP/s")
    for name, reason in measured.skipped.items():
        print(f"not here: {name} ({reason})")


def gemm_share(measured: Measured, name: str) -> float | None:
    """Time of a peer's own products over its whole time."""
    products = name + PRODUCTS
    if products not in measured.turns:
        return None
    return measured.times(products, name).value


def document(
    options: argparse.Namespace, device: str, measured: list[Measured], targets: list[Target]
) -> dict[str, Any]:
    return {
        "benchmark": "pairwise",
        **describe("numpy", "numkong", "torch", "cupy-cuda12x", "cupy-cuda13x"),
        "parameters": {
            "device": device,
            "threads": thread_count(),
            "seed": options.seed,
            "rounds": options.rounds,
        },
        "targets": [target.as_dict() for target in targets],
        "cases": [_as_dict(one) for one in measured],
    }


def _as_dict(measured: Measured) -> dict[str, Any]:
    cores = measured.tensor_cores
    return {
        **asdict(measured.case),
        "skipped": measured.skipped,
        "floor": measured.floor,
        "floor_s": measured.turns[measured.floor].median / 2,
        "copy_gb_s": measured.bandwidth / 1e9,
        "tensor_tflop_s": floors.tensor_rate(measured.turns[cores]) / 1e12 if cores else None,
        "searches": {
            name: {
                "seconds": measured.turns[name].seconds,
                "times_own": _ratio(measured, name),
                "products_share": gemm_share(measured, name),
                "decisions": asdict(found),
            }
            for name, found in measured.changed.items()
        },
        "others": {
            name: one.seconds
            for name, one in measured.turns.items()
            if name not in measured.changed
        },
    }


def _ratio(measured: Measured, name: str) -> dict[str, float] | None:
    timed = measured.turns[name].seconds
    return asdict(measured.times(name, measured.own)) if timed else None


if __name__ == "__main__":
    sys.exit(main())
