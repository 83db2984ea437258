"""Rounds of kills: which, when, and whether what the last run leaves is what it must be."""

import json
import random
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from dedup_assets.graph import EMBEDDINGS, SPLITTING
from dedup_assets.store import layout
from dedup_assets_tests.kills.child import INSTANCE, OPENING, PLAN, SETTINGS, START, Plan
from dedup_assets_tests.kills.places import (
    Found,
    Place,
    make_clips,
    make_inputs,
    make_videos,
    table_rows,
)

CLUSTERS = 6
EPS = ("0.001", "0.05")
ASSETS = (
    *("embeddings", "centroids", "cluster_partitions", "pairwise_scores", "similarity_histogram"),
    *(f"duplicate_ids {EPS[0]}", f"duplicate_ids {EPS[1]}", f"curated_shards {EPS[1]}"),
)
BEFORE = (START, INSTANCE, SETTINGS, OPENING)
PHASES = (*BEFORE, *SPLITTING, *ASSETS)
LONGEST_S = 120
BY_TIME = 0.3
"""Share of the kills that come from outside, at a time, and not at a moment of the code."""

SCORES = "extraction/semdedup_pruning_tables/"
ALWAYS_KEPT = (SCORES, "extraction/unique_ids_", "extraction/similarity_histogram.parquet")
ALWAYS_KEPT += ("extraction/missed_by_clustering.parquet",)


@dataclass(frozen=True)
class Variant:
    """What is run, and over what.

    Attributes:
        inputs: folder of the embeddings, or of the videos.
        flags: of the command, beyond those that all have.
        before: flags of a run that has finished there earlier, if any.
        killed: flags of the runs that are killed, where they are other ones than of the last run.
        part_bytes: of uploads to S3, so that fragments and tars go in parts.
    """

    name: str
    inputs: str
    flags: tuple[str, ...] = ()
    before: tuple[str, ...] | None = None
    killed: tuple[str, ...] | None = None
    part_bytes: int = 3 << 10

    @property
    def of_videos(self) -> bool:
        return self.inputs == "videos"


SMALL = ("--n-clusters", str(CLUSTERS), "--files-per-partition", "1", "--samples-per-shard", "50")
LARGE = ("--n-clusters", str(CLUSTERS), "--files-per-partition", "2", "--memory-budget", "16MiB")
OTHER = (
    *("--n-clusters", "8", "--files-per-partition", "2", "--samples-per-shard", "40"),
    *("--which-to-keep", "easy"),
)
FRESH = Variant("fresh", "small", SMALL)
CHANGED = Variant("changed", "small", SMALL, OTHER)
BACK = Variant("back", "small", SMALL, SMALL, killed=OTHER)
SPILLED = Variant("spilled", "large", LARGE, part_bytes=256 << 10)
SECONDS = ("--fixed-stride-split-duration", "1", "--fixed-stride-min-clip-length-s", "0.5")
VIDEOS = Variant("videos", "videos", (*SECONDS, *SMALL))
VARIANTS = (FRESH, CHANGED, SPILLED, BACK, VIDEOS)


@dataclass(frozen=True)
class Kill:
    """When a run is to be killed: at a moment, or after a share of the time that a phase takes."""

    phase: str
    kind: str
    number: int
    share: float

    @property
    def by_time(self) -> bool:
        return not self.kind


@dataclass
class Outcome:
    """How a run ended, from its exit code, its output and its journal."""

    code: int
    out: str
    err: str
    journal: list[dict[str, Any]]

    @property
    def killed(self) -> bool:
        return self.code == -9

    @property
    def phase(self) -> str:
        """What it was at in the end."""
        return [entry["phase"] for entry in self.journal if "at" in entry][-1]

    @property
    def moment(self) -> str:
        stops = [f"{e['stopped']}, {e['what']}" for e in self.journal if "stopped" in e]
        return stops[0] if stops else "from outside"


@dataclass
class Undisturbed:
    """A run that nobody killed: its files, its moments and how long each phase took."""

    files: dict[str, Found]
    counts: dict[str, dict[str, int]]
    seconds: dict[str, float]
    before: dict[str, Found]


@dataclass
class Result:
    """What came of all rounds."""

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    reused: Counter[str] = field(default_factory=Counter)
    differences: list[tuple[str, str]] = field(default_factory=list)
    moments: Counter[str] = field(default_factory=Counter)


