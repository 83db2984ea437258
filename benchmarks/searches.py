"""The contestants of `benchmarks.pairwise`: the product's searches and the peers', on one device.

Each searches cluster after cluster of the same unit rows. The product's take all clusters in one
call; the peers know only one cluster at a time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.peers import cosmos_arrays, cosmos_torch, nemo_arrays, nemo_torch
from benchmarks.rounds import Contestant, missing
from dedup_assets.compute.arrays import DEFAULT_MEMORY_BUDGET
from dedup_assets.compute.pairwise import _on_host, best_earlier_matches
from dedup_assets.compute.plan import Plan
from dedup_assets.compute.products import bfloat16_is_quicker
from dedup_assets.compute.threads import thread_count

EXACT, FAST = "exact", "fast"
EXACT_FLOAT32, FAST_FLOAT32 = "exact, float32 screen", "fast, float32 screen"
NEMO, COSMOS = "NeMo Curator's", "cosmos-curate's"
FLIPPED = "products transposed"
HALF = "float16"
PRODUCTS = ": products alone"


@dataclass(frozen=True)
class Searches:
    """Who takes part.

    Attributes:
        contestants: searches, and of each peer's also its products alone, timed.
        skipped: why others do not.
    """

    contestants: list[Contestant]
    skipped: dict[str, str]


def searches(xp: Any, x: Any, offsets: np.ndarray) -> Searches:
    """All searches that can be run here; ``x`` of shape (n, d), float32, on the device of xp."""
    contestants = _own(xp, x, offsets)
    skipped: dict[str, str] = {}
    name = "NumPy" if xp is np else "CuPy"
    contestants += [
        *_peer(f"{NEMO}, {name}", partial(nemo_arrays, xp), xp, x, offsets),
        *_peer(f"{NEMO}, {name}, {FLIPPED}", _flipped(partial(nemo_arrays, xp)), xp, x, offsets),
        *_peer(f"{COSMOS}, {name}", partial(cosmos_arrays, xp), xp, x, offsets),
    ]
    reason = missing("torch") or _torch_lacks(xp)
    if reason is None:
        contestants += _in_torch(xp, x, offsets)
    else:
        skipped = dict.fromkeys((f"{NEMO}, torch", f"{COSMOS}, torch"), reason)
    if xp is np and not bfloat16_is_quicker():
        skipped["bfloat16 screen"] = "float32 is as quick on this processor, or NumKong is missing"
    return Searches(contestants, skipped)


def _own(xp: Any, x: Any, offsets: np.ndarray) -> list[Contestant]:
    def public(precision: str) -> Callable[[], Any]:
        return lambda: best_earlier_matches(x, offsets, precision=precision)

    if xp is not np:
        return [Contestant(EXACT, public("exact")), Contestant(FAST, public("fast"))]

    def screened(exact: bool) -> Callable[[], Any]:
        plan = Plan(exact, DEFAULT_MEMORY_BUDGET)
        return lambda: _on_host(x, offsets, plan, None, False)

    own = [Contestant(EXACT_FLOAT32, screened(True)), Contestant(FAST_FLOAT32, screened(False))]
    if bfloat16_is_quicker():
        own += [Contestant(EXACT, public("exact")), Contestant(FAST, public("fast"))]
    return own


def _in_torch(xp: Any, x: Any, offsets: np.ndarray) -> list[Contestant]:
    import torch

    if xp is np:
        torch.set_num_threads(thread_count())
        rows = torch.from_numpy(x)
    else:
        rows = torch.from_dlpack(x)
    half = rows.half()
    # Float16 has no units on most processors; there only its decisions are of interest.
    timed = xp is not np
    return [
        *_peer(f"{NEMO}, torch", nemo_torch, torch, rows, offsets),
        *_peer(f"{NEMO}, torch, {FLIPPED}", _flipped(nemo_torch), torch, rows, offsets),
        *_peer(f"{COSMOS}, torch", cosmos_torch, torch, rows, offsets),
        *_peer(f"{NEMO}, torch, {HALF}", nemo_torch, torch, half, offsets, timed=timed),
    ]


def _flipped(search: Callable[..., Any]) -> Callable[..., Any]:
    return partial(search, flipped=True)


def _peer(
    name: str,
    search: Callable[..., Any],
    module: Any,
    rows: Any,
    offsets: np.ndarray,
    timed: bool = True,
) -> Iterator[Contestant]:
    """A peer's search, and its products alone."""

    def every(**options: Any) -> Any:
        found = [search(rows[int(begin) : int(end)], **options) for begin, end in pairwise(offsets)]
        return [module.concatenate(parts) for parts in zip(*found, strict=True)]

    yield Contestant(name, every, timed)
    if timed:
        yield Contestant(name + PRODUCTS, partial(every, products_only=True))


def _torch_lacks(xp: Any) -> str | None:
    import torch

    if xp is np or torch.cuda.is_available():
        return None
    return "torch was installed without CUDA"


def scores(result: Any) -> np.ndarray:
    """Scores of a result of any contestant, (n,) float32, host."""
    found = result.score if hasattr(result, "score") else result[0]
    if hasattr(found, "cpu"):
        found = found.cpu().numpy()
    elif not isinstance(found, np.ndarray):
        found = found.get()
    return found.astype(np.float32)
