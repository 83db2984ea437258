"""Times, as people write them."""

import math
import re

from dedup_assets.errors import shown

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """Seconds from text such as ``10m``, ``90s``, ``2h`` or ``1h30m``; a plain number is seconds.

    Raises:
        ValueError: it is none of these, or not above zero.
    """
    number = r"[0-9]+(\.[0-9]+)?"
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*([smh]?)", text.strip().lower())
    whole = re.fullmatch(rf"({number}|({number}\s*[smh]\s*)+)", text.strip().lower())
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if whole is None or not 0 < seconds < math.inf:
        raise ValueError(f"a time must look like 10m, 90s or 2h, got {shown(text)}")
    return seconds


def format_duration(seconds: float) -> str:
    """A short text such as ``0.4 s``, ``12 min`` or ``1.5 h``."""
    if seconds < 99.5:
        value, unit = seconds, "s"
    elif seconds < 99.5 * 60:
        value, unit = seconds / 60, "min"
    elif seconds < 99.5 * 3600:
        value, unit = seconds / 3600, "h"
    else:
        value, unit = seconds / 86400, "d"
    return f"{value:.1f} {unit}" if value < 9.95 else f"{value:,.0f} {unit}"
