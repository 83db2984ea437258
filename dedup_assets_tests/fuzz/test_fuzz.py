"""A short run of the fuzz test, and that it sees what it is there for."""

from pathlib import Path

import pytest

from dedup_assets.errors import InputError
from dedup_assets_tests.fuzz import run, worker
from dedup_assets_tests.fuzz.made import Made

INPUTS = 150


def test_odd_and_damaged_inputs_are_read_as_they_are_or_refused_in_one_line():
    found = list(run.outcomes(0, INPUTS))
    assert len(found) == INPUTS
    assert [f"seed {f.seed}: {f}" for f in found if f.outcome in run.FAILURES] == []
    assert {"read", "InputError"} <= {f.outcome for f in found}


class TwoLinesError(InputError):
    def __str__(self) -> str:
        return "two\nlines"


def test_a_process_that_dies_is_a_crash_and_the_next_input_is_read(monkeypatch: pytest.MonkeyPatch):
    real = run._Worker.ask

    def ask(self: run._Worker, seed: int) -> dict[str, str] | None:
        if seed == 1:
            self._process.kill()
        return real(self, seed)

    monkeypatch.setattr(run._Worker, "ask", ask)
    first, crashed, third = run.outcomes(0, 3)
    assert (crashed.seed, crashed.outcome) == (1, "crash")
    assert "crash" not in (first.outcome, third.outcome)


def test_a_process_that_does_not_answer_in_time_is_a_hang(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "LONGEST_S", 0.0)
    (hung,) = run.outcomes(0, 1)
    assert (hung.seed, hung.outcome) == (0, "hang")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KeyError("x"), "traceback"),
        (TwoLinesError(), "several lines"),
        (InputError("one"), "InputError"),
    ],
)
def test_errors_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, outcome: str
):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(worker, "read", fail)
    assert worker.tried(Made("x", tmp_path), tmp_path)[0] == outcome


def test_a_valid_input_that_is_refused_or_read_otherwise_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "in").mkdir()
    made = Made("x", tmp_path / "in", must_read=True)
    assert worker.tried(made, tmp_path)[0] == "wrong rows"
    monkeypatch.setattr(worker, "read", lambda *_: ({"a": [1.0]}, 0))
    assert worker.tried(Made("x", tmp_path, ({"a": [2.0]}, 0)), tmp_path)[0] == "wrong rows"
