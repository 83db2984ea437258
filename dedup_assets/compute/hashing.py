"""A 64-bit hash of (seed, id) that is the same on every machine and in every release.

Sampling and the ``random`` rank order by it, so it is part of the meaning of the artifacts and
must never change; the hashes of dataframe libraries make no such promise. It mixes 8 bytes at a
time with the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

import hashlib

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_WORD = 8


def _mix(h: np.ndarray) -> np.ndarray:
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def _start(n: int, seed: int) -> np.ndarray:
    return _mix(np.full(n, (seed * _GOLDEN + _GOLDEN) % 2**64, dtype=np.uint64))


def hash_integers(values: np.ndarray, seed: int) -> np.ndarray:
    """Hash integers of shape (n,). Returns (n,) uint64."""
    words = values.astype(np.int64).view(np.uint64) if values.dtype != np.uint64 else values
    return _mix(_start(len(values), seed) ^ _mix(words + np.uint64(_GOLDEN)))


def hash_strings(data: np.ndarray, offsets: np.ndarray, seed: int) -> np.ndarray:
    """Hash byte strings in Arrow's layout.

    Args:
        data: of shape (b,), uint8, the bytes of all strings one after another.
        offsets: of shape (n + 1,), where string i is ``data[offsets[i]:offsets[i + 1]]``.
        seed: any integer.

    Returns:
        Array of shape (n,), uint64.
    """
    starts = offsets[:-1].astype(np.int64)
    lengths = np.diff(offsets).astype(np.int64)
    padded = np.concatenate([data, np.zeros(_WORD, dtype=np.uint8)])
    words = np.ndarray((len(data) + 1,), dtype="<u8", buffer=padded, strides=(1,))
    h = _start(len(starts), seed) ^ _mix(lengths.astype(np.uint64))
    active = np.arange(len(starts))
    for done in range(0, int(lengths.max(initial=0)), _WORD):
        active = active[lengths[active] > done]
        left = np.minimum(lengths[active] - done, _WORD).astype(np.uint64)
        drop = (np.uint64(_WORD) - left) * np.uint64(8)
        word = words[starts[active] + done] << drop >> drop
        h[active] = _mix((h[active] ^ word) + np.uint64(_GOLDEN))
    return h


def row_digests(x: np.ndarray, size: int) -> np.ndarray:
    """The first bytes of the SHA-256 of each row.

    Args:
        x: of shape (n, d), any dtype, host.
        size: bytes of a digest, at most 32.

    Returns:
        Array of shape (n, size), uint8.
    """
    data = np.ascontiguousarray(x).view(np.uint8).reshape(-1).data
    width = x.shape[1] * x.itemsize
    digests = (hashlib.sha256(data[i * width : (i + 1) * width]).digest() for i in range(len(x)))
    joined = b"".join(digest[:size] for digest in digests)
    return np.frombuffer(joined, dtype=np.uint8).reshape(len(x), size)
