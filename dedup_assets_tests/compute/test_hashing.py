"""The hash decides samples and the random order, so these constants may never change."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.compute.hashing import hash_integers, hash_strings
from dedup_assets.store.arrow import hash_ids

PINNED = {
    "": (0xE220A8397B1DCDAF, 0x07DC930B302278A8),
    "a": (0x0A18F3F7B65C912A, 0x4F9148E2AB4FD27F),
    "clip-0001": (0x6F89B64A5C76A023, 0x47D95369481F12E9),
    "exactly8": (0x02994BFE9EB0900E, 0x9AC113E360C4FA5A),
    "exactly88": (0xA1EB3697EF560555, 0xF71C870E0476D26F),
    "ä/é.mp4": (0x3F3BB2E2A4059A38, 0x97CD24C5D728D109),
    "x" * 100: (0x3FAF6CE694FB188F, 0x3BCAA020D817D896),
    0: (0x0, 0x11E093444045FB0C),
    1: (0x8E58975F6D0DC556, 0xD2BA25C37060BD7A),
    -1: (0x21E4B697427D0498, 0x42B16A151F5487B2),
    2**40: (0x9BFE05645E08A0B7, 0x9E38FDEDACC7BDFD),
}


@pytest.mark.parametrize("id_", PINNED, ids=lambda i: repr(i)[:12])
def test_hash_never_changes(id_: str | int):
    expected = PINNED[id_]
    assert tuple(int(hash_ids(pa.array([id_]), seed)[0]) for seed in (0, 42)) == expected


def test_strings_hash_alike_in_any_arrow_layout():
    texts = [t for t in PINNED if isinstance(t, str)]
    expected = [PINNED[t][1] for t in texts]
    for type_ in (pa.string(), pa.large_string(), pa.string_view()):
        array = pa.array(["before", *texts, "after"], type_)
        assert hash_ids(array.slice(1, len(texts)), 42).tolist() == expected
        chunked = pa.chunked_array([pa.array(texts[:3], type_), pa.array(texts[3:], type_)])
        assert hash_ids(chunked, 42).tolist() == expected


@pytest.mark.parametrize("type_", [pa.int8(), pa.int16(), pa.int32(), pa.int64()])
def test_integers_hash_alike_in_any_width(type_: pa.DataType):
    array = pa.array([9, 0, 1, -1], type_).slice(1)
    assert hash_ids(array, 42).tolist() == [PINNED[i][1] for i in (0, 1, -1)]


def test_largest_unsigned_integers_have_hashes_of_their_own():
    top = np.array([2**64 - 1, 2**63, 2**63 - 1], dtype=np.uint64)
    assert len(set(hash_integers(top, 7).tolist())) == 3


@pytest.mark.parametrize(
    "ids", [pa.array([], pa.string()), pa.array([], pa.int64()), pa.chunked_array([], pa.string())]
)
def test_no_ids(ids: pa.Array):
    assert hash_ids(ids, 0).shape == (0,)


@given(st.lists(st.text(max_size=30), max_size=20), st.integers(0, 2**63 - 1))
def test_a_hash_depends_on_its_string_and_the_seed_alone(texts: list[str], seed: int):
    together = hash_ids(pa.array(texts, pa.string()), seed).tolist()
    assert together == [int(hash_ids(pa.array([t]), seed)[0]) for t in texts]
    assert len(set(together)) == len(set(texts))


def test_bytes_after_the_last_string_do_not_count():
    padded = np.frombuffer(b"abcdefgh12345678", dtype=np.uint8)
    offsets = np.array([0, 3])
    assert hash_strings(padded, offsets, 1) == hash_strings(padded[:3], offsets, 1)


def test_strings_that_differ_in_trailing_zero_bytes_differ():
    hashes = hash_ids(pa.array(["a", "a\0", "a\0\0", "\0" * 8, "\0" * 16, ""]), 0)
    assert len(set(hashes.tolist())) == 6


def test_hashes_spread_evenly():
    hashes = hash_ids(pa.array([f"clip-{i:06d}" for i in range(20_000)]), 42)
    counts = np.bincount((hashes >> np.uint64(60)).astype(int), minlength=16)
    assert counts.min() > 1100
    assert counts.max() < 1400
