"""Rows of one file group on their way to their clusters, in memory or, past a budget, on disk."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class _Part:
    """One batch, sorted by cluster. ``vectors`` is a matrix, or the file that holds it."""

    columns: pa.Table
    bounds: np.ndarray
    vectors: np.ndarray | Path


class Spool:
    """Collects rows with a cluster label and hands them out cluster by cluster.

    Vectors are kept in memory up to a budget; what comes after goes to scratch files, which
    changes nothing about the result.

    Args:
        n_clusters: labels are 0 to n_clusters - 1.
        dim: length of the vectors.
        memory_budget: bytes of vectors to keep in memory.
    """

    def __init__(self, n_clusters: int, dim: int, memory_budget: int) -> None:
        self._clusters = np.arange(n_clusters + 1)
        self._dim = dim
        self._budget = memory_budget
        self._parts: list[_Part] = []
        self._held = 0
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.rows = np.zeros(n_clusters, dtype=np.int64)
        self.spilled_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._scratch is not None:
            self._scratch.cleanup()

    def add(self, columns: pa.Table, vectors: np.ndarray, labels: np.ndarray) -> None:
        """Take in rows: their columns but the vector, (n, d) float32 vectors, (n,) labels."""
        order = np.argsort(labels, kind="stable")
        bounds = np.searchsorted(labels[order], self._clusters)
        self.rows += np.diff(bounds)
        vectors = vectors[order]
        if self._held + vectors.nbytes > self._budget:
            self._parts.append(_Part(columns.take(pa.array(order)), bounds, self._spill(vectors)))
        else:
            self._held += vectors.nbytes
            self._parts.append(_Part(columns.take(pa.array(order)), bounds, vectors))

    def cluster(self, cluster: int) -> tuple[pa.Table, np.ndarray]:
        """Columns and vectors of the rows of one cluster, in the order they came."""
        columns, vectors = [], []
        for part in self._parts:
            first, last = int(part.bounds[cluster]), int(part.bounds[cluster + 1])
            if first == last:
                continue
            columns.append(part.columns.slice(first, last - first))
            if isinstance(part.vectors, Path):
                # Read rather than mapped: mapped pages would count as this process's memory.
                flat = np.fromfile(
                    part.vectors,
                    dtype=np.float32,
                    count=(last - first) * self._dim,
                    offset=first * self._dim * 4,
                )
                vectors.append(flat.reshape(-1, self._dim))
            else:
                vectors.append(part.vectors[first:last])
        return pa.concat_tables(columns), np.concatenate(vectors)

    def _spill(self, vectors: np.ndarray) -> Path:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="dedup-assets-spool-")
        path = Path(self._scratch.name) / f"{len(self._parts)}.f32"
        vectors.tofile(path)
        self.spilled_bytes += vectors.nbytes
        return path
