"""Batches of clusters are read while others are compared, as far as memory allows."""

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from dedup_assets.stages import score_batches

ROOM = 20


@pytest.mark.parametrize(
    "sizes", [[], [5], [10, 10, 10], [30, 2, 3, 25, 25, 1], [4, 16, 5, 16], [1] * 9]
)
def test_a_batch_is_read_while_the_one_before_is_in_use_if_both_have_room(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int]
):
    begun = [threading.Event() for _ in sizes]

    def read(snapshot: Any, batch: list[Any]) -> int:
        begun[batch[0].number].set()
        return int(batch[0].rows)

    monkeypatch.setattr(score_batches, "_read", read)
    batches: Any = [[SimpleNamespace(number=n, rows=rows)] for n, rows in enumerate(sizes)]
    snapshot: Any = SimpleNamespace()
    seen = []
    for number, rows in enumerate(score_batches._read_ahead(snapshot, batches, ROOM)):
        seen.append(rows)
        if number + 1 == len(sizes):
            break
        if rows + sizes[number + 1] <= ROOM:
            assert begun[number + 1].wait(10)
        else:
            time.sleep(0.02)
            assert not begun[number + 1].is_set()
        assert not any(event.is_set() for event in begun[number + 2 :])
    assert seen == sizes
