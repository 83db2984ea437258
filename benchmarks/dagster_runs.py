"""The process of `benchmarks.dagster` that launches runs, in turns, over one finished output."""

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.child import in_child
from benchmarks.dagster_table import EPS, FUNCTIONS, IN_PROCESS, MANY, NOTHING
from benchmarks.dagster_ui import Ui, served
from benchmarks.stages import Stopwatch, call_stages
from dedup_assets.assets.common import asset_key
from dedup_assets.command.settings_file import load_settings
from dedup_assets.component import build_definitions
from dedup_assets.graph import DUPLICATE_IDS
from dedup_assets.runs import curation_job_name

_AT_EPS = (
    *("duplicate_ids", "missed_at_eps"),
    *("rows_conserved", "removed_have_match", "lists_match_ledger"),
)
_STATUS_ROUNDS = 10


def measure(
    output: str,
    homes: str,
    warm_ups: int,
    rounds: int,
    executors: list[str],
    eps_registered: int,
    eps_made: int,
) -> dict[str, Any]:
    """All runs and queries.

    Args:
        output: an output with finished scores and settings.
        homes: folder for two instances: with few eps, and with many.
        warm_ups: rounds that do not count.
        rounds: rounds that do.
        executors: of the runs.
        eps_registered: partitions of the second instance.
        eps_made: how many of them are materialized.
    """
    turns = Turns(new_eps())
    with served(output, Path(homes, "few")) as few, served(output, Path(homes, "many")) as many:
        few.launch_eps(next(turns.eps), IN_PROCESS)
        one = few.statuses(_STATUS_ROUNDS)
        fill(many, turns.eps, eps_registered, eps_made)
        several = many.statuses(_STATUS_ROUNDS)
        for number in range(-warm_ups, rounds):
            turns.eps_round(few, many, executors, counts=number >= 0)
        for number in range(-warm_ups, rounds):
            turns.nothing_round(few, executors, counts=number >= 0)
    return {"runs": turns.done, "statuses": {"one": one, "many": several}}


@dataclass
class Turns:
    """Rounds of launches, each at an eps of its own.

    Attributes:
        eps: values that were not made yet.
        done: by kind and executor, what each round took.
    """

    eps: Iterator[str]
    done: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)

    def eps_round(self, few: Ui, many: Ui, executors: list[str], *, counts: bool) -> None:
        """One more eps: by its functions, with each executor, and where there are many eps."""
        output = few.settings.storage.output_path
        functions = in_child(__name__, "call_functions", output=output, eps=next(self.eps))
        self._add(counts, EPS, FUNCTIONS, {"s": functions["eps_s"]})
        self._add(counts, NOTHING, FUNCTIONS, {"s": functions["nothing_s"]})
        for executor in executors:
            self._add(counts, EPS, executor, few.launch_eps(next(self.eps), executor))
        self._add(counts, MANY, IN_PROCESS, many.launch_eps(next(self.eps), IN_PROCESS))

    def nothing_round(self, few: Ui, executors: list[str], *, counts: bool) -> None:
        """All up to the histogram, which is up to date; to warm up, with one executor."""
        for executor in executors if counts else executors[:1]:
            self._add(counts, NOTHING, executor, few.launch_scoring(executor))

    def _add(self, counts: bool, kind: str, name: str, found: dict[str, Any]) -> None:
        if counts:
            self.done.setdefault(kind, {}).setdefault(name, []).append(found)


def new_eps() -> Iterator[str]:
    """eps values that no run has made; none ends in a zero, which would be dropped."""
    return (f"0.0{number}" for number in range(2001, 9999, 2))


def fill(ui: Ui, eps: Iterator[str], registered: int, made: int) -> None:
    """Register many eps, and make some of them in this process, which is not measured."""
    values = [next(eps) for _ in range(registered)]
    ui.register(values)
    job = build_definitions(ui.settings).resolve_job_def(curation_job_name(ui.settings))
    selection = [asset_key(ui.settings, DUPLICATE_IDS)]
    for value in values[:made]:
        job.execute_in_process(instance=ui.instance, partition_key=value, asset_selection=selection)
    gc.collect()


def call_functions(output: str, eps: str) -> dict[str, Any]:
    """The functions behind the assets and checks, without Dagster, on finished scores."""
    watch = Stopwatch()
    call_stages(load_settings(output).replace(eps_thresholds=[eps], eps_to_extract=None), watch)
    at_eps = sum(watch.wall[name] for name in _AT_EPS)
    return {"eps_s": at_eps, "nothing_s": sum(watch.wall.values()) - at_eps}
