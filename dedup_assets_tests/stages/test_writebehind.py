"""Writing behind: the order, the bytes, the errors and the end of its threads."""

import threading

import pytest

from dedup_assets.stages.writebehind import WriteBehind


def alive() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("write-behind")]


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("budget", [0, 5, 100])
def test_all_that_is_written_is_done_at_the_end(threads: int, budget: int):
    done = []
    with WriteBehind(threads, budget) as behind:
        for number in range(20):
            behind.write(lambda n=number: done.append(n), size=3)  # type: ignore[misc]
        behind.drain()
        assert sorted(done) == list(range(20))
        behind.write(lambda: done.append(99), size=3)
    assert done[-1] == 99
    assert not alive()


def test_one_thread_writes_in_order():
    done = []
    with WriteBehind(1, 100) as behind:
        for number in range(20):
            behind.write(lambda n=number: done.append(n), size=3)  # type: ignore[misc]
    assert done == list(range(20))


@pytest.mark.parametrize("budget", [3, 7, 100])
def test_bytes_of_unfinished_writes_stay_within_the_budget(budget: int):
    finished = []
    with WriteBehind(3, budget) as behind:
        for number in range(50):
            behind.write(lambda: finished.append(3), size=3)
            assert 3 * (number + 1) - sum(finished) <= behind.held <= budget
    assert behind.most <= budget
    assert behind.held == 0


def test_one_write_beyond_the_budget_is_done_alone():
    with WriteBehind(2, 10) as behind:
        for _ in range(3):
            behind.write(lambda: None, size=50)
    assert behind.most == 50


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_an_error_is_raised(threads: int):

    def fail() -> None:
        raise OSError(28, "No space left on device", "/out/x")

    with (
        pytest.raises(OSError, match="No space left") as caught,
        WriteBehind(threads, 1000) as behind,
    ):
        behind.write(fail, size=1)
    assert caught.value.filename == "/out/x"
    assert not alive()


def test_an_error_stops_the_writes_after_it():
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), WriteBehind(1, 10) as behind:
        for _ in range(1000):
            behind.write(fail, size=10)
    assert not alive()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_threads_end_with_a_body_that_fails_and_drop_what_has_not_begun(
    error: type[BaseException],
):
    begun, gate = [], threading.Event()

    def write() -> None:
        begun.append(1)
        gate.wait()

    with pytest.raises(error), WriteBehind(1, 100) as behind:
        for _ in range(5):
            behind.write(write, size=1)
        threading.Timer(0.01, gate.set).start()
        raise error
    assert len(begun) <= 1
    assert not alive()
