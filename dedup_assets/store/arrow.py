"""Between Arrow columns and NumPy arrays."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dedup_assets.compute.hashing import hash_integers, hash_strings


def vectors_to_column(vectors: np.ndarray, type_: pa.DataType) -> pa.ChunkedArray:
    """A list column over a float32 matrix of shape (n, d), without a copy."""
    n, dim = vectors.shape
    step = (2**31 - 1) // max(dim, 1)  # the offsets of a list column are 32 bits wide
    chunks = []
    for start in range(0, n, step):
        part = vectors[start : start + step]
        offsets = pa.array(np.arange(len(part) + 1, dtype=np.int32) * np.int32(dim))
        values = pa.array(np.ascontiguousarray(part).reshape(-1))
        chunks.append(pa.ListArray.from_arrays(offsets, values, type=type_))
    return pa.chunked_array(chunks, type=type_)


def column_to_vectors(column: pa.ChunkedArray, dim: int) -> np.ndarray:
    """The float32 matrix of a list column that is known to hold rows of ``dim`` numbers."""
    parts = [chunk.flatten().to_numpy(zero_copy_only=True) for chunk in column.chunks if len(chunk)]
    if not parts:
        return np.empty((0, dim), dtype=np.float32)
    flat = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return flat.reshape(-1, dim)


def release_unused() -> None:
    """Give back to the system what Arrow keeps for reading on: a few hundred MiB after a pass."""
    pa.default_memory_pool().release_unused()


def hash_ids(ids: pa.Array | pa.ChunkedArray, seed: int) -> np.ndarray:
    """The stable 64-bit hash of (seed, id) for each id, (n,) uint64; ids must not be null."""
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    if pa.types.is_integer(ids.type):
        return hash_integers(ids.to_numpy(zero_copy_only=False), seed)
    large = pc.cast(ids, pa.large_string())
    _, offset_buffer, data_buffer = large.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[large.offset :][: len(large) + 1]
    if len(large) == 0:
        offsets = np.zeros(1, dtype=np.int64)
    size = int(offsets[-1])
    data = np.frombuffer(data_buffer, dtype=np.uint8)[:size] if size else np.empty(0, np.uint8)
    return hash_strings(data, offsets, seed)
