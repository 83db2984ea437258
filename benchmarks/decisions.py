"""The numbers behind ``docs/adr``: ``python -m benchmarks.decisions``.

Ratios within one run; absolute times depend on the machine and on who else uses it.
"""

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.data import make_data, make_rows
from dedup_assets.compute import bfloat16
from dedup_assets.compute.exact import pair_dots
from dedup_assets.compute.hashing import row_digests
from dedup_assets.compute.kmeans import fit
from dedup_assets.compute.normalize import unit_rows
from dedup_assets.compute.pairwise import best_earlier_match
from dedup_assets.compute.threads import one_blas_thread
from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import fit_centroids, sample_size
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.histogram import Histogram, build_histogram
from dedup_assets.stages.missed import estimate_missed
from dedup_assets.stages.partitioning import shuffle
from dedup_assets.stages.scores import score
from dedup_assets.state.manifest import load_manifest
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import schemas
from dedup_assets.store.arrow import column_to_vectors, hash_ids, vectors_to_column
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import read_table, write_table
from dedup_assets.store.vectors import read_vectors

ROWS, DIM = 8_000, 768


def seconds(work: Callable[[], object], repeat: int = 3) -> float:
    """Median time of a call, after one that does not count."""
    work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def half_product(x: np.ndarray, tile: int = 1024) -> None:
    """The float32 products that any triangular search needs, and nothing else."""
    for begin in range(0, len(x), tile):
        for left in range(0, begin + tile, tile):
            x[begin : begin + tile] @ x[left : left + tile].T


def full_float64(x: np.ndarray, tile: int = 1024) -> None:
    """The plain way to float64 maxima: multiply everything, mask half."""
    wide = x.astype(np.float64)
    for begin in range(0, len(x), tile):
        product = wide[begin : begin + tile] @ wide.T
        product[np.arange(len(x))[None, :] >= np.arange(begin, begin + len(product))[:, None]] = -1
        product.argmax(axis=1)


def exactness(x: np.ndarray) -> None:
    floor = seconds(lambda: half_product(x))
    ours = seconds(lambda: best_earlier_match(x))
    wide = seconds(lambda: full_float64(x))
    print(f"exact best earlier match, {ROWS:,} x {DIM}: {ours / floor:.2f} times the float32 half")
    print(f"  product alone; the full float64 product takes {wide / floor:.2f} times as long")


def kernels(x: np.ndarray) -> None:
    """What NumKong's bfloat16 products take by the number of columns, one thread."""
    if not bfloat16.has_bfloat16():
        print("bfloat16 products: not on this processor")
        return
    rows = bfloat16.cast(x[:256])

    def a_column(columns: int, width: int) -> float:
        right = bfloat16.pack(x[:columns], width)
        out = np.empty((256, width), dtype=np.float32)
        return seconds(lambda: bfloat16.multiply(rows, right, out), 50) / columns

    plain, padded = a_column(1_000, 1_000), a_column(1_000, bfloat16.quick_width(1_000))
    print(f"bfloat16 products with 1,000 columns: {plain / padded:.2f} times as long as if padded")
    with one_blas_thread():
        wide = seconds(lambda: x[:256] @ x[:1_000].T, 50) / 1_000
    print(f"  in float32: {wide / padded:.2f} times")


def order_of_summation(x: np.ndarray) -> None:
    """How often a library's float64 dot product depends on the shape of the batch."""
    a, b = x[:4000].astype(np.float64), x[4000:8000].astype(np.float64)
    by_tile = np.concatenate(
        [np.diag(a[i : i + 100] @ b[i : i + 100].T) for i in range(0, 4000, 100)]
    )
    by_row = np.array([u @ v for u, v in zip(a, b, strict=True)])
    rows = np.arange(4000)
    fixed = pair_dots(x[:4000], rows, x[4000:8000], rows)
    again = np.concatenate(
        [
            pair_dots(x[:4000], rows[i : i + 7], x[4000:8000], rows[i : i + 7])
            for i in range(0, 4000, 7)
        ]
    )
    print(
        f"float64 dot products that differ between tile and row: {np.mean(by_tile != by_row):.1%}"
    )
    print(f"  in the fixed order, between batches of 4,000 and of 7: {np.mean(fixed != again):.1%}")


