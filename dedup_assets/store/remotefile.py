"""An object of S3 as a file to read: small reads through a few blocks, large ones as they are."""

from collections import OrderedDict

from dedup_assets.store.rangefile import RangeFile
from dedup_assets.store.s3 import S3Objects

_BLOCK_BYTES = 4 << 20
_KEPT_BLOCKS = 4


class RemoteFile(RangeFile):
    """One content of an object: a replacement while it is open is an error, not a mixture.

    Args:
        objects: where it lies.
        path: ``bucket/key``.

    Raises:
        FileNotFoundError: there is no such object.
    """

    def __init__(self, objects: S3Objects, path: str) -> None:
        tail = objects.read_tail(path)
        super().__init__(tail.size)
        self._objects = objects
        self._path = path
        self._etag = tail.etag
        self._tail = tail.data
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

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
