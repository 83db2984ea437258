"""Input files that change: rows with copies, ties, opposites and invalid ones among them."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dedup_assets.settings import Settings

DIM = 5
_WEIGHTS: dict[pa.DataType, list[Any]] = {
    pa.int64(): [None, 0, 1, 2],
    pa.float64(): [None, float("nan"), -0.5, 0.0, 2.0],
    pa.string(): [None, "a", "b", "c"],
}


@dataclass(frozen=True)
class Row:
    """A row of an input file; the vector of an invalid one may be ragged or None."""

    id: Any
    vector: list[float] | None
    weight: Any
    label: str | None


@dataclass
class Inputs:
    """A folder of input files and one of media, and how new rows are drawn.

    Attributes:
        invalid: share of invalid rows.
        files: rows by name; ``gone``: those of deleted files, which may come back.
    """

    folder: Path
    rng: np.random.Generator
    ids_are_text: bool
    weights: pa.DataType
    invalid: float
    files: dict[str, list[Row]] = field(default_factory=dict)
    gone: dict[str, list[Row]] = field(default_factory=dict)
    _ids: int = 0
    _names: int = 0
    _time: int = 1_700_000_000

    def __post_init__(self) -> None:
        self._directions = self.rng.normal(size=(4, DIM)).astype(np.float32)
        (self.folder / "clips").mkdir(parents=True)
        (self.folder / "clips" / "unused.txt").write_text("no clip")
        self._set_time(self.folder / "clips" / "unused.txt")

    @property
    def rows(self) -> int:
        return sum(map(len, self.files.values()))

    @property
    def valid(self) -> int:
        return sum(map(_is_valid, [row for rows in self.files.values() for row in rows]))

    def new_rows(self, count: int) -> list[Row]:
        """So many rows; the first one is valid."""
        return [self.new_row(self.invalid if i else 0.0) for i in range(count)]

    def new_row(self, invalid: float = 0.0) -> Row:
        row = Row(self.new_id(), self.vector(), self._draw(self._weights), self._draw(_LABELS))
        if self.rng.random() >= invalid:
            return row
        ragged = [1.0] * (DIM + 1)
        vectors: list[Any] = [None, ragged, [0.0] * DIM, [float("nan")] * DIM, row.vector]
        vector = self._draw(vectors)
        return replace(row, vector=vector, id=None if vector is row.vector else row.id)

    def new_id(self) -> Any:
        """An id that was not there before; every third has no media file."""
        number, self._ids = self._ids, self._ids + 1
        id_ = f"clip-{number * 7919 % 1000:03d}-{number}" if self.ids_are_text else number
        if number % 3:
            media = self.folder / "clips" / f"{id_}.mp4"
            media.write_bytes(f"film {id_}".encode())
            self._set_time(media)
        return id_

    def new_name(self) -> str:
        """A name that sorts anywhere."""
        self._names += 1
        return f"{int(self.rng.integers(100))}-{self._names}.parquet"

    def vector(self, near: list[float] | None = None) -> list[float]:
        """Often a copy, a scaled or a near copy, or the opposite of one of few directions."""
        one = self._directions[self.rng.integers(4)].astype(np.float64)
        noise = self.rng.normal(size=DIM)
        if near is not None and len(near) == DIM:
            return [float(value) for value in (np.array(near) + 0.05 * noise).astype(np.float32)]
        match int(self.rng.integers(8)):
            case 0:
                drawn = one
            case 1:
                drawn = one * 2.0
            case 2:
                drawn = one * 2.7
            case 3:
                drawn = one + 1e-7 * noise
            case 4:
                drawn = -one
            case 5:
                drawn = self.rng.integers(-1, 2, DIM) + np.eye(DIM)[0] * 0.5
            case _:
                drawn = one + 0.4 * noise
        return [float(value) for value in drawn.astype(np.float32)]

    def vary(self, row: Row) -> Row:
        """The row with other carried columns."""
        return replace(row, weight=self._draw(self._weights), label=self._draw(_LABELS))

    def put(self, name: str, rows: list[Row]) -> None:
        """Write a file, later than all before."""
        self.files[name] = rows
        values = pa.list_(pa.float32())
        ids = pa.string() if self.ids_are_text else pa.int64()
        table = pa.table(
            {
                "id": pa.array([row.id for row in rows], ids),
                "embedding": pa.array([row.vector for row in rows], values),
                "weight": pa.array([row.weight for row in rows], self.weights),
                "label": pa.array([row.label for row in rows], pa.string()),
            }
        )
        path = self._path(name)
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table, path, row_group_size=16)
        self._set_time(path)

    def remove(self, name: str) -> None:
        self.gone[name] = self.files.pop(name)
        self._path(name).unlink()

    def bring_back(self, name: str) -> None:
        """The rows of a deleted file whose ids are not taken."""
        taken = {row.id for rows in self.files.values() for row in rows}
        self.put(name, [row for row in self.gone.pop(name) if row.id not in taken])

    def rename(self, name: str) -> None:
        other = self.new_name()
        self.files[other] = self.files.pop(name)
        self._path(name).rename(self._path(other))

    def settings(self, output: Path, clips: bool, **options: Any) -> Settings:
        media = {"clips_path": str(self.folder / "clips"), "missing_media": "skip"}
        return Settings.of(
            input_embeddings_path=str(self.folder / "in"),
            output_path=str(output),
            embedding_dim=DIM,
            on_invalid="quarantine" if self.invalid else "fail",
            device="cpu",
            **options,
            **(media if clips else {}),
        )

    @property
    def _weights(self) -> list[Any]:
        return _WEIGHTS[self.weights]

    def _path(self, name: str) -> Path:
        return self.folder / "in" / name

    def _set_time(self, path: Path) -> None:
        """Fingerprints know the time of a file, and an example must repeat itself."""
        self._time += 1
        os.utime(path, (self._time, self._time))

    def _draw(self, values: list[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]


_LABELS = [None, "red", "green"]


def _is_valid(row: Row) -> bool:
    vector = row.vector
    whole = row.id is not None and vector is not None and len(vector) == DIM
    return whole and bool(np.isfinite(vector).all() and np.any(vector))
