"""Embeddings that look like real ones: uneven groups, and duplicates at many distances.

Unit rows are drawn around as many centres as there will be clusters. Sizes of the groups follow a
power law, and how tight a group is differs from group to group. A share of the rows repeats an
earlier row, some of them exactly and the others at a cosine distance from 1e-6 to 0.3, drawn
evenly on a logarithmic scale; so every usual eps removes something.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROWS_PER_FILE = 12_500
FEWEST_FILES = 4
SHARE_PLANTED = 0.2
SHARE_EXACT = 0.1  # of the planted ones
NEAREST, FARTHEST = 1e-6, 0.3
REMEMBERED = 512  # rows of earlier files that later files may repeat
SIZE_EXPONENT, SIZE_OFFSET = 0.8, 10.0
SCENE_EXPONENTS = (-4.0, -2.0)  # of the length of the noise in a static scene
TIGHTEST, LOOSEST = 0.4, 1.2  # length of the noise against the centre's


@dataclass(frozen=True)
class DataSpec:
    """What data to make."""

    rows: int
    dim: int
    centres: int
    seed: int | Sequence[int]


def make_data(folder: str, **spec: Any) -> dict[str, Any]:
    """Write Parquet files of ``id`` and ``embedding``, one file in memory at a time."""
    import numpy as np

    data = DataSpec(**spec)
    rng = np.random.default_rng(data.seed)
    Path(folder).mkdir(parents=True)
    files = size = planted = 0
    for rows, count in draw_files(rng, data):
        ids = draw_ids(rng, len(rows))
        size += write_file(Path(folder) / f"part-{files:05d}.parquet", ids, rows)
        files += 1
        planted += count
    return {**asdict(data), "files": files, "bytes": size, "planted_duplicates": planted}


def make_rows(rows: int, dim: int, centres: int, seed: int | Sequence[int]) -> Any:
    """Rows of the same distribution in memory; (rows, dim) float32. Needs only NumPy."""
    import numpy as np

    out = np.empty((rows, dim), dtype=np.float32)
    done = 0
    drawn = draw_files(np.random.default_rng(seed), DataSpec(rows, dim, centres, seed))
    for part, _ in drawn:
        out[done : done + len(part)] = part
        done += len(part)
    return out


def make_scenes(rows: int, dim: int, scene: int, seed: int | Sequence[int]) -> Any:
    """Static scenes of ``scene`` clips each, all but equal, in any order; (rows, dim) float32.

    Clips of a scene lie at cosine distances of about 1e-8 to 1e-4, and scenes far from each other.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    centres = _unit(rng.standard_normal((-(-rows // scene), dim), dtype=np.float32))
    noise = _unit(rng.standard_normal((rows, dim), dtype=np.float32))
    noise *= 10.0 ** rng.uniform(*SCENE_EXPONENTS, (rows, 1)).astype(np.float32)
    return _unit(centres[rng.permutation(rows) // scene] + noise)


def make_clusters(
    clusters: int, rows: int, dim: int, centres: int, seed: int, scene: int | None = None
) -> Any:
    """Clusters of ``rows`` rows one after another, each of `make_rows`, or of `make_scenes`."""
    import numpy as np

    out = np.empty((clusters * rows, dim), dtype=np.float32)
    for number in range(clusters):
        part = slice(number * rows, (number + 1) * rows)
        if scene is None:
            out[part] = make_rows(rows, dim, centres, [seed, number])
        else:
            out[part] = make_scenes(rows, dim, scene, [seed, number])
    return out


def draw_ids(rng: Any, count: int) -> list[str]:
    """Ids that occur once."""
    return [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(count)]


def write_file(path: Path, ids: list[str], rows: Any) -> int:
    """Write one Parquet file. Returns its size in bytes."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field(
                "embedding",
                pa.list_(pa.field("element", pa.float32(), nullable=False)),
                nullable=False,
            ),
        ]
    )
    n, dim = rows.shape
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * np.int32(dim))
    vectors = pa.ListArray.from_arrays(
        offsets, pa.array(rows.reshape(-1)), type=schema.field("embedding").type
    )
    pq.write_table(
        pa.table([pa.array(ids), vectors], schema=schema),
        path,
        row_group_size=10_000,
        use_dictionary=False,
        compression={"id": "zstd", "embedding.list.element": "none"},
    )
    return path.stat().st_size


def draw_files(rng: Any, data: DataSpec) -> Iterator[tuple[Any, int]]:
    """The rows of each file, and how many of them repeat others."""
    import numpy as np

    centres = _unit(rng.standard_normal((data.centres, data.dim), dtype=np.float32))
    looseness = rng.uniform(TIGHTEST, LOOSEST, data.centres).astype(np.float32)
    weights = (np.arange(data.centres) + SIZE_OFFSET) ** -SIZE_EXPONENT
    weights /= weights.sum()
    remembered = np.empty((0, data.dim), dtype=np.float32)
    per_file = min(ROWS_PER_FILE, -(-data.rows // FEWEST_FILES))
    for start in range(0, data.rows, per_file):
        n = min(per_file, data.rows - start)
        group = rng.choice(data.centres, n, p=weights)
        noise = rng.standard_normal((n, data.dim), dtype=np.float32) / np.sqrt(data.dim)
        rows = _unit(centres[group] + looseness[group, None] * noise.astype(np.float32))
        planted = _plant(rng, rows, remembered)
        keep = rng.choice(n, min(n, REMEMBERED // 4), replace=False)
        remembered = np.concatenate([rows[keep], remembered])[:REMEMBERED]
        yield rows, planted


def _unit(rows: Any) -> Any:
    import numpy as np

    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _plant(rng: Any, rows: Any, remembered: Any) -> int:
    """Replace some rows by repetitions of others, in place. Returns how many."""
    import numpy as np

    n = len(rows)
    order = rng.permutation(n)
    count = min(int(SHARE_PLANTED * n), n // 2)
    if count == 0:
        return 0
    targets, others = order[:count], order[count:]
    pool = np.concatenate([rows[others[: 4 * count]], remembered])
    sources = pool[rng.integers(len(pool), size=count)]
    distance = np.exp(rng.uniform(np.log(NEAREST), np.log(FARTHEST), count))
    aside = rng.standard_normal(sources.shape, dtype=np.float32)
    aside -= (aside * sources).sum(axis=1, keepdims=True) * sources
    aside = _unit(aside)
    cosine = (1.0 - distance)[:, None]
    moved = _unit((cosine * sources + np.sqrt(1.0 - cosine * cosine) * aside).astype(np.float32))
    exact = rng.random(count) < SHARE_EXACT
    moved[exact] = sources[exact]
    rows[targets] = moved
    return count
