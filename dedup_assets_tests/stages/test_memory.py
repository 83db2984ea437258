"""Shares of the memory budget, and the peak of the process."""

import sys
from dataclasses import astuple
from pathlib import Path

import pytest

from dedup_assets.stages import memory
from dedup_assets.stages.memory import process_peak_bytes, shares


@pytest.mark.parametrize("budget", [1, 1000, 16 << 20, 1 << 30, 1 << 40])
def test_shares_leave_room_for_the_batches_in_hand(budget: int):
    """Three or more batches are in hand: as read, as unit rows, and their products of pairs."""
    share = shares(budget)
    assert sum(astuple(share)) + 3 * share.batch <= budget
    assert share.read_ahead >= 3 * share.batch  # two being read, and one to take meanwhile


def test_batches_have_a_largest_size():
    assert shares(1 << 40).batch == shares(1 << 30).batch == 16 << 20


def test_peak_stays_when_memory_is_given_back():
    block = bytearray(64 << 20)
    block[:: 1 << 12] = b"x" * (len(block) >> 12)
    del block
    assert (process_peak_bytes() or 0) > 64 << 20


def test_peak_is_known_without_proc(monkeypatch: pytest.MonkeyPatch):
    known = process_peak_bytes()
    monkeypatch.setattr(memory, "_STATUS", Path("/nowhere"))
    with_resource = process_peak_bytes()
    assert known is not None and with_resource is not None
    assert with_resource > known / 2


def test_peak_is_none_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "_STATUS", Path("/nowhere"))
    monkeypatch.setitem(sys.modules, "resource", None)
    assert process_peak_bytes() is None