def copies() -> None:
    """A cluster of one clip, copied with rounding noise, against one of unrelated rows."""
    rng = np.random.default_rng(1)
    n = 4_000
    noise = 1e-8 * rng.standard_normal((n, DIM))
    same = unit_rows((rng.standard_normal(DIM) + noise).astype(np.float32)).rows
    unlike = unit_rows(rng.standard_normal((n, DIM)).astype(np.float32)).rows
    a, b = rng.integers(n, size=100_000), rng.integers(n, size=100_000)
    each = seconds(lambda: pair_dots(same, a, same, b)) / 100_000
    usual = seconds(lambda: best_earlier_match(unlike))
    print(
        f"{n:,} near-copies: {seconds(lambda: best_earlier_match(same)) / usual:.1f} times the "
        f"time of unlike rows; rescoring every pair: {each * n * n / 2 / usual:.0f} times"
    )


def sampling() -> None:
    """What it costs to sample by a hash of the id instead of by position."""
    ids = pa.array([f"clip-{i:032d}" for i in range(1_000_000)])
    rows = np.random.default_rng(0).standard_normal((10_000, DIM)).astype(np.float32)
    hashing, normalising = seconds(lambda: hash_ids(ids, 1)), 100 * seconds(lambda: unit_rows(rows))
    print(f"hashing ids: {hashing / normalising:.1%} of normalising as many rows of {DIM}")


def reading() -> None:
    rng = np.random.default_rng(3)
    rows = unit_rows(rng.standard_normal((1_000, DIM)).astype(np.float32)).rows
    schema = schemas.fragment(pa.string(), pa.schema([]))
    ids = pa.array([str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(len(rows))])
    column = vectors_to_column(rows, schema.field(schemas.EMBEDDING).type)
    distances = pa.array(np.zeros(len(rows), np.float32))
    out, name = np.empty_like(rows), "fragment.parquet"
    with tempfile.TemporaryDirectory(prefix="decisions-") as folder:
        store = Store(folder)
        table = pa.table([ids, column, distances, distances], schema=schema)
        write_table(store, name, table, {})
        others = [n for n in schema.names if n != schemas.EMBEDDING]
        ways = {
            "past Arrow": lambda: read_vectors(store, name, out, others),
            "by Arrow": lambda: column_to_vectors(read_table(store, name)[schemas.EMBEDDING], DIM),
            "by Polars": lambda: pl.read_parquet(store.path(name)),
            "digests": lambda: row_digests(rows, schemas.DIGEST_BYTES),
        }
        took = {way: seconds(work, repeat=20) for way, work in ways.items()}
    each = ", ".join(f"{way} {1e6 * took[way] / len(rows):.1f} µs" for way in ways)
    print(f"a row of {DIM} of a fragment: {each}")


def seeding() -> None:
    """k-means++ against random rows on blobs, by inertia, over ten seeds."""
    from dedup_assets.compute import seeding as start

    rng = np.random.default_rng(0)
    centres = rng.standard_normal((50, 64))
    noisy = centres[rng.integers(50, size=5000)] + 0.3 * rng.standard_normal((5000, 64))
    x = unit_rows(noisy.astype(np.float32)).rows

    def inertias() -> list[float]:
        return [fit(x, 50, seed=s, max_iter=100, tol=1e-4).inertia for s in range(10)]

    plus = inertias()
    limit, start._MOST_CLUSTERS = start._MOST_CLUSTERS, 0
    random = inertias()
    start._MOST_CLUSTERS = limit
    print(
        f"inertia on 50 blobs, random rows over k-means++: median "
        f"{statistics.median(random) / statistics.median(plus):.2f}, "
        f"worst {max(random) / max(plus):.2f}"
    )


