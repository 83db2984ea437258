"""How far a quick product of two rows may lie from their cosine."""

from typing import Any

U32 = 2.0**-24
U64 = 2.0**-53
LIMIT_ROUNDING = 2.0**-22
"""What to add to a bound whose threshold is itself rounded to float32."""
FAST_TOLERANCE = 1e-3
"""How far below the maximum of its row a score may be with ``precision="fast"``."""


def screen_bound(dim: int, deviation: float) -> float:
    """How far a float32 dot product of two rows may lie from their rounded cosine.

    The first term is the standard bound of a sum of ``dim`` products in any order, with or
    without fused operations (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), for
    rows whose squared length is 1 within ``deviation``; then the norms left out by the screen,
    and the rounding of the score itself.
    """
    gamma = dim * U32 / (1 - dim * U32)
    return gamma * (1 + deviation) + 1.01 * deviation + 2 * U32


def cast_bound(dim: int, deviation: float, residual: Any, largest_residual: float) -> Any:
    """The same for a product of rows that were rounded to a shorter format.

    With x = x' + r and y = y' + s, x.y - x'.y' = r.y + x'.s, which is at most
    |r| |y| + |x'| |s|; lengths differ from 1 by less than ``deviation``. Units that round each
    addition to odd or towards zero err by twice as much as those that round to nearest. Tensor
    cores cut all of four or more products and the sum so far below the last place of the largest,
    and then the result (Fasi et al., Numerical behavior of NVIDIA tensor cores, 2021): at most six
    such errors for four products, which is three times as much.

    Args:
        dim: dimension of the rows, whose products are exact in float32 and summed there.
        deviation: as in `screen_bound`.
        residual: lengths of the rounding errors of the rows, an array.
        largest_residual: the greatest of those of the rows it is compared with.
    """
    length = 1 + deviation
    cast = residual * length + (length + residual) * largest_residual
    return cast + 3 * screen_bound(dim, deviation) * (1 + largest_residual) ** 2
