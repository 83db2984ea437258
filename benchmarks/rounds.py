"""Contestants that take turns: A B C A B C, so that what disturbs the machine disturbs all."""

import gc
import importlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Contestant:
    """Something to time.

    Attributes:
        name: unique.
        call: does the work and returns its result.
        timed: whether it takes part in the rounds; otherwise only its result is wanted.
    """

    name: str
    call: Callable[[], Any]
    timed: bool = True


@dataclass
class Turns:
    """What came of a contestant.

    Attributes:
        seconds: of each round, in order.
        result: of the round that does not count.
    """

    seconds: list[float] = field(default_factory=list)
    result: Any = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Ratio:
    """How many times another's: the median of the ratios of each round.

    Attributes:
        value: the median.
        low, high: of the smallest and the largest round.
        noise: standard error of the median.
    """

    value: float
    low: float
    high: float
    noise: float


def take_turns(
    contestants: list[Contestant],
    rounds: int,
    *,
    wait: Callable[[], None] = lambda: None,
    keep: Callable[[Any], Any] = lambda result: result,
) -> dict[str, Turns]:
    """Run every contestant in every round, after a round that does not count.

    Args:
        contestants: in the order of a round.
        rounds: how many count.
        wait: returns when all work has ended, for devices that work on behind a call.
        keep: what to keep of a result; outside the clock.
    """
    turns = {one.name: Turns() for one in contestants}
    for one in contestants:
        turns[one.name].result = keep(one.call())
    for _ in range(rounds):
        for one in contestants:
            if one.timed:
                turns[one.name].seconds.append(seconds_of(one.call, wait))
    return turns


def seconds_of(call: Callable[[], Any], wait: Callable[[], None] = lambda: None) -> float:
    """Wall time of one call, with nothing left over from the call before."""
    gc.collect()
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def waiting(xp: Any) -> Callable[[], None]:
    """A function that returns when the device of an array module has done all it was given."""
    return (lambda: None) if xp.__name__ == "numpy" else xp.cuda.runtime.deviceSynchronize


def ratio(numerators: list[float], denominators: list[float]) -> Ratio:
    """Ratio of two lists of measurements of the same rounds."""
    each = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each), uncertainty(each))


def uncertainty(values: list[float]) -> float:
    """Standard error of the median of some runs, from their median absolute deviation."""
    middle = statistics.median(values)
    deviation = statistics.median(abs(value - middle) for value in values)
    return 1.2533 * 1.4826 * deviation / len(values) ** 0.5


def missing(*modules: str) -> str | None:
    """Why a contestant that needs these modules cannot take part, or None."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            return f"{module} cannot be imported: {error}"
    return None
