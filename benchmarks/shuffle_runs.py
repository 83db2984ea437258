"""What the processes of `benchmarks.shuffle` do: the stages, the shuffle, its peer and its floors.

Each starts its clock after all imports.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from dedup_assets.compute.arrays import device_array_module, resolve_device, to_host
from dedup_assets.compute.assign import Assigner, Assignment, nearest_centroids
from dedup_assets.settings import Settings
from dedup_assets.stages import partitioning
from dedup_assets.stages.centroids import fit_centroids, normalise
from dedup_assets.stages.embeddings import input_files, list_embeddings
from dedup_assets.stages.scores import score
from dedup_assets.state.centroids import load_centroids
from dedup_assets.state.manifest import groups_of, load_manifest
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store

LABELS = ("label", "cosine_distance", "l2_distance")
_BLOCK = 16 << 20


def stage(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """One stage of the graph, on what the stages before it left."""
    parsed = Settings.of(**settings)
    store = Store(parsed.storage.output_path)
    keys = list(cluster_ranges(parsed))
    calls: dict[str, Callable[[], Any]] = {
        "embeddings": lambda: list_embeddings(parsed, store),
        "centroids": lambda: fit_centroids(parsed, store, load_manifest(parsed, store), True),
        "cluster_partitions": lambda: partitioning.shuffle(Snapshot(parsed, store), keys),
        "pairwise_scores": lambda: score(Snapshot(parsed, store), keys),
    }
    seconds, _ = _timed(calls[name])
    return {"wall_s": seconds}


def assign(settings: dict[str, Any], folder: str) -> dict[str, Any]:
    """Label all rows, for runs that are given labels; and how long that takes in memory."""
    parsed = Settings.of(**settings)
    store = Store(parsed.storage.output_path)
    manifest = load_manifest(parsed, store)
    xp = device_array_module(resolve_device(parsed.compute.device))
    centroids = xp.asarray(load_centroids(parsed, store, manifest.dim).values)
    found: dict[str, list[np.ndarray]] = {name: [] for name in LABELS}
    taken = 0.0
    for file in manifest.files:
        for batch in input_files(parsed).read(file["file"], manifest.dim):
            rows = xp.asarray(normalise(batch)[0])
            seconds, assigned = _timed(
                lambda rows=rows: nearest_centroids(
                    rows, centroids, memory_budget=parsed.compute.memory_budget // 4
                )
            )
            taken += seconds
            for name in LABELS:
                found[name].append(to_host(getattr(assigned, name)))
    Path(folder).mkdir(parents=True)
    for name, parts in found.items():
        np.save(Path(folder) / f"{name}.npy", np.concatenate(parts))
    return {"assign_s": taken}


def shuffle(
    settings: dict[str, Any],
    prepared: str,
    background: bool,
    labels: str | None = None,
    storage_mb_s: float | None = None,
) -> dict[str, Any]:
    """The shuffle into a new folder.

    Args:
        settings: of the run; its output folder is new.
        prepared: output folder with the manifest and the centroids.
        background: whether it reads ahead and writes behind.
        labels: folder of `assign`, if rows need not be assigned.
        storage_mb_s: the most that files are read at, if storage is to be slower than it is.
    """
    parsed = Settings.of(**settings)
    output = Path(parsed.storage.output_path)
    for name in (layout.MANIFEST, layout.CENTROIDS, layout.CENTROIDS_INFO):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(prepared) / name, output / name)
    store = Store(str(output))
    keys = list(cluster_ranges(parsed))
    assign = Assigner.assign if labels is None else _given(labels)
    opener = Store.open if storage_mb_s is None else _slow_open(storage_mb_s * 1e6)
    with (
        patch.object(Assigner, "assign", assign),
        patch.object(Store, "open", opener),
    ):
        times, result = _measured(
            lambda: partitioning.shuffle(Snapshot(parsed, store), keys, background=background)
        )
    files = sorted(output.glob(f"{layout.CLUSTERS}/*/*.parquet"))
    found = {
        **times,
        "groups": result.groups,
        "fragments": result.fragments,
        "fragment_bytes": sum(file.stat().st_size for file in files),
        "spilled_bytes": result.spilled_bytes,
        "digest": _digest(output, files),
    }
    _empty(output)
    return found


def peer(settings: dict[str, Any], prepared: str, labels: str, each_file: bool) -> dict[str, Any]:
    """The same rows with the same labels by Arrow's hive partitioning, a file group at a time.

    Reads a group (or each file), normalises it in float32, adds label and distances, and lets
    Arrow write one file for each label in it.
    """
    parsed = Settings.of(**settings)
    manifest = load_manifest(parsed, Store(prepared))
    groups = [[file["file"] for file in group.files] for group in groups_of(parsed, manifest)]
    if each_file:
        groups = [[name] for group in groups for name in group]
    found = [np.load(Path(labels) / f"{name}.npy") for name in LABELS]
    output = Path(parsed.storage.output_path)
    folder = Path(parsed.source.input_embeddings_path)

    def work() -> None:
        first = 0
        for number, names in enumerate(groups):
            table = pa.concat_tables(
                [pq.read_table(folder / name, columns=["id", "embedding"]) for name in names]
            )
            part = slice(first, first := first + len(table))
            _write_hive(table, [values[part] for values in found], manifest.dim, output, number)

    times, _ = _measured(work)
    files = list(output.glob("*/*.parquet"))
    found = {
        **times,
        "groups": len(groups),
        "fragments": len(files),
        "fragment_bytes": sum(file.stat().st_size for file in files),
    }
    _empty(output)
    return found


def _write_hive(
    table: pa.Table, labels: list[np.ndarray], dim: int, output: Path, number: int
) -> None:
    rows = np.concatenate([chunk.flatten() for chunk in table["embedding"].chunks])
    rows = rows.reshape(-1, dim)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * np.int32(dim))
    columns = {
        "id": table["id"],
        "embedding": pa.ListArray.from_arrays(offsets, pa.array(rows.reshape(-1))),
        "cosine_dist_to_cent": labels[1],
        "l2_dist_to_cent": labels[2],
        "nearest_cent": labels[0],
    }
    options = ds.ParquetFileFormat().make_write_options(
        use_dictionary=False, compression={"embedding.list.element": "none"}
    )
    ds.write_dataset(
        pa.table(columns),
        output,
        format="parquet",
        partitioning=ds.partitioning(pa.schema([("nearest_cent", pa.int32())]), flavor="hive"),
        basename_template=f"{number}-{{i}}.parquet",
        existing_data_behavior="overwrite_or_ignore",
        file_options=options,
        max_partitions=len(labels[0]),
        max_open_files=900,
    )


def floors(
    settings: dict[str, Any], prepared: str, fragments: int, fragment_bytes: int
) -> dict[str, Any]:
    """Seconds that no shuffle of these rows gets below, each for itself."""
    parsed = Settings.of(**settings)
    store = Store(prepared)
    manifest = load_manifest(parsed, store)
    paths = [Path(parsed.source.input_embeddings_path) / file["file"] for file in manifest.files]
    output = Path(parsed.storage.output_path)
    block = np.ones(_BLOCK, dtype=np.uint8)
    other = block.copy()
    vectors = 4 * manifest.dim * manifest.rows

    def read() -> None:
        for path in paths:
            with path.open("rb", buffering=0) as file:
                while file.readinto(memoryview(other)):
                    pass

    def write() -> None:
        each = max(1, fragment_bytes // fragments)
        for number in range(fragments):
            folder = output / "write" / str(number)
            folder.mkdir(parents=True)
            with (folder / "x").open("wb", buffering=0) as file:
                for start in range(0, each, _BLOCK):
                    file.write(memoryview(block)[: min(_BLOCK, each - start)])

    def copy() -> None:
        (output / "copy").mkdir(parents=True)
        for number, path in enumerate(paths):
            shutil.copyfile(path, output / "copy" / str(number))

    def memcpy() -> None:
        for _ in range(0, vectors, _BLOCK):
            np.copyto(other, block)

    found = {
        "input_bytes": sum(path.stat().st_size for path in paths),
        "vector_bytes": vectors,
        "product_s": _product_seconds(parsed, store),
    }
    for name, work in (("read", read), ("write", write), ("copy", copy), ("memcpy", memcpy)):
        found[f"{name}_s"], _ = _timed(work)
    _empty(output)
    return found


def _product_seconds(settings: Settings, store: Store) -> float:
    """The float32 products of all rows with all centroids, by the device's BLAS."""
    manifest = load_manifest(settings, store)
    xp = device_array_module(resolve_device(settings.compute.device))
    centroids = xp.asarray(load_centroids(settings, store, manifest.dim).values)
    rows = xp.ones((4096, manifest.dim), dtype=xp.float32)
    float((rows @ centroids.T)[0, 0])  # the first call loads libraries
    steps = max(1, min(16, manifest.rows // len(rows)))

    def work() -> None:
        for _ in range(steps):
            product = rows @ centroids.T
        float(product[0, 0])  # a device is waited for

    return _timed(work)[0] * manifest.rows / (steps * len(rows))


def _given(labels: str) -> Callable[..., Assignment]:
    """Stands for `Assigner.assign` where rows come in the order of `assign`."""
    values = [np.load(Path(labels) / f"{name}.npy") for name in LABELS]
    place = 0

    def assigned(_: Assigner, rows: Any) -> Assignment:
        nonlocal place
        part = slice(place, place + len(rows))
        place += len(rows)
        return Assignment(*(v[part] for v in values))

    return assigned


def _slow_open(bytes_s: float) -> Callable[[Store, str], Any]:
    """`Store.open` of storage that delivers so many bytes in a second to each reader."""
    real = Store.open

    class Slow:
        def __init__(self, file: Any) -> None:
            self._file = file

        def read(self, size: int = -1) -> bytes:
            data = self._file.read(size)
            time.sleep(len(data) / bytes_s)
            return data

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> "Slow":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

    return lambda store, name: Slow(real(store, name))


def _digest(root: Path, files: list[Path]) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(str(file.relative_to(root)).encode())
        with file.open("rb") as opened:
            found.update(hashlib.file_digest(opened, "sha256").digest())
    return found.hexdigest()[:24]


def _empty(folder: Path) -> None:
    """Give back the space of files, but keep them: some file systems are slow to make files where
    they have just deleted as many."""
    for file in folder.rglob("*"):
        if file.is_file():
            os.truncate(file, 0)


def _measured(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Wall and processor seconds; of the latter, those of the program itself beside the system."""
    before = os.times()
    seconds, result = _timed(work)
    user, system = (after - of for after, of in zip(os.times()[:2], before[:2], strict=True))
    return {"wall_s": seconds, "processor_s": user + system, "user_s": user}, result


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result
