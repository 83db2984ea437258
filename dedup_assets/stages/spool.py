"""Rows of one file group on their way to their clusters, in memory or, past a budget, on disk."""

import contextlib
import tempfile
from types import TracebackType
from typing import IO, Self

import numpy as np
import pyarrow as pa

SLABS = 8  # that the budget has room for, at least; what spills is one of them
BLOCKS_SHARE = 16  # this part of the budget is for blocks that were read
SLAB_BYTES = 256 << 20  # the most, so that no text of a slab reaches the 2 GiB of a text column
BLOCKS = 256  # of a slab on disk; one is read at a time


class Spool:
    """Collects rows with a cluster label and hands them out cluster by cluster.

    Rows are copied into slabs of one size, however few or many come at once. Slabs stay in memory
    while there is room for the next; then they go to a scratch file, sorted by cluster, which
    changes nothing about what is handed out. `clear` makes room for the next group in the same
    memory and the same file: new pages cost more than copies on many machines.

    Args:
        n_clusters: labels are 0 to n_clusters - 1.
        dim: length of the vectors.
        memory_budget: bytes to hold. One row may always be held, and the label of each row.

    Attributes:
        rows: of shape (n_clusters,), how many rows each cluster has.
        held: bytes of the rows in memory, and of the labels of all rows; what was read back from
            disk comes in addition, within the share that is kept for it.
        most: the highest ``held`` so far.
        spilled_bytes: bytes of the rows that went to disk, of all groups.
    """

    def __init__(self, n_clusters: int, dim: int, memory_budget: int) -> None:
        self._dim = dim
        self._blocks = _Room(memory_budget // BLOCKS_SHARE)
        self._budget = memory_budget - self._blocks.size
        self._slab_bytes = max(1, min(SLAB_BYTES, self._budget // SLABS))
        self._parts: list[_Slab | _Run] = []
        self._filling: _Filling | None = None
        self._spare: list[np.ndarray] = []
        self._scratch: IO[bytes] | None = None
        self._end = 0
        self.rows = np.zeros(n_clusters, dtype=np.int64)
        self.held = self.most = self.spilled_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._scratch is not None:
            with contextlib.suppress(OSError):  # of a write that has failed already
                self._scratch.close()

    def add(self, columns: pa.Table, vectors: np.ndarray, labels: np.ndarray) -> None:
        """Take in rows: their columns but the vector, (n, d) float32 vectors, (n,) int32 labels."""
        n = len(labels)
        self.rows += np.bincount(labels, minlength=len(self.rows))
        # The vector, the columns, the label, and later its place in the order.
        row_bytes = 4 * self._dim + -(-columns.nbytes // max(1, n)) + 4 + 8
        start = 0
        while start < n:
            if self._filling is None:
                self._filling = _Filling(self._matrix())
            filling = self._filling
            fit = max(1, (self._slab_bytes - filling.nbytes) // row_bytes)
            part = slice(start, start + min(fit, filling.room, n - start))
            self._hold(filling.add(columns[part], vectors[part], labels[part], row_bytes))
            if filling.room == 0 or filling.nbytes + row_bytes > self._slab_bytes:
                self._close_slab(filling, self._slab_bytes)
            start = part.stop

    def cluster(self, cluster: int) -> tuple[pa.Table, np.ndarray]:
        """Columns and vectors of the rows of a cluster that has some, in the order they came.

        To be called when all rows are in.
        """
        if self._filling is not None:
            self._close_slab(self._filling, 0)
        vectors = np.empty((int(self.rows[cluster]), self._dim), dtype=np.float32)
        columns, at = [], 0
        ends = np.array([cluster, cluster + 1], dtype=np.int32)  # as the labels, or they are cast
        for part in self._parts:
            first, last = part.labels.searchsorted(ends).tolist()
            if first < last:
                columns += part.take(first, last, vectors[at : at + last - first])
                at += last - first
        return pa.concat_tables(columns), vectors

    def clear(self) -> None:
        """Forget all rows."""
        self._spare += [part.matrix for part in self._parts if isinstance(part, _Slab)]
        if self._filling is not None:
            self._spare.append(self._filling.matrix)
        self._parts, self._filling, self._end = [], None, 0
        self._blocks.free = self._blocks.size
        self.rows[:] = 0
        self.held = 0

    def _close_slab(self, filling: "_Filling", needed: int) -> None:
        """Sort a slab, and spill the latest ones until there is room for ``needed`` bytes."""
        self._filling = None
        self._parts.append(filling.sorted())
        in_memory = [i for i, part in enumerate(self._parts) if isinstance(part, _Slab)]
        while in_memory and self.held + needed > self._budget:
            self._spill(in_memory.pop())

    def _spill(self, number: int) -> None:
        slab = self._parts[number]
        assert isinstance(slab, _Slab)
        try:
            if self._scratch is None:
                # Without a name, so it is gone even if this process is killed.
                self._scratch = tempfile.TemporaryFile(prefix="dedup-assets-")  # noqa: SIM115
            self._parts[number] = run = _Run(slab, self._scratch, self._end, self._blocks)
        except OSError as error:
            error.filename = error.filename or tempfile.gettempdir()
            raise
        self._end = run.end
        self._spare.append(slab.matrix)
        self._hold(run.nbytes - slab.nbytes)
        self.spilled_bytes += slab.nbytes

    def _matrix(self) -> np.ndarray:
        if self._spare:
            return self._spare.pop()
        return np.empty((max(1, self._slab_bytes // (4 * self._dim)), self._dim), dtype=np.float32)

    def _hold(self, more: int) -> None:
        self.held += more
        self.most = max(self.most, self.held)


class _Room:
    """Bytes that blocks may still take."""

    def __init__(self, size: int) -> None:
        self.size = self.free = size

    def take(self, size: int) -> bool:
        """Take room if there is enough."""
        enough = size <= self.free
        self.free -= size if enough else 0
        return enough


class _Filling:
    """A slab that takes in rows."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix
        self._columns: list[pa.Table] = []
        self._labels: list[np.ndarray] = []
        self._rows = self.nbytes = 0

    @property
    def room(self) -> int:
        return len(self.matrix) - self._rows

    def add(
        self, columns: pa.Table, vectors: np.ndarray, labels: np.ndarray, row_bytes: int
    ) -> int:
        """Returns the bytes of what it took in."""
        n = len(labels)
        self.matrix[self._rows : self._rows + n] = vectors
        self._columns.append(columns)
        self._labels.append(labels)
        self._rows += n
        self.nbytes += n * row_bytes
        return n * row_bytes

    def sorted(self) -> "_Slab":
        labels = np.concatenate(self._labels)
        order = np.argsort(labels, kind="stable")
        columns = pa.concat_tables(self._columns).unify_dictionaries().combine_chunks()
        columns = columns.take(pa.array(order))
        return _Slab(columns, labels[order], self.matrix, order, self.nbytes)


class _Slab:
    """A full slab: columns and labels sorted by cluster, vectors as they came, with the order."""

    def __init__(
        self,
        columns: pa.Table,
        labels: np.ndarray,
        matrix: np.ndarray,
        order: np.ndarray,
        nbytes: int,
    ) -> None:
        self.columns = columns
        self.labels = labels
        self.matrix = matrix
        self.nbytes = nbytes
        self._order = order

    def take(self, first: int, last: int, out: np.ndarray) -> list[pa.Table]:
        """Columns of the sorted rows from first to last; their vectors go to ``out``."""
        # With mode=raise, NumPy would go through a copy.
        self.matrix.take(self._order[first:last], axis=0, out=out, mode="clip")
        return [self.columns.slice(first, last - first)]


class _Run:
    """A slab on disk, in blocks of sorted rows: each an Arrow stream, the vector its last column.

    Blocks are read rather than mapped: mapped pages would count as this process's memory. The
    last one read stays if there is room, since the next cluster mostly begins in it.
    """

    def __init__(self, slab: _Slab, scratch: IO[bytes], begin: int, room: _Room) -> None:
        n, dim = len(slab.labels), slab.matrix.shape[1]
        self.labels = slab.labels
        self._scratch = scratch
        self._room = room
        self._step = -(-n // BLOCKS)
        self._bounds = [scratch.seek(begin)]
        self._kept: tuple[int, pa.Table] | None = None
        for start in range(0, n, self._step):
            vectors = np.empty((min(self._step, n - start), dim), dtype=np.float32)
            table = slab.take(start, start + len(vectors), vectors)[0]
            table = table.append_column(
                "", pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim)
            )
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
            self._bounds.append(self._bounds[-1] + scratch.write(sink.getvalue()))
        scratch.flush()

    @property
    def nbytes(self) -> int:
        return self.labels.nbytes

    @property
    def end(self) -> int:
        """Where it ends in the scratch file."""
        return self._bounds[-1]

    def take(self, first: int, last: int, out: np.ndarray) -> list[pa.Table]:
        """As of a slab."""
        columns, at = [], first
        while at < last:
            number, begin = divmod(at, self._step)
            block = self._read(number).slice(begin, last - at)
            vectors = block.columns[-1].chunk(0).flatten().to_numpy()
            out[at - first : at - first + len(block)] = vectors.reshape(len(block), -1)
            columns.append(block.select(range(block.num_columns - 1)))
            at += len(block)
        return columns

    def _read(self, number: int) -> pa.Table:
        if self._kept is not None:
            kept, block = self._kept
            if kept == number:
                return block
            self._room.free += self._bounds[kept + 1] - self._bounds[kept]
            self._kept = None
        first, end = self._bounds[number : number + 2]
        self._scratch.seek(first)
        block = pa.ipc.open_stream(self._scratch.read(end - first)).read_all()
        if self._room.take(end - first):
            self._kept = number, block
        return block
