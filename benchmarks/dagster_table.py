"""The table of `benchmarks.dagster`: seconds, and their ratios to a base in the same run."""

import statistics
from typing import Any

from benchmarks.rounds import ratio

IN_PROCESS, MULTIPROCESS = "in_process", "multiprocess"
"""Executors, as the configuration of a run names them."""

FUNCTIONS = "functions"
EPS, NOTHING, MANY = "one more eps", "nothing to do", "one more eps among many"


def row(what: str, seconds: list[float], base: str, of: list[float], **more: Any) -> dict[str, Any]:
    """A line of the table: seconds, and their ratio to a base of the same rounds."""
    found = ratio(seconds, of)
    return {
        "what": what,
        "s": statistics.median(seconds),
        "base": base,
        "ratio": found.value,
        "lowest": found.low,
        "highest": found.high,
        **more,
    }


def load_rows(loads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each size: loading it up to the repository, and what the code server then sends."""
    numbers = [
        {name: [one[name] for one in load["rounds"]] for name in load["rounds"][0]}
        for load in loads
    ]
    first, small = numbers[0], f"{loads[0]['clusters']:,} clusters"
    rows = [row("import of dagster", first["import_dagster_s"], small, first["load_s"])]
    rows += [row("import of the package after it", first["import_rest_s"], small, first["load_s"])]
    for load, found in zip(loads, numbers, strict=True):
        what = f"{load['clusters']:,} clusters, {found['keys'][0]:,} keys"
        rows.append(row(f"load {what}", found["load_s"], small, first["load_s"]))
        sent = {"sent_mib": found["sent_mib"][0]}
        rows.append(row(f"describe {what}", found["send_s"], small, first["send_s"], **sent))
    return rows


def run_rows(runs: dict[str, dict[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Of each kind: the functions, each executor against the one before, and among many eps."""
    rows = []
    for kind in (EPS, NOTHING):
        before, of = FUNCTIONS, _seconds(runs[kind][FUNCTIONS])
        rows.append(row(f"{kind}: {FUNCTIONS}", of, before, of))
        for executor, found in runs[kind].items():
            if executor != FUNCTIONS:
                what = f"{kind}: {executor}"
                rows.append(row(what, _seconds(found), before, of, **_inside(found)))
                before, of = executor, _seconds(found)
    few, many = runs[EPS][IN_PROCESS], runs[MANY][IN_PROCESS]
    base = f"{EPS}: {IN_PROCESS}"
    what = f"{MANY}: {IN_PROCESS}"
    return [*rows, row(what, _seconds(many), base, _seconds(few), **_inside(many))]


def _seconds(runs: list[dict[str, Any]]) -> list[float]:
    return [run["s"] for run in runs]


def _inside(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Where a launched run's time goes: until its process reports the start, and in its steps."""
    seconds = ("until_start_s", "in_steps_s")
    medians = {name: statistics.median(run[name] for run in runs) for name in seconds}
    return {**medians, "steps": runs[0]["steps"]}


def status_rows(statuses: dict[str, Any]) -> list[dict[str, Any]]:
    """The query of an asset's page: at first, and again; not in turns."""
    one, many = statuses["one"], statuses["many"]
    registered, made = many["numPartitions"], many["numMaterialized"]
    rows = []
    for name, seconds, base in (
        ("at first", [many["first_s"]], [one["first_s"]]),
        ("again", many["again_s"], one["again_s"]),
    ):
        rows.append(row(f"statuses of 1 eps, {name}", base, "1 eps", base))
        what = f"statuses of {registered:,} eps, {made:,} made, {name}"
        rows.append(row(what, seconds, "1 eps", base))
    return rows
