"""A long pass says how far it is, even where it does not advance."""

import threading

import pytest

from dedup_assets.progress import LogProgress, listening, track


class Lines:
    """Collects lines and waits for them."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._came = threading.Condition()

    def __call__(self, line: str) -> None:
        with self._came:
            self.all.append(line)
            self._came.notify_all()

    def wait_for(self, start: str) -> None:
        with self._came:
            found = self._came.wait_for(lambda: any(a.startswith(start) for a in self.all), 60)
        assert found, self.all


def test_a_pass_that_does_not_advance_is_reported_all_the_same():
    lines = Lines()
    with listening(LogProgress(lines, every_s=0.01)), track("fitting", 100, "iterations") as done:
        lines.wait_for("fitting: 0 of 100 iterations, ")
        done(3)
        lines.wait_for("fitting: 3 of 100 iterations, ")


def test_the_innermost_pass_is_the_one_reported_and_a_total_may_be_unknown():
    lines = Lines()
    with listening(LogProgress(lines, every_s=0.01)), track("centroids"):
        lines.wait_for("centroids: ")
        with track("sampling", 1000, "rows"):
            lines.wait_for("sampling: 0 of 1,000 rows, ")
    assert "of" not in lines.all[0].split()


def test_nothing_is_said_after_the_last_pass():
    lines = Lines()
    before = threading.active_count()
    with listening(LogProgress(lines, every_s=0.01)), track("sampling", 1000, "rows"):
        lines.wait_for("sampling: ")
    assert threading.active_count() == before
    said = len(lines.all)
    with track("nobody listens", 1, "rows"):
        pass
    assert len(lines.all) == said


def test_what_the_log_raises_is_raised_by_the_pass():
    said = threading.Event()

    def fail(line: str) -> None:
        said.set()
        raise OSError("full")

    with (
        pytest.raises(OSError, match="full"),
        listening(LogProgress(fail, every_s=0.01)),
        track("sampling", 1000, "rows"),
    ):
        assert said.wait(60)
