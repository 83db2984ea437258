"""L2 normalisation of rows, and which rows cannot be normalised."""

from dataclasses import dataclass
from typing import Any

from dedup_assets.compute.arrays import array_module
from dedup_assets.compute.exact import chunk_rows, fold

VALID, NOT_FINITE, ZERO_VECTOR = 0, 1, 2
REASONS = {NOT_FINITE: "NaN or infinite value", ZERO_VECTOR: "zero vector"}


@dataclass(frozen=True)
class UnitRows:
    """Rows of length one.

    Attributes:
        rows: of shape (n, d), float32; rows that are not valid hold zeros.
        status: of shape (n,), uint8: `VALID`, `NOT_FINITE` or `ZERO_VECTOR`.
    """

    rows: Any
    status: Any


def unit_rows(x: Any) -> UnitRows:
    """L2-normalise ``x`` of shape (n, d), any float dtype, on host or device.

    Length and division are computed in float64 and rounded once to float32, so a row's result
    depends on that row alone. Float64 rows too long or too short to be squared are first scaled
    by a power of two, which is exact.
    """
    xp = array_module(x)
    n, dim = x.shape
    rows = xp.zeros((n, dim), dtype=xp.float32)
    status = xp.full(n, VALID, dtype=xp.uint8)
    step = chunk_rows(xp, dim)
    for start in range(0, n, step):
        part = slice(start, start + step)
        wide = x[part].astype(xp.float64)
        finite = xp.isfinite(wide).all(axis=1)
        wide[~finite] = 0.0
        if x.dtype == xp.float64:
            _, exponent = xp.frexp(xp.abs(wide).max(axis=1))
            # In two steps, since 2**-exponent itself can be out of range for subnormal rows.
            half = exponent // 2
            wide = xp.ldexp(xp.ldexp(wide, -half[:, None]), (half - exponent)[:, None])
        length = xp.sqrt(fold(wide * wide))
        empty = length == 0.0
        status[part] = xp.where(~finite, NOT_FINITE, xp.where(empty, ZERO_VECTOR, VALID))
        length[empty] = 1.0
        wide /= length[:, None]
        rows[part] = wide
    return UnitRows(rows, status)
