"""Input that grows: rows of `benchmarks.data`, and files of new rows that are added later."""

from pathlib import Path
from typing import Any

from benchmarks.data import DataSpec, draw_files, draw_ids, write_file

SHARE_NEW = 0.01
SHARE_TOUCHED = 0.02
_NOISE = 0.2  # length of the noise against a row's; a nearby row, and not always a duplicate
_ATTEMPTS = 100


def make_growing(
    folder: str, everywhere: str, rows: int, dim: int, centres: int, seed: int
) -> dict[str, Any]:
    """Write the files of ``rows`` rows, and to ``everywhere`` a file of 1 % new ones beside them.

    The new rows are of the same groups, and repeat rows of files before them as others do.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    Path(folder).mkdir(parents=True)
    new = new_rows(rows)
    files = size = done = 0
    beyond: list[Any] = []
    for drawn, _ in draw_files(rng, DataSpec(rows + new, dim, centres, seed)):
        kept = drawn[: max(0, rows - done)]
        done += len(drawn)
        if len(kept):
            path = Path(folder) / f"part-{files:05d}.parquet"
            size += write_file(path, draw_ids(rng, len(kept)), kept)
            files += 1
        beyond.append(drawn[len(kept) :])
    write_file(Path(everywhere), draw_ids(rng, new), np.concatenate(beyond))
    return {"rows": rows, "dim": dim, "files": files, "bytes": size, "new_rows": new}


def new_rows(rows: int) -> int:
    return max(1, round(SHARE_NEW * rows))


def make_near(file: str, output: str, rows: int, seed: int) -> dict[str, Any]:
    """Write a file of new rows that all belong to 2 % of the clusters of an output.

    Each is drawn near a row of one of these clusters, and drawn again if it belongs to another.
    """
    import numpy as np

    from dedup_assets.command.settings_file import load_settings
    from dedup_assets.compute.assign import nearest_centroids
    from dedup_assets.state.snapshot import Snapshot
    from dedup_assets.store import layout, schemas
    from dedup_assets.store.arrow import column_to_vectors
    from dedup_assets.store.tables import read_table

    settings = load_settings(output)
    snapshot = Snapshot(settings, settings.storage.open_output())
    rng = np.random.default_rng(seed)
    fragments = {cluster: found for cluster, found in snapshot.fragments().items() if found}
    count = max(1, round(SHARE_TOUCHED * settings.clustering.n_clusters))
    chosen = rng.choice(sorted(fragments), min(count, len(fragments)), replace=False)
    dim = snapshot.manifest.dim
    names = [layout.fragment(c, f["fragment"]) for c in chosen.tolist() for f in fragments[c]]
    tables = [read_table(snapshot.store, name, [schemas.EMBEDDING]) for name in names]
    sources = np.concatenate([column_to_vectors(table[schemas.EMBEDDING], dim) for table in tables])
    parts: list[Any] = []
    lacking = rows
    for _ in range(_ATTEMPTS):
        near = sources[rng.integers(len(sources), size=2 * lacking)]
        noise = rng.standard_normal(near.shape, dtype=np.float32) / np.float32(np.sqrt(dim))
        near = near + np.float32(_NOISE) * noise
        near /= np.linalg.norm(near, axis=1, keepdims=True)
        label = nearest_centroids(
            near, snapshot.centroids.values, memory_budget=settings.compute.memory_budget // 8
        ).label
        parts.append(near[np.isin(label, chosen)][:lacking])
        lacking -= len(parts[-1])
        if lacking == 0:
            break
    else:
        raise RuntimeError(f"{lacking} of {rows} rows could not be drawn near {count} clusters")
    write_file(Path(file), draw_ids(rng, rows), np.concatenate(parts))
    return {"rows": rows, "clusters": len(chosen)}
