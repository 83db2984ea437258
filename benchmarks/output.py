"""Tables on the terminal and JSON in a file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console  # not where only arrays are measured, as on a GPU machine

_COLOURS = {"reached": "green", "missed": "red", "lost in noise": "yellow"}


@dataclass(frozen=True)
class Target:
    """What a number should be, and whether it is. Shown, never asserted.

    The number is to be at most the limit, or with ``at_least`` no less.

    ``noise`` is how far the number may be off, where that is known; a number that lies closer to
    its limit than that says nothing either way.
    """

    name: str
    value: float
    limit: float
    unit: str
    noise: float = 0.0
    at_least: bool = False

    @property
    def state(self) -> str:
        if abs(self.value - self.limit) < self.noise:
            return "lost in noise"
        reached = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "reached" if reached else "missed"

    @property
    def rule(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.limit:,g} {self.unit}".strip()

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "at_least" if self.at_least else "at_most": self.limit,
            "unit": self.unit,
            "noise": round(self.noise, 3),
            "state": self.state,
        }


def show_table(
    console: "Console", title: str, columns: list[str], rows: list[list[Any]], digits: int = 2
) -> None:
    """Print a table; its first column is text, the others are right-aligned."""
    from rich.table import Table

    shown = Table(title=title, title_justify="left", title_style="bold")
    for position, name in enumerate(columns):
        shown.add_column(name, justify="right" if position else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(_text(value, digits) for value in row))
    console.print(shown)


def show_targets(console: "Console", targets: list[Target]) -> None:
    rows = _target_rows(targets)
    for row in rows:
        row[-1] = f"[{_COLOURS[row[-1]]}]{row[-1]}[/]"
    show_table(console, "Targets", ["what", "is", "should be", ""], rows)


def print_table(title: str, columns: list[str], rows: list[list[Any]], digits: int = 2) -> None:
    """Print a table in Markdown, ready for a page of the documentation."""
    cells = [columns, *([_text(value, digits) for value in row] for row in rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(columns))]
    lines = [
        " | ".join(
            text.rjust(width) if position else text.ljust(width)
            for position, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines.insert(1, " | ".join(rule))
    print(f"\n{title}\n")
    print("\n".join(f"| {line} |" for line in lines), flush=True)


def print_targets(targets: list[Target]) -> None:
    print_table("Targets", ["what", "is", "should be", ""], _target_rows(targets))


def _target_rows(targets: list[Target]) -> list[list[str]]:
    return [
        [
            target.name,
            f"{target.value:,.2f}{_noise(target)} {target.unit}".strip(),
            target.rule,
            target.state,
        ]
        for target in targets
    ]


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