def iterations() -> None:
    """k-means against one that meets all centroids each time, and one on a nested sample."""
    from dedup_assets.compute import kmeans, labels

    clusters = 500
    for name, centres in (("as many centres as clusters", 1), ("ten times as many", 10)):
        x = make_rows(256 * clusters, DIM, centres * clusters, seed=3)

        def fitted(rows: Any) -> tuple[float, Any]:
            start = time.perf_counter()
            found = fit(rows, clusters, seed=1, max_iter=100, tol=1e-4)
            return time.perf_counter() - start, found

        quick, ours = fitted(x)
        with patch.object(labels, "_FEWEST", clusters + 1):
            slow, plain = fitted(x)
        few, first = fitted(x[: len(x) // 4])
        with patch.object(kmeans, "seed_centroids", lambda *rest, c=first.centroids: c):
            rest, nested = fitted(x)
        print(f"k-means, {len(x):,} x {DIM}, {clusters} clusters, {name}, times ours:")
        for way, took, found in (
            ("all products", slow, plain),
            ("a quarter of the rows first", few + rest, nested),
        ):
            print(
                f"  {way}: time {took / quick:.2f}, inertia {found.inertia / ours.inertia:.4f}, "
                f"iterations {found.n_iter} to {ours.n_iter}"
            )


def missed() -> None:
    """What clustering misses: the estimate, the truth, and the truth for k-means' own rows.

    Few rows a centroid, as fit_data_fraction or a small memory budget make them. Beside the
    share of the rows, the removals that are lost against a search in one cluster.
    """
    rows = 30_000
    with tempfile.TemporaryDirectory() as folder:
        make_data(f"{folder}/input", rows=rows, dim=64, centres=50, seed=0)
        settings = Settings.of(
            input_embeddings_path=f"{folder}/input",
            output_path=f"{folder}/output",
            n_clusters=300,
            fit_data_fraction=0.2,
            device="cpu",
        )
        histogram = up_to_histogram(settings)
        single = {"n_clusters": 1, "output_path": f"{folder}/single"}
        exhaustive = up_to_histogram(settings.replace(**single))
        store = Store(settings.storage.output_path)
        sampled = estimate_missed(Snapshot(settings, store))
        everything = estimate_missed(Snapshot(settings.replace(missed_sample=rows), store))
        fitted_on = sample_size(settings, load_manifest(settings, store))
    assert sampled is not None
    assert everything is not None
    # The rows that k-means was fitted on are those whose own hash is lowest, about as many.
    own = np.argsort(hash_ids(everything.table["id"], settings.clustering.random_state))[:fitted_on]
    of_fit = replace(everything, table=everything.table.take(pa.array(own)))
    print(
        f"missed by {settings.clustering.n_clusters} clusters of {rows:,} rows, "
        f"fitted on {fitted_on:,}:"
    )
    for eps in ("0.01", "0.1", "0.3"):
        found, possible = (h.at(eps)["removed"] for h in (histogram, exhaustive))
        print(
            f"  at eps {eps}: {everything.describe(eps)}; estimated from "
            f"{sampled.table.num_rows:,} rows: {sampled.describe(eps)}; among the rows that "
            f"k-means was fitted on: {of_fit.at(eps).value:.1%}; removals lost: "
            f"{1 - found / possible:.1%}"
        )


def up_to_histogram(settings: Settings) -> Histogram:
    store, keys = Store(settings.storage.output_path), list(cluster_ranges(settings))
    fit_centroids(settings, store, list_embeddings(settings, store), refit=False)
    shuffle(Snapshot(settings, store), keys)
    score(Snapshot(settings, store), keys)
    return build_histogram(Snapshot(settings, store))


ON_ROWS = (exactness, kernels, order_of_summation)
ON_THEIR_OWN = (copies, sampling, reading, seeding, iterations, missed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [part.__name__ for part in (*ON_ROWS, *ON_THEIR_OWN)]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="parts to run")
    chosen = parser.parse_args().only
    rng = np.random.default_rng(0)
    x = unit_rows(rng.standard_normal((ROWS, DIM)).astype(np.float32)).rows
    for part in ON_ROWS:
        if part.__name__ in chosen:
            part(x)
    for part in ON_THEIR_OWN:
        if part.__name__ in chosen:
            part()


if __name__ == "__main__":
    main()
