"""An object of S3 as a file to read: small reads through a few blocks, large ones as they are."""

import io
from collections import OrderedDict

from dedup_assets.store.s3 import S3Objects

_BLOCK_BYTES = 4 << 20
_KEPT_BLOCKS = 4


class RemoteFile(io.RawIOBase):
    """One content of an object: a replacement while it is open is an error, not a mixture.

    Args:
        objects: where it lies.
        path: ``bucket/key``.

    Raises:
        FileNotFoundError: there is no such object.
    """

    def __init__(self, objects: S3Objects, path: str) -> None:
        super().__init__()
        self._objects = objects
        self._path = path
        tail = objects.read_tail(path)
        self.size = tail.size
        self._etag = tail.etag
        self._tail = tail.data
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}")
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        end = self.size if size is None or size < 0 else min(self.size, self._position + size)
        data = self._between(self._position, end) if end > self._position else b""
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _between(self, start: int, end: int) -> bytes:
        tail_start = self.size - len(self._tail)
        if start >= tail_start:
            return self._tail[start - tail_start : end - tail_start]
        if end - start >= _BLOCK_BYTES:
            return self._objects.read(self._path, start, end, self._etag).data
        parts = []
        for number in range(start // _BLOCK_BYTES, (end - 1) // _BLOCK_BYTES + 1):
            first = number * _BLOCK_BYTES
            parts.append(self._block(number)[max(0, start - first) : end - first])
        return b"".join(parts)

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        start = number * _BLOCK_BYTES
        end = min(self.size, start + _BLOCK_BYTES)
        data = self._objects.read(self._path, start, end, self._etag).data
        self._blocks[number] = data
        if len(self._blocks) > _KEPT_BLOCKS:
            self._blocks.popitem(last=False)
        return data
