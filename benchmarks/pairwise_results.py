"""What `benchmarks.pairwise` found: targets, tables, JSON."""

import argparse
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import floors
from benchmarks.machine import describe
from benchmarks.output import Target, print_table
from benchmarks.rounds import Ratio, Turns, ratio
from benchmarks.searches import COSMOS, EXACT, EXACT_FLOAT32, FAST, HALF, NEMO, PRODUCTS
from benchmarks.truth import Changed
from dedup_assets.compute.threads import thread_count


@dataclass(frozen=True)
class Case:
    """What is searched.

    Attributes:
        clusters: how many, of equal size.
        rows: in each of them.
        dim: length of the rows.
        centres: in each cluster, around which its rows are drawn (`benchmarks.data`).
        scene: rows of a static scene, if the clusters consist of such.
    """

    clusters: int
    rows: int
    dim: int
    centres: int
    scene: int | None = None

    @property
    def title(self) -> str:
        many = (
            f"{self.clusters:,} clusters of {self.rows:,}" if self.clusters > 1 else "one cluster"
        )
        scenes = f", scenes of {self.scene:,}" if self.scene else ""
        return f"{self.clusters * self.rows:,} x {self.dim}, {many}{scenes}"

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