class Harness:
    """Runs the command over one place.

    Args:
        place: on disk or on S3.
        scratch: folder for inputs and journals.
        rows: of the small input.
        say: prints a line.
    """

    def __init__(
        self,
        place: Place,
        scratch: Path,
        *,
        rows: int,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.place, self._scratch, self._rows, self._say = place, scratch, rows, say
        self._runs = 0
        self._known: dict[str, Undisturbed] = {}
        make_inputs(place, scratch, "small", rows, 32)
        make_clips(place, scratch, rows)
        self.undisturbed(FRESH)

    def command(self, variant: Variant, output: str, flags: tuple[str, ...] = ()) -> list[str]:
        return [
            *("run", "--video-dir" if variant.of_videos else "--input-embeddings-path"),
            self.place.url(variant.inputs),
            *("--output-path", self.place.url(output), "--device", "cpu"),
            *("--eps-thresholds", *EPS, *(flags or variant.flags)),
            *(
                ()
                if variant is SPILLED or variant.of_videos
                else ("--clips-path", self.place.url("clips"))
            ),
            *("--eps-to-extract", EPS[1]),
        ]

    def start(self, arguments: list[str], **plan: Any) -> tuple["subprocess.Popen[str]", Path]:
        """Start a child with a plan; returns it and its journal."""
        self._runs += 1
        journal = self._scratch / f"{self._runs}.journal"
        full = Plan(str(journal), **plan)
        process = subprocess.Popen(
            [sys.executable, "-m", "dedup_assets_tests.kills.child", *arguments],
            env={**self.place.environment(), PLAN: full.encode()},
            cwd=self._scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return process, journal

    def finish(self, process: "subprocess.Popen[str]", journal: Path) -> Outcome:
        try:
            out, err = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += f"\nnot done after {LONGEST_S} s"
            return Outcome(124, out, err, read_journal(journal))
        return Outcome(process.returncode, out, err, read_journal(journal))

    def run(self, variant: Variant, output: str, flags: tuple[str, ...] = ()) -> Outcome:
        arguments = self.command(variant, output, flags)
        return self.finish(*self.start(arguments, part_bytes=variant.part_bytes))

    def killed(self, variant: Variant, output: str, kill: Kill) -> Outcome:
        """A run that is killed."""
        arguments = self.command(variant, output, variant.killed or ())
        if not kill.by_time:
            plan = {"phase": kill.phase, "kind": kill.kind, "number": kill.number}
            return self.finish(*self.start(arguments, part_bytes=variant.part_bytes, **plan))
        process, journal = self.start(arguments, part_bytes=variant.part_bytes)
        began = time.monotonic()
        if kill.phase != START:
            wait_for(process, journal, lambda entry: entry.get("phase") == kill.phase)
        seconds = self.undisturbed(variant).seconds[kill.phase]
        time.sleep(kill.share * seconds)
        process.kill()
        outcome = self.finish(process, journal)
        if not outcome.journal:
            outcome.journal = [{"phase": START, "at": began}]
        return outcome

    def undisturbed(self, variant: Variant) -> Undisturbed:
        """What an undisturbed run of a variant leaves, and what it goes through."""
        if variant.name in self._known:
            return self._known[variant.name]
        if variant is SPILLED:
            make_inputs(self.place, self._scratch, "large", 24_000, 256)
        if variant.of_videos:
            make_videos(self.place, self._scratch)
        output = f"expected-{variant.name}"
        before: dict[str, Found] = {}
        if variant.before is not None:
            earlier = f"earlier-{variant.name}"
            done = self.run(variant, earlier, variant.before)
            assert done.code == 0, done.err
            before = self.place.look(earlier)
            self.place.copy(earlier, output)
        began = time.monotonic()
        outcome = self.run(variant, output, variant.killed or ())
        assert outcome.code == 0, outcome.err
        times = [(e["phase"], e["at"]) for e in outcome.journal if "at" in e]
        times[0] = (START, began)
        seconds = {p: end - at for (p, at), (_, end) in pairwise(times)}
        counts = outcome.journal[-1]["counts"]
        files = self._look(variant, output)
        if variant.killed is not None:  # and then back to what was there before
            files, before = before, files
        known = Undisturbed(files, counts, seconds, before)
        current = set() if variant.before is None else {EMBEDDINGS}  # which no run goes through
        expected = set(PHASES) - (set() if variant.of_videos else set(SPLITTING))
        assert expected - set(seconds) <= current, expected - set(seconds)
        self._known[variant.name] = known
        return known

    def play(self, kills: int, seed: int, variants: tuple[Variant, ...] = VARIANTS) -> Result:
        """Kill so many runs, in rounds of one to three in a row over one output."""
        result = Result()
        rng = random.Random(seed)
        phases = phases_in_turn(rng)
        while result.kills.total() < kills:
            variant = variants[result.rounds % len(variants)]
            most = min(3, kills - result.kills.total())
            known = self.undisturbed(variant)
            there = (phase for phase in phases if phase in known.seconds)
            chosen = sorted((next(there) for _ in range(rng.randint(1, most))), key=PHASES.index)
            self.play_round(variant, [choose(rng, known, phase) for phase in chosen], result)
        return result

    def play_round(self, variant: Variant, kills: list[Kill], result: Result) -> None:
        """Some kills in a row over one output, a last run, and what differs after it."""
        result.rounds += 1
        known = self.undisturbed(variant)
        output = f"round-{self._runs}"  # never that of an earlier round of another test
        if variant.before is not None:
            self.place.copy(f"earlier-{variant.name}", output)
        for kill in kills:
            outcome = self.killed(variant, output, kill)
            if not outcome.killed:
                self._say(f"round {result.rounds}, {variant.name}: {kill} came too late")
                if outcome.code != 0:
                    self._differ(result, outcome.phase, f"exit code {outcome.code}: {outcome.err}")
                continue
            result.kills[outcome.phase] += 1
            result.moments[outcome.moment.partition(",")[0]] += 1
            where = f"round {result.rounds}, {variant.name}, killed at {outcome.phase}"
            self._say(f"{where}: {outcome.moment}")
            for line in torn(self._look(variant, output), known):
                self._differ(result, outcome.phase, f"after the kill {line}")
        at = outcome.phase
        left = self._look(variant, output)
        commits = {n: table_rows(self.place.read(f"{output}/{n}")) for n in left if is_commit(n)}
        resumed = self.run(variant, output)
        if resumed.code != 0:
            self._differ(result, at, f"exit code {resumed.code}: {resumed.err}")
            return
        now = self._look(variant, output)
        for line in [
            *compare(now, known.files),
            *(f"left over: {name}" for name in self.place.leftovers(output)),
            *rewritten(left, now, commits, known.files),
            *instance_problems(self.place.instance(output), self.place.instance("expected-fresh")),
            *(
                []
                if variant.of_videos
                else self._recomputed(left, known.files, resumed.out, result)
            ),
        ]:
            self._differ(result, at, line)

    def _look(self, variant: Variant, output: str) -> dict[str, Found]:
        """The files of an output that every undisturbed run writes alike.

        Where the input is made by the run, its times are in what the ledgers are made from, and so
        in the names of fragments and sets of shards.
        """
        found = self.place.look(output)
        if not variant.of_videos:
            return found
        return {
            Path(name).name if name.endswith(".tar") else name: file
            for name, file in found.items()
            if name.startswith("split/") or name.endswith((".csv", ".tar"))
        }

    def _recomputed(
        self, left: dict[str, Found], files: dict[str, Found], out: str, result: Result
    ) -> list[str]:
        """Whether exactly those clusters were compared whose tables were not there."""
        tables = [name for name in files if name.startswith(SCORES)]
        there = sum(left[n].sha == files[n].sha for n in tables if n in left)
        result.reused["clusters"] += there
        result.reused["of"] += len(tables)
        compared = clusters_compared(out)
        if compared == len(tables) - there:
            return []
        return [f"{compared} clusters were compared, and {there} of {len(tables)} were there"]

    def _differ(self, result: Result, phase: str, line: str) -> None:
        self._say(f"DIFFERENCE: {line}")
        result.differences.append((phase, line))


def phases_in_turn(rng: random.Random) -> Any:
    """Phases without end: each asset as often as the other ones, the rest less often."""
    number = 0
    while True:
        turn = [*SPLITTING, *ASSETS, INSTANCE, (START, SETTINGS, OPENING)[number % 3]]
        rng.shuffle(turn)
        yield from turn
        number += 1


def choose(rng: random.Random, known: Undisturbed, phase: str) -> Kill:
    """A time within a phase, or a moment: the kinds of moments are equally likely."""
    share, by_time, draw = rng.random(), rng.random() < BY_TIME, rng.random()
    counts = known.counts.get(phase, {})
    kind = rng.choice(sorted(counts)) if counts else ""
    if by_time or not kind:
        return Kill(phase, "", 0, share)
    return Kill(phase, kind, int(draw * counts[kind]), share)


def torn(left: dict[str, Found], known: Undisturbed) -> list[str]:
    """Files that are neither what an undisturbed run leaves nor what was there before it.

    A commit of the shuffle grows, so it has other contents on the way; the mark of scores that are
    being changed is empty, and gone at the end.
    """
    return [
        f"{name} is half of something"
        for name, found in left.items()
        if not is_commit(name)
        and not name.endswith(layout.UNFINISHED)
        and found.sha not in {f.sha for f in (known.files.get(name), known.before.get(name)) if f}
    ]


def compare(now: dict[str, Found], expected: dict[str, Found]) -> list[str]:
    return [
        *(f"{name} is missing" for name in expected.keys() - now.keys()),
        *(f"{name} is too many" for name in now.keys() - expected.keys()),
        *(f"{n} differs" for n in now.keys() & expected.keys() if now[n].sha != expected[n].sha),
    ]


def rewritten(
    left: dict[str, Found],
    now: dict[str, Found],
    commits: dict[str, list[dict[str, Any]]],
    expected: dict[str, Found],
) -> list[str]:
    """Finished files that the resumed run wrote once more."""
    fine = {n for n, found in left.items() if n in expected and found.sha == expected[n].sha}
    committed = {
        f"clustering_results/embs_by_nearest_center/nearest_cent={row['cluster']}/"
        f"{row['fragment']}.parquet"
        for rows in commits.values()
        for row in rows
    }
    info = "clustering_results/kmeans_centroids"
    indexed = f"shards/eps={EPS[1]}/index.parquet" in fine
    finished = {
        name
        for name in fine
        if name.startswith(ALWAYS_KEPT)
        or is_commit(name)
        or name in committed
        or (name.startswith(info) and f"{info}.json" in fine and f"{info}.npy" in fine)
        or (name.startswith("shards/") and indexed)
    }
    return [f"{n} was written again" for n in finished if now[n].written != left[n].written]


def instance_problems(folder: Path, undisturbed: Path) -> list[str]:
    """What is wrong with Dagster's own files: half a configuration, runs that never end."""
    problems = []
    config = (folder / "dagster.yaml").read_bytes()
    if config != (undisturbed / "dagster.yaml").read_bytes():
        problems.append(f"dagster.yaml differs: {config!r}")
    with closing(sqlite3.connect(folder / "history" / "runs.db")) as runs:
        counted = dict(runs.execute("SELECT status, count(*) FROM runs GROUP BY status"))
    open_ones = {s: n for s, n in counted.items() if s not in ("SUCCESS", "FAILURE")}
    if open_ones:
        problems.append(f"Dagster still shows runs as {open_ones}")
    return problems


def is_commit(name: str) -> bool:
    return name.startswith("clustering_results/partitions/")


def clusters_compared(out: str) -> int:
    """From what the command prints; all, where it does not say that something was current."""
    if "the rest was current" not in out and "everything was current" not in out:
        return CLUSTERS
    found = re.search(r"pairwise_scores (\d+) of \d+ clusters", out)
    return int(found[1]) if found else 0


def read_journal(journal: Path) -> list[dict[str, Any]]:
    if not journal.exists():
        return []
    return [json.loads(line) for line in journal.read_text().splitlines() if line.endswith("}")]


def wait_for(
    process: "subprocess.Popen[str]", journal: Path, is_it: Callable[[dict[str, Any]], bool]
) -> None:
    """Wait until the journal has an entry, or the process has ended."""
    deadline = time.monotonic() + LONGEST_S
    while process.poll() is None and time.monotonic() < deadline:
        if any(map(is_it, read_journal(journal))):
            return
        time.sleep(0.005)
