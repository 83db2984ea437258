"""The user's embeddings: which files there are, what they hold, and their rows in batches."""

import threading
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from dedup_assets.errors import InputError, shown
from dedup_assets.store.access import Access
from dedup_assets.store.formats import jsonl, npy, parquet
from dedup_assets.store.formats.rows import Batch as Batch
from dedup_assets.store.formats.rows import Columns, Format
from dedup_assets.store.formats.rows import InputFile as InputFile
from dedup_assets.store.formats.rows import RejectedRow as RejectedRow
from dedup_assets.store.source import folder_and_name, open_source
from dedup_assets.store.split import PARQUET_SUFFIX, find_split, refuse_pickles

BATCH_BYTES = 16 << 20
EXTENSIONS = {"parquet": parquet.EXTENSION, "jsonl": jsonl.EXTENSION, "npy": npy.EXTENSION}


class InputFiles:
    """The files of one input.

    Args:
        path: a folder searched recursively, one file, or the output folder of a split pipeline;
            local or on S3; each may lie in a zip or be one.
        id_field: column of the ids.
        embedding_field: column of the vectors.
        carried: further columns to read.
        access: credentials and endpoint for S3.
        filetype: "parquet", "jsonl" or "npy"; None: by the names of the files.

    Raises:
        InputError: a split pipeline's output holds embeddings of several models, or a zip is
            damaged or refused.
    """

    def __init__(
        self,
        path: str,
        id_field: str,
        embedding_field: str,
        carried: list[str],
        access: Access | None = None,
        filetype: str | None = None,
    ) -> None:
        whole = open_source(path, access)
        self.single: str | None = None
        """The name of the file, where the input is one file."""
        self.clips: str | None = None
        """Where the clips are, where the input is the output of a split pipeline."""
        if whole.is_file():
            folder, self.single = folder_and_name(path)
            whole = open_source(folder, access)
        elif split := find_split(whole, path, filetype, tuple(EXTENSIONS.values())):
            path, self.clips = split.embeddings, split.clips
            whole = open_source(path, access)
        self.store = whole
        self.id_field = id_field
        self.embedding_field = embedding_field
        self.carried = carried
        self._path = path
        self._access = access
        self._filetype = filetype
        self._formats: dict[str, Format] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Relative names, sorted. Names that start with a dot or an underscore are not data.

        Raises:
            InputError: there is none, there are files of several formats, or pickles.
        """
        if self.single is not None:
            refuse_pickles(self.store, [self.single], self._path, None)
            self._refuse_bytes(self.single)
            return [self.single]
        listed = self.store.list_versions("")
        kind = self._filetype or self._recognised(listed)
        if kind in ("npy", None):
            sibling = open_source(f"{self._path.rstrip('/')}{PARQUET_SUFFIX}", self._access)
            refuse_pickles(self.store, _visible(listed), self._path, sibling)
        if not any(kind and name.endswith(EXTENSIONS[kind]) for name in _visible(listed)):
            there = "does not exist"
            if self.store.exists(""):
                others = "" if self._filetype else " (and no .jsonl or .npy)"
                there = f"holds no {EXTENSIONS[kind or 'parquet']} file{others}"
            raise InputError(
                f"input_embeddings_path {self.store.url()} {there}; point it at the folder of "
                f"embeddings (columns {shown(self.id_field)} and {shown(self.embedding_field)})"
            )
        found = (name for name in _visible(listed) if name.endswith(EXTENSIONS[kind or "parquet"]))
        if kind == "npy":
            packs = self._npy(listed)
            with self._lock:  # one listing, which may take minutes, and the same files throughout
                self._formats[kind] = packs
            return packs.names()
        return [self._refuse_bytes(name) for name in found]

    def probe(self, name: str) -> InputFile:
        """Read what a file says of itself, and its first rows.

        Raises:
            InputError: it is not of its format, or lacks a column, or a column has a wrong type.
        """
        return self._format(name).probe(name)

    def fingerprint(self, name: str) -> str:
        """Digest of name and content, as far as the file system and a footer know it.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return self._format(name).fingerprint(name)

    def read_ids(self, name: str) -> Iterator[pa.Array]:
        """The id column of a file in batches, nulls included."""
        return self._format(name).read_ids(name)

    def read(
        self,
        name: str,
        dim: int,
        *,
        columns: bool = True,
        batch_bytes: int = BATCH_BYTES,
        only: np.ndarray | None = None,
    ) -> Iterator[Batch]:
        """The rows of a file in batches.

        Args:
            name: a file of `names`.
            dim: length that a vector must have.
            columns: whether to read the carried columns too.
            batch_bytes: bytes that the vectors of a batch may take, as they are or as float32.
            only: of shape (m,), ascending row numbers; stretches with none of them are left out.
        """
        return self._format(name).read(
            name, dim, columns=columns, batch_bytes=batch_bytes, only=only
        )

    def _refuse_bytes(self, name: str) -> str:
        """Ids and the manifest are text, and Linux takes any bytes for a name."""
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise InputError(
                f"the file {name!a} below {self.store.url()} has a name that is not UTF-8; "
                "rename it"
            )
        return name

    def _recognised(self, listed: Mapping[str, str]) -> str | None:
        """The format of the files. Tables often lie beside other files, so they go first."""
        found = [
            kind
            for kind, end in EXTENSIONS.items()
            if any(name.endswith(end) for name in _visible(listed))
        ]
        if "parquet" not in found and len(found) > 1:
            raise InputError(
                f"{self.store.url()} holds both .jsonl and .npy files; set input_filetype to the "
                "format of the embeddings"
            )
        return found[0] if found else None

    def _format(self, name: str) -> Format:
        by_name = (kind for kind, end in EXTENSIONS.items() if name.endswith(end))
        kind = self._filetype or next(by_name, "parquet")
        with self._lock:
            if kind not in self._formats:
                columns = self._columns()
                match kind:
                    case "jsonl":
                        self._formats[kind] = jsonl.JsonLines(self.store, columns)
                    case "npy":
                        versions = (
                            self.store.list_versions("")
                            if self.single is None
                            else {self.single: self.store.version(self.single)}
                        )
                        self._formats[kind] = self._npy(versions)
                    case _:
                        self._formats[kind] = parquet.ParquetFiles(self.store, columns)
            return self._formats[kind]

    def _npy(self, versions: Mapping[str, str]) -> npy.NpyFiles:
        names = (
            self._refuse_bytes(name)
            for name in (_visible(versions) if self.single is None else versions)
            if self.single is not None or name.endswith(EXTENSIONS["npy"])
        )
        return npy.NpyFiles(self.store, names, versions, self._columns())

    def _columns(self) -> Columns:
        return Columns(self.id_field, self.embedding_field, self.carried)


def _visible(names: Iterable[str]) -> Iterator[str]:
    """Those that are data: no part of their path begins with a dot or an underscore."""
    return (n for n in names if not any(part.startswith((".", "_")) for part in n.split("/")))
