"""The oldest form: a folder with a ``.npy`` file for each clip, named by its id.

There may be millions, so many files together are one file to the rest of the program. Which ones
follows from hashes of their names: a clip that comes or goes changes its own pack only, or two.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from dedup_assets.compute.threads import in_order
from dedup_assets.errors import InputError, StaleError, first_line, shown
from dedup_assets.store.filesystem import size_of
from dedup_assets.store.fingerprints import digest, fingerprint
from dedup_assets.store.formats.rows import (
    Batch,
    Columns,
    InputFile,
    RejectedRow,
)
from dedup_assets.store.s3 import ChangedError
from dedup_assets.store.source import Source

EXTENSION = ".npy"
FILES_IN_PACK = 4096
_MOST_IN_PACK = 4 * FILES_IN_PACK
_FIRST_BYTES = 64 << 10  # the whole of most
_READERS = 16
_KINDS = ("f2", "f4", "f8")
_MAGIC = b"\x93NUMPY"
_TYPE = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>=|]\w+)['"]""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\d\s,]{1,100})\)""")


class NpyFiles:
    """Files with a vector each, in packs that take the name of their first file.

    Args:
        source: where they lie.
        names: of the files, sorted.
        versions: of each file, and maybe of others, by name.
        columns: what to read of them.

    Raises:
        InputError: columns are asked for that such files cannot have.
    """

    def __init__(
        self, source: Source, names: Iterable[str], versions: Mapping[str, str], columns: Columns
    ) -> None:
        if columns.carried:
            raise InputError(
                f"{source.url()} holds .npy files, which have no column "
                f"{shown(columns.carried[0])}; leave metadata_fields and rank_by out, or use the "
                "Parquet files"
            )
        self._source = source
        self._versions = versions
        self._columns = columns
        self._packs = {pack[0].as_py(): pack for pack in _cut(names)}

    def names(self) -> list[str]:
        return list(self._packs)

    def probe(self, name: str) -> InputFile:
        files = self._files(name)
        return InputFile(
            name=name,
            rows=len(files),
            bytes=sum(size_of(self._versions[file]) for file in files),
            fingerprint=self.fingerprint(name),
            id_type=pa.string(),
            metadata=pa.schema([]),
            dim=len(self._load(files[0])),
        )

    def fingerprint(self, name: str) -> str:
        """Digest of the files of a pack, by name and by what the file system knows of them."""
        if name not in self._packs:
            raise FileNotFoundError(self._source.url(name))
        files = self._files(name)
        return fingerprint("npy", name, [(file, self._versions[file]) for file in files])

    def read_ids(self, name: str) -> Iterator[pa.Array]:
        yield pa.array([_id(file) for file in self._files(name)], pa.string())

    def read(
        self, name: str, dim: int, *, columns: bool, batch_bytes: int, only: np.ndarray | None
    ) -> Iterator[Batch]:
        files = self._files(name)
        rows = np.arange(len(files)) if only is None else only
        step = max(1, batch_bytes // (8 * dim))
        loaded = in_order(self._load, (files[row] for row in rows), _READERS, 2 * _READERS)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            vectors = list(itertools.islice(loaded, len(part)))
            # Of one kind each: as another kind, a row could be another in its last digit.
            kinds = [vector.dtype for vector in vectors]
            cuts = [i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]]
            for low, high in zip([0, *cuts], [*cuts, len(part)], strict=True):
                yield self._batch(name, dim, files, part[low:high], vectors[low:high])
            del vectors

    def _files(self, name: str) -> list[str]:
        found: list[str] = self._packs[name].to_pylist()
        return found

    def _batch(
        self, name: str, dim: int, files: list[str], rows: np.ndarray, vectors: list[np.ndarray]
    ) -> Batch:
        good = [i for i, vector in enumerate(vectors) if len(vector) == dim]
        rejected = [
            RejectedRow(_id(files[row]), files[row], 0, f"{len(vector)} numbers instead of {dim}")
            for row, vector in zip(rows, vectors, strict=True)
            if len(vector) != dim
        ]
        matrix = np.empty((len(good), dim), vectors[0].dtype)
        for place, i in enumerate(good):
            matrix[place] = vectors[i]
        ids = pa.array([_id(files[rows[i]]) for i in good], pa.string())
        # A table of no columns still has to know how many rows it has.
        metadata = pa.table({"id": ids}).select([])
        of = [files[rows[i]] for i in good]
        return Batch(name, ids, matrix, metadata, rows[good], rejected, of)

    def _load(self, file: str) -> np.ndarray:
        """The vector of a file, of shape (d,), in the byte order of this machine."""
        try:
            with self._source.open(file) as opened:
                data = opened.read(_FIRST_BYTES)
                length, dtype, begin = _described(data)
                end = begin + length * dtype.itemsize
                if end > size_of(self._versions[file]):
                    raise ValueError(f"its header says {end} bytes, and it has fewer")
                data += opened.read(max(0, end - len(data)))
                if len(data) < end:
                    raise ChangedError
        except (FileNotFoundError, ChangedError) as error:
            what = "changed" if isinstance(error, ChangedError) else "is gone"
            raise StaleError(
                f"{self._source.url(file)} {what} since this step began; materialize embeddings "
                "again"
            ) from error
        except ValueError as error:
            raise InputError(
                f"{self._source.url(file)} is not a readable .npy file ({first_line(error)}); "
                "write it again or move it out of the input"
            ) from error
        values = np.frombuffer(data, dtype, length, begin)
        return values.astype(dtype.newbyteorder("="), copy=False)


def _described(data: bytes) -> tuple[int, np.dtype, int]:
    """Length and type that a file states, and where its numbers begin.

    NumPy's own reader evaluates the header as Python, and warns of some.

    Raises:
        ValueError: it is no vector.
    """
    if data[:6] != _MAGIC or len(data) < 12:
        raise ValueError("it does not begin with the mark of one")
    begin = 12 if data[6] > 1 else 10
    begin += int.from_bytes(data[8:begin], "little")
    header = data[8:begin].decode("latin-1")
    type_, shape = _TYPE.search(header), _SHAPE.search(header)
    if begin > len(data) or type_ is None or shape is None:
        raise ValueError("its header is damaged")
    sizes = [int(size) for size in shape[1].split(",") if size.strip()]
    if type_[1][1:] not in _KINDS or len(sizes) not in (1, 2) or sizes[:-1] not in ([], [1]):
        raise ValueError(
            f"it has shape ({shape[1]}) and type {type_[1]}, and must be one vector of float16, "
            "float32 or float64"
        )
    return sizes[-1], np.dtype(type_[1]), begin


def _id(file: str) -> str:
    return file.rpartition("/")[2].removesuffix(EXTENSION)


def _cut(files: Iterable[str]) -> Iterator[pa.StringArray]:
    """Packs of about `FILES_IN_PACK`: names as text of Arrow, since there may be millions."""
    pack: list[str] = []
    for file in files:
        begins = int(digest(file.encode()), 16) % FILES_IN_PACK == 0
        if pack and (begins or len(pack) == _MOST_IN_PACK):
            yield pa.array(pack, pa.string())
            pack = []
        pack.append(file)
    if pack:
        yield pa.array(pack, pa.string())
