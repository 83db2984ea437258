"""DESIGN section 3 by brute force, for a pipeline's own centroids."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from dedup_assets.compute.hashing import hash_integers
from dedup_assets.store.arrow import hash_ids
from dedup_assets_tests.compute.oracle import best_earlier, exact_cosine, exact_dot
from dedup_assets_tests.conftest import Results

Pairs = list[tuple[Any, Any, float]]


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Each row over its length, in float64, rounded once."""
    rows = []
    for row in np.asarray(vectors).astype(np.float64):
        length = math.sqrt(math.fsum(row * row))
        rows.append((row / length).astype(np.float32))
    return np.array(rows)


def expected_pairs(
    ids: Sequence[Any],
    vectors: np.ndarray,
    centroids: np.ndarray,
    *,
    keep: str = "hard",
    metric: str = "cosine",
    seed: int = 42,
    rank_by: Sequence[tuple[Sequence[Any], bool]] = (),
) -> list[Pairs]:
    """The pruning table of each cluster, in rank order.

    ``rank_by``: columns of the rows with whether they are descending.
    """
    x = normalised(vectors)
    clusters: list[list[int]] = [[] for _ in centroids]
    distance = np.zeros(len(x), dtype=np.float32)
    for i, row in enumerate(x):
        cosines = [exact_cosine(row, c) for c in centroids]
        nearest = cosines.index(max(cosines))
        clusters[nearest].append(i)
        difference = row.astype(np.float64) - centroids[nearest]
        l2 = math.sqrt(exact_dot(difference, difference))
        distance[i] = 1 - cosines[nearest] if metric == "cosine" else l2
    tables = []
    for members in clusters:
        order = sorted(members, key=lambda i: ids[i])
        if rank_by:
            for values, descending in reversed(rank_by):
                present = [i for i in order if not _missing(values[i])]
                missing = [i for i in order if _missing(values[i])]
                # A sort with reverse=True keeps the order of equals.
                present.sort(key=lambda i, v=values: v[i], reverse=descending)  # type: ignore[misc]
                order = present + missing
        elif keep == "random":
            order.sort(key=lambda i: _hash(ids[i], seed))
        elif keep == "hard":
            order.sort(key=lambda i: (distance[i], ids[i]), reverse=True)
        else:
            order.sort(key=lambda i: (distance[i], ids[i]))
        score, index = best_earlier(x[order])
        tables.append(
            [(ids[i], ids[order[index[k]]], float(score[k])) for k, i in enumerate(order)]
        )
    return tables


def assert_as_oracle(
    results: Results, ids: Sequence[Any], vectors: np.ndarray, **options: Any
) -> list[Pairs]:
    """Compare all pruning tables, and what each eps removes, to brute force."""
    expected = expected_pairs(ids, vectors, results.centroids.values, **options)
    assert results.all_pairs() == expected
    for eps, duplicates in results.duplicates.items():
        threshold = np.float32(1 - float(eps))
        removed = {i for rows in expected for i, j, s in rows if i != j and s >= threshold}
        assert results.removed(eps) == removed
        assert duplicates.removed == len(removed)
        assert duplicates.kept == len(ids) - len(removed)
    return expected


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _hash(id_: Any, seed: int) -> int:
    if isinstance(id_, int):
        return int(hash_integers(np.array([id_]), seed)[0])
    return int(hash_ids(pa.array([id_]), seed)[0])
