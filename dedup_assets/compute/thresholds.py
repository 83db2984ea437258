"""eps, its one spelling, and the similarity threshold that it stands for."""

import re
from decimal import Decimal

import numpy as np

from dedup_assets.errors import shorten, shown

EPS_STEP = Decimal("0.00001")
EPS_MAX = Decimal("0.99999")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?")
"""Decimal takes the digits of all scripts, and underscores."""


def canonical_eps(value: object) -> str:
    """Return the canonical spelling of an eps: ``0.010`` is ``0.01``, ``1e-05`` is ``0.00001``.

    Args:
        value: a number or its text, 0 to 0.99999 in steps of 0.00001.

    Raises:
        ValueError: not a number, out of range, or more than 5 decimals.
    """
    rule = f"eps must be a number from 0 to {EPS_MAX} with at most 5 decimals"
    if isinstance(value, bool):
        raise ValueError(f"{rule}, got {value}")
    text = str(value).strip()
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{rule}, got {shown(value)}")
    eps = Decimal(text)
    if not eps.is_finite() or not 0 <= eps <= EPS_MAX:
        raise ValueError(f"{rule}, got {shorten(value)}")
    if eps != eps.quantize(EPS_STEP):
        raise ValueError(f"{rule}, got {shorten(value)}: round it to a multiple of {EPS_STEP}")
    text = f"{eps.quantize(EPS_STEP):f}".rstrip("0").rstrip(".")
    return text.removeprefix("-") or "0"


def score_threshold(eps: str) -> np.float32:
    """The lowest similarity that counts as a duplicate at ``eps``: float32(1 - eps)."""
    return np.float32(1 - Decimal(eps))
