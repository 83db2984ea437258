"""Slow and literal: one pair at a time, in float64, with correctly rounded sums."""

import math

import numpy as np


def exact_dot(a: np.ndarray, b: np.ndarray) -> float:
    """The products of float32 numbers are exact in float64, and fsum rounds their sum once."""
    return math.fsum(float(p) * float(q) for p, q in zip(a, b, strict=True))


def exact_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return exact_dot(a, b) / math.sqrt(exact_dot(a, a) * exact_dot(b, b))


def best_earlier(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row the highest rounded cosine with an earlier row, and the first to attain it."""
    n = len(x)
    score = np.zeros(n, dtype=np.float32)
    index = np.zeros(n, dtype=np.int64)
    for i in range(1, n):
        cosines = [np.float32(exact_cosine(x[i], x[j])) for j in range(i)]
        score[i] = max(cosines)
        index[i] = cosines.index(max(cosines))
    return score, index


def best_earlier_by_product(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `best_earlier`, from one float64 product, for more rows."""
    wide = x.astype(np.float64)
    norms = (wide * wide).sum(axis=1)
    cosine = ((wide @ wide.T) / np.sqrt(norms[:, None] * norms[None, :])).astype(np.float32)
    cosine[np.triu_indices(len(x))] = -np.inf
    index = cosine.argmax(axis=1)
    score = cosine[np.arange(len(x)), index]
    score[0], index[0] = 0.0, 0
    return score, index


def best_partners(
    x: np.ndarray, clusters: np.ndarray, queries: np.ndarray
) -> list[tuple[tuple[int, float] | None, tuple[int, float] | None]]:
    """For each query (row, score) of the best other row of its cluster and of all other clusters.

    Of equally good rows the first; None where there is no row.
    """
    wide = x.astype(np.float64)
    norms = (wide * wide).sum(axis=1)
    found = []
    for query in queries:
        cosine = (wide @ wide[query] / np.sqrt(norms * norms[query])).astype(np.float32)
        same = clusters == clusters[query]
        sides = []
        for candidates in (same & (np.arange(len(x)) != query), ~same):
            masked = np.where(candidates, cosine, -np.inf)
            best = int(masked.argmax())
            sides.append((best, float(cosine[best])) if candidates.any() else None)
        found.append((sides[0], sides[1]))
    return found
