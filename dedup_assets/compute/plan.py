"""How a search is to be done; nothing of it but the precision changes a result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """What the searches on host and device are told.

    Attributes:
        exact: whether the maximum itself is asked for, or one up to `bounds.FAST_TOLERANCE` below.
        memory_budget: bytes for products, candidates and copies in shorter formats.
        largest_tile: most rows and columns of one product, if limited.
    """

    exact: bool
    memory_budget: int
    largest_tile: int | None = None
