"""A share that was counted in a sample, and how sure it is."""

import math
from dataclasses import dataclass

_Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Share:
    """``part`` of ``of`` things.

    Attributes:
        value: the share, 0 to 1; None where there is nothing to have a share of.
        low, high: its 95 % interval, 0 to 1; both are the share itself where all were counted.
    """

    part: int
    of: int
    value: float | None
    low: float
    high: float

    def __str__(self) -> str:
        if self.value is None:
            return "unknown"
        if self.low == self.high:
            return f"{self.value:.1%}"
        return f"{self.value:.1%} ({100 * self.low:.1f} to {self.high:.1%})"


def share(part: int, of: int, *, all_counted: bool = False) -> Share:
    """The share ``part`` of ``of`` that was counted in a random sample, or among all there are."""
    if of == 0:
        return Share(part, of, None, 0.0, 1.0)
    value = part / of
    low, high = (value, value) if all_counted else wilson_interval(part, of)
    return Share(part, of, value, low, high)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson, JASA 22, 1927).

    It stays within 0 and 1 and keeps its level for small counts and shares near 0, where the
    usual normal interval does not (Brown, Cai and DasGupta, Statistical Science 16, 2001).

    Args:
        successes: 0 to ``trials``.
        trials: at least 1.
    """
    observed, z2 = successes / trials, _Z95 * _Z95
    middle = observed + z2 / (2 * trials)
    half = _Z95 * math.sqrt(observed * (1 - observed) / trials + z2 / (4 * trials * trials))
    scale = 1 + z2 / trials
    # For none and for all an end is exact, but for rounding.
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == trials else (middle + half) / scale
    return low, high
