"""After any change of the input, killed or not, an output equals that of a fresh run."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dedup_assets.settings import Settings
from dedup_assets.stages.plan import plan_work
from dedup_assets.store import layout
from dedup_assets_tests.conftest import bytes_of
from dedup_assets_tests.stages.history.contents import assert_nothing_stale, contents, differing
from dedup_assets_tests.stages.history.inputs import Inputs, Row
from dedup_assets_tests.stages.history.runs import (
    Acts,
    Killed,
    Watched,
    draw_quickly,
    kind_of,
    run_all,
    run_planned,
    watch_acts,
    watch_paths,
)

pytestmark = pytest.mark.slow

RANKINGS: list[dict[str, Any]] = [
    {"which_to_keep": "hard"},
    {"which_to_keep": "easy", "sim_metric": "l2"},
    {"which_to_keep": "random"},
    {"rank_by": ["weight:desc"]},
    {"rank_by": ["label:asc", "weight:asc", "cosine_dist_to_cent:desc"]},
]
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "n_clusters": st.integers(1, 5),
    "clusters_per_partition": st.sampled_from([None, 2, 5]),
    "files_per_partition": st.sampled_from([None, 1, 1, 2]),
    "max_fragments": st.sampled_from([2, 4, 64]),
    "missed_sample": st.sampled_from([0, 8, 20, 1000]),
    "metadata_fields": st.sampled_from([[], ["label"], ["weight", "label"]]),
    "samples_per_shard": st.sampled_from([7, 1000]),
    "eps_thresholds": st.sampled_from([["0.01"], ["0.01", "0.3"], ["1e-05", "0.01", "0.3"]]),
}
CHANGES = [*("slightly",) * 4, "vectors", "columns", "columns", "ids", "all", "nothing", "order"]
"""Of a vector slightly, so that the row often keeps its cluster and rank."""

FEWEST_ROWS = 8
EXAMPLES, STEPS = 12, 8
THEN = st.sampled_from(["wait", "run", "run planned", "run planned", "kill", "kill", "abandon"])
"""What follows a change; one that is waited with is seen together with the next one."""

LOSABLE = (
    *(layout.MANIFEST, layout.ID_HASHES, layout.PARTITIONS, layout.CLUSTERS, layout.REJECTED),
    *(layout.SCORES, layout.SCORE_LEDGERS, layout.LIST_LEDGERS, layout.EXTRACTION, layout.SHARDS),
)
"""All but centroids: these are fitted again on the input as it is now."""


class Histories(RuleBasedStateMachine):
    """One output, brought up to date after each change of its input or settings."""

    def __init__(self, watched: Watched) -> None:
        super().__init__()
        self._watched = watched
        self._folder = Path(tempfile.mkdtemp(prefix="dedup-assets-histories-"))
        self._waiting = False

    def teardown(self) -> None:
        try:
            if self._waiting:
                self._bring_up_to_date(run_planned)
        finally:
            shutil.rmtree(self._folder)

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self._inputs = Inputs(
            self._folder,
            np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed")),
            data.draw(st.booleans(), label="ids are text"),
            data.draw(st.sampled_from([pa.int64(), pa.float64(), pa.string()])),
            data.draw(st.sampled_from([0.0, 0.1]), label="invalid"),
        )
        for _ in range(data.draw(st.integers(2, 4), label="files")):
            self._inputs.put(self._inputs.new_name(), self._inputs.new_rows(30))
        self._options: dict[str, Any] = {
            **data.draw(st.fixed_dictionaries(SETTINGS)),
            **data.draw(st.sampled_from(RANKINGS)),
            "eps_to_extract": "0.01",
            "clips": data.draw(st.booleans(), label="clips"),
            "export": data.draw(st.sampled_from(["shards", "shards", "media"])),
        }
        self._before = self._options
        self._bring_up_to_date(run_all)

    @rule(data=st.data(), then=THEN, count=st.integers(1, 9))
    def add(self, data: st.DataObject, then: str, count: int) -> None:
        self._inputs.put(self._inputs.new_name(), self._inputs.new_rows(count))
        self._go_on(data, then)

    @precondition(lambda self: len(self._inputs.files) > 1)
    @rule(data=st.data(), then=THEN, count=st.integers(0, 9))
    def remove(self, data: st.DataObject, then: str, count: int) -> None:
        """A file; others may come at once."""
        self._inputs.remove(self._file(data))
        count = max(count, FEWEST_ROWS - self._inputs.valid)
        if count:
            self._inputs.put(self._inputs.new_name(), self._inputs.new_rows(count))
        self._go_on(data, then)

    @precondition(lambda self: self._inputs.gone)
    @rule(data=st.data(), then=THEN)
    def bring_back(self, data: st.DataObject, then: str) -> None:
        self._inputs.bring_back(data.draw(st.sampled_from(sorted(self._inputs.gone))))
        self._go_on(data, then)

    @rule(
        data=st.data(),
        then=THEN,
        what=st.sampled_from(CHANGES),
    )
    def change(self, data: st.DataObject, then: str, what: str) -> None:
        """Of some rows of a file."""
        inputs = self._inputs
        name = self._file(data)
        rows = list(inputs.files[name])
        for place in self._some(data, rows):
            row = rows[place]
            match what:
                case "slightly" | "vectors":
                    vector = inputs.vector(near=row.vector if what == "slightly" else None)
                    rows[place] = Row(row.id, vector, row.weight, row.label)
                case "columns":
                    rows[place] = inputs.vary(row)
                case "ids":
                    rows[place] = Row(inputs.new_id(), row.vector, row.weight, row.label)
                case "all":
                    rows[place] = inputs.new_row()
                case "order":
                    rows.append(rows.pop(0) if place else rows.pop())
        inputs.put(name, rows)
        self._go_on(data, then)

    @rule(data=st.data(), then=THEN, how=st.sampled_from(["rename", "split", "merge"]))
    def rearrange(self, data: st.DataObject, then: str, how: str) -> None:
        """The same rows in other files."""
        inputs, name = self._inputs, self._file(data)
        if how == "rename":
            inputs.rename(name)
        elif how == "split":
            rows = inputs.files[name]
            at = data.draw(st.integers(0, len(rows)), label="at")
            inputs.put(name, rows[:at])
            inputs.put(inputs.new_name(), rows[at:])
        elif len(inputs.files) > 1:
            name, other = self._two_files(data)
            rows = inputs.files[name] + inputs.files[other]
            inputs.remove(other)
            del inputs.gone[other]
            inputs.put(name, rows)
        self._go_on(data, then)

    @precondition(lambda self: len(self._inputs.files) > 1)
    @rule(data=st.data(), then=THEN, whole=st.booleans())
    def move(self, data: st.DataObject, then: str, whole: bool) -> None:
        """Rows from one file into another, or ids alone."""
        name, other = self._two_files(data)
        rows, others = list(self._inputs.files[name]), list(self._inputs.files[other])
        for place in reversed(self._some(data, rows)):
            if whole:
                others.append(rows.pop(place))
            elif others and None not in (rows[place].id, others[0].id):
                one, two = rows[place], others[0]
                rows[place] = Row(two.id, one.vector, one.weight, one.label)
                others[0] = Row(one.id, two.vector, two.weight, two.label)
        self._inputs.put(name, rows)
        self._inputs.put(other, others)
        self._go_on(data, then)

    @rule(data=st.data(), then=THEN, name=st.sampled_from([*SETTINGS, "ranking", "back"]))
    def set(self, data: st.DataObject, then: str, name: str) -> None:
        """Another value of a setting, or all as they were before."""
        self._before, before = self._options, self._before
        match name:
            case "back":
                self._options = {**before, "eps_thresholds": self._options["eps_thresholds"]}
            case "ranking":
                ranked = data.draw(st.sampled_from(RANKINGS))
                names = {name for ranking in RANKINGS for name in ranking}
                rest = {k: v for k, v in self._options.items() if k not in names}
                self._options = {**rest, **ranked}
            case _:
                value = data.draw(SETTINGS[name])
                if name == "eps_thresholds":  # what was listed at others stays as it is
                    value = list(dict.fromkeys([*self._options[name], *value]))
                self._options = {**self._options, name: value}
        self._go_on(data, then)

    @precondition(lambda self: not self._waiting)
    @rule(data=st.data(), all_=st.booleans(), cut=st.booleans())
    def lose(self, data: st.DataObject, all_: bool, cut: bool) -> None:
        """A file of the output; it is written again, and the rest is the same."""
        before = bytes_of(self._output)
        place = data.draw(st.sampled_from(LOSABLE))
        names = [name for name in before if name.startswith(place)]
        if not names:
            return
        name = data.draw(st.sampled_from(names))
        sized = name.startswith((layout.SCORES, layout.EXTRACTION + "/unique_ids_"))
        if cut and sized:
            (self._output / name).write_bytes(before[name][:-9])
        else:
            (self._output / name).unlink()
        self._watched.acts = Acts()
        (run_all if all_ else run_planned)(self._settings())
        if name != layout.MANIFEST:  # which records the groups
            assert bytes_of(self._output) == before
        self._assert_as_fresh()

    def _go_on(self, data: st.DataObject, then: str) -> None:
        match then:
            case "wait":
                self._waiting = True
            case "run":
                self._bring_up_to_date(run_all)
            case "run planned":
                self._bring_up_to_date(run_planned)
            case "kill":
                self._kill(data)
            case "abandon":
                run = data.draw(st.sampled_from([run_all, run_planned]))
                self._run_until(run, self._a_moment(data, self._acts_of(run)))
                self._waiting = True

    def _bring_up_to_date(self, run: Callable[[Settings], Any]) -> None:
        self._watched.acts = Acts()
        run(self._settings())
        self._waiting = False
        self._assert_as_fresh()

    def _kill(self, data: st.DataObject) -> None:
        """Kill a run, perhaps twice, and run again: all bytes are those of a run left alone."""
        run = data.draw(st.sampled_from([run_all, run_planned]))
        acts = self._acts_of(run)
        for _ in range(data.draw(st.integers(1, 2), label="kills")):
            self._run_until(run, self._a_moment(data, acts))
        killed = bytes_of(self._output)
        planned = plan_work(self._settings(), self._settings().storage.open_output())
        self._bring_up_to_date(run)
        undisturbed, now = bytes_of(self._folder / "twin"), bytes_of(self._output)
        assert differing(undisturbed, now) == []
        if not planned:
            assert differing(killed, now) == []

    def _acts_of(self, run: Callable[[Settings], Any]) -> list[str]:
        """What a run left alone writes and deletes, below a copy of the output."""
        twin = self._folder / "twin"
        shutil.rmtree(twin, ignore_errors=True)
        if self._output.exists():
            shutil.copytree(self._output, twin)
        self._watched.acts = Acts()
        run(self._settings(twin))
        return sorted(set(self._watched.acts.done))

    def _a_moment(self, data: st.DataObject, acts: list[str]) -> str | None:
        """One of them; those between scores and their ledgers are most likely."""
        kinds = sorted({kind_of(act) for act in acts})
        if not kinds:
            return None
        scored = [kind for kind in kinds if kind.startswith(f"after writing {layout.SCORES}")]
        kind = data.draw(st.sampled_from([*kinds, *(4 * scored)]), label="kind")
        return data.draw(st.sampled_from([a for a in acts if kind_of(a) == kind]), label="moment")

    def _run_until(self, run: Callable[[Settings], Any], moment: str | None) -> None:
        self._watched.acts = Acts(deadly=moment)
        try:
            run(self._settings())
        except Killed:
            self._watched.seen[f"killed {kind_of(moment or '')}"] += 1
        finally:
            self._watched.acts = Acts()

    def _assert_as_fresh(self) -> None:
        settings = self._settings()
        fresh = self._settings(self._folder / "fresh")
        shutil.rmtree(fresh.storage.output_path, ignore_errors=True)
        for name in (layout.CENTROIDS, layout.CENTROIDS_INFO):
            target = Path(fresh.storage.output_path, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self._output / name, target)
        self._watched.acts = Acts()
        run_all(fresh)
        assert_nothing_stale(settings)
        found, expected = contents(settings), contents(fresh)
        assert sorted(found) == sorted(expected)
        for name, content in expected.items():
            assert found[name] == content, name

    @property
    def _output(self) -> Path:
        return self._folder / "out"

    def _settings(self, output: Path | None = None) -> Settings:
        return self._inputs.settings(output or self._output, **self._options)

    def _file(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self._inputs.files)), label="file")

    def _two_files(self, data: st.DataObject) -> tuple[str, str]:
        names = data.draw(st.permutations(sorted(self._inputs.files)), label="files")
        return names[0], names[1]

    def _some(self, data: st.DataObject, rows: list[Row]) -> list[int]:
        """Places of a few rows, ascending."""
        if not rows:
            return []
        chosen = data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1, max_size=4))
        return sorted(chosen)


def test_each_step_of_a_history_equals_a_fresh_run(monkeypatch: pytest.MonkeyPatch):
    """Schema, rows, order and values, tars to the byte; and each way of updating was taken."""
    watched = Watched()
    watch_acts(monkeypatch, watched)
    watch_paths(monkeypatch, watched.seen)
    draw_quickly(monkeypatch)
    options = hypothesis.settings()
    if options.derandomize:
        options = hypothesis.settings(max_examples=EXAMPLES, stateful_step_count=STEPS)
    run_state_machine_as_test(lambda: Histories(watched), settings=options)
    ways = ("updated clusters", "recovered tables", "joined groups", "sample updates")
    assert [way for way in ways if watched.seen[way] == 0] == []
    assert sum(count for what, count in watched.seen.items() if what.startswith("killed ")) > 20
