"""Tables on the terminal and JSON in a file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

_COLOURS = {"reached": "green", "missed": "red", "lost in noise": "yellow"}


@dataclass(frozen=True)
class Target:
    """What a number should be, and whether it is. Shown, never asserted.

    ``noise`` is how far the number may be off, where that is known; a number that lies closer to
    its limit than that says nothing either way.
    """

    name: str
    value: float
    limit: float
    unit: str
    noise: float = 0.0

    @property
    def state(self) -> str:
        if abs(self.value - self.limit) < self.noise:
            return "lost in noise"
        return "reached" if self.value <= self.limit else "missed"

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "at_most": self.limit,
            "unit": self.unit,
            "noise": round(self.noise, 3),
            "state": self.state,
        }


def show_table(
    console: Console, title: str, columns: list[str], rows: list[list[Any]], digits: int = 2
) -> None:
    """Print a table; its first column is text, the others are right-aligned."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    for position, name in enumerate(columns):
        shown.add_column(name, justify="right" if position else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(_text(value, digits) for value in row))
    console.print(shown)


def show_targets(console: Console, targets: list[Target]) -> None:
    rows = [
        [
            target.name,
            f"{target.value:,.2f}{_noise(target)} {target.unit}".strip(),
            f"{target.limit:,g} {target.unit}".strip(),
            f"[{_COLOURS[target.state]}]{target.state}[/]",
        ]
        for target in targets
    ]
    show_table(console, "Targets", ["what", "is", "at most", ""], rows)


def _noise(target: Target) -> str:
    return f" ± {target.noise:,.2f}" if target.noise else ""


def write_json(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_rounded(document), indent=1) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def _text(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
