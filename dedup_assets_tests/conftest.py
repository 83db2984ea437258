"""Inputs on disk, a run of all stages without Dagster, and one seed."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup_assets.settings import Settings
from dedup_assets.stages.centroids import fit_centroids
from dedup_assets.stages.duplicates import Duplicates, list_duplicates
from dedup_assets.stages.embeddings import list_embeddings
from dedup_assets.stages.partitioning import Shuffled, shuffle
from dedup_assets.stages.scores import KeyScores, score
from dedup_assets.stages.shards import Curated, write_shards
from dedup_assets.state.centroids import Centroids
from dedup_assets.state.manifest import Manifest
from dedup_assets.state.ranges import cluster_ranges
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.store import layout
from dedup_assets.store.filesystem import Store
from dedup_assets.store.tables import read_table
from dedup_assets_tests.dagster_once import done_once
from dedup_assets_tests.demo.small_set import SmallSet, make_small_set
from dedup_assets_tests.rows import unit as unit
from dedup_assets_tests.s3 import (
    S3Server,
    forget_sessions,
    give_credentials,
    serving,
    strip_credentials,
)

_QUICK: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [
        hypothesis.HealthCheck.function_scoped_fixture,
        hypothesis.HealthCheck.too_slow,
    ],
}
# The same examples on every run; --hypothesis-profile=explore looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, **_QUICK)
hypothesis.settings.register_profile("explore", max_examples=1000, **_QUICK)
hypothesis.settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test that talks to a server, so that none is forgotten."""
    for item in items:
        if {"s3", "s3_endpoint"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.s3)


@pytest.fixture(scope="session", autouse=True)
def quick_storage() -> Iterator[None]:
    with done_once():
        yield


@pytest.fixture(scope="session")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> SmallSet:
    return make_small_set(tmp_path_factory.mktemp("demo"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240229)


def vector_column(
    vectors: Any, form: str = "list", value_type: pa.DataType | None = None, nullable: bool = True
) -> pa.Array:
    """A column of vectors; ``vectors`` is a matrix, or rows that may be ragged or None."""
    value = pa.field("element", value_type or pa.float32(), nullable=nullable)
    rows = [
        None if v is None else [None if e is None else value.type.to_pandas_dtype()(e) for e in v]
        for v in vectors
    ]
    match form:
        case "list":
            type_ = pa.list_(value)
        case "large_list":
            type_ = pa.large_list(value)
        case "fixed_size_list":
            type_ = pa.list_(value, next(len(v) for v in vectors if v is not None))
    return pa.array(rows, type=type_)


def write_parquet(
    path: Path,
    ids: Sequence[Any] | pa.Array,
    vectors: Any,
    *,
    form: str = "list",
    value_type: pa.DataType | None = None,
    id_type: pa.DataType | None = None,
    nullable: bool = True,
    id_field: str = "id",
    embedding_field: str = "embedding",
    row_group_size: int | None = None,
    **columns: Any,
) -> Path:
    """One file of ids, vectors in some form, and further columns."""
    column = vector_column(vectors, form, value_type, nullable)
    id_column = ids if isinstance(ids, pa.Array) else pa.array(list(ids), type=id_type)
    table = pa.table({id_field: id_column, embedding_field: column, **columns})
    if not nullable:
        fields = [f.with_nullable(f.name in columns) for f in table.schema]
        table = table.cast(pa.schema(fields))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_inputs(
    folder: Path, ids: Sequence[Any], vectors: Any, *, files: int = 1, **options: Any
) -> Path:
    """Rows in order over so many files; options as in `write_parquet`, columns cut likewise."""
    columns = {k: v for k, v in options.items() if isinstance(v, list | np.ndarray | pa.Array)}
    rest = {k: v for k, v in options.items() if k not in columns}
    for number, part in enumerate(np.array_split(np.arange(len(ids)), files)):
        rows = slice(int(part[0]), int(part[-1]) + 1) if len(part) else slice(0, 0)
        cut = {k: v[rows] for k, v in columns.items()}
        write_parquet(folder / f"{number:03d}.parquet", ids[rows], vectors[rows], **cut, **rest)
    return folder


ODD_NAMES = [
    *("run::2", "a::b::c", "{id}", "[b]", "50%20off", "what?", "a#b", "a\nb", "a\tb", "~", "~x"),
    *("*", "a*", "$HOME", "a b", " a ", "'", '"', "\\", "`id`", ";", "&", "|", "<>", "!", "a=1"),
    *("file:", "s3:", "-x", "@", "ünï", "{{ 1 }}", "{#", "{%", "[!a]", "a,b", "a.", "\x7f", "\x01"),
]
"""Names that a URL, a pattern, a shell or a template would take for something else."""


def make_settings(tmp_path: Path, **options: Any) -> Settings:
    """Settings over ``tmp_path/in`` and ``tmp_path/out``."""
    # memory_budget may be set below the least that a user may ask for, so that little data spills.
    budget = options.pop("memory_budget", None)
    given = {
        "input_embeddings_path": str(tmp_path / "in"),
        "output_path": str(tmp_path / "out"),
        "device": "cpu",
        **options,
    }
    settings = Settings.of(**given)
    return settings if budget is None else settings.replace(memory_budget=budget)


@dataclass
class Results:
    """What the stages returned, and the tables they left."""

    settings: Settings
    store: Store
    manifest: Manifest
    centroids: Centroids
    shuffled: Shuffled
    scores: dict[str, KeyScores]
    duplicates: dict[str, Duplicates] = field(default_factory=dict)
    curated: dict[str, Curated] = field(default_factory=dict)

    def pairs(self, cluster: int) -> list[tuple[Any, Any, float]]:
        """Rows of a pruning table, in rank order."""
        table = read_table(self.store, layout.scores(cluster))
        return [tuple(row.values()) for row in table.to_pylist()]

    def all_pairs(self) -> list[list[tuple[Any, Any, float]]]:
        return [self.pairs(cluster) for cluster in range(self.settings.clustering.n_clusters)]

    def removed(self, eps: str) -> set[Any]:
        parts = range(self.settings.clustering.n_clusters)
        tables = [read_table(self.store, layout.unique_ids_part(eps, c), ["id"]) for c in parts]
        return {id_ for table in tables for id_ in table["id"].to_pylist()}


def run_stages(settings: Settings, *, curate: bool = True) -> Results:
    """Run everything but the histogram, for all clusters and the configured eps values."""
    store = settings.storage.open_output()
    keys = list(cluster_ranges(settings))
    manifest = list_embeddings(settings, store)
    results = Results(
        settings,
        store,
        manifest,
        fit_centroids(settings, store, manifest, refit=False),
        shuffle(Snapshot(settings, store), keys),
        score(Snapshot(settings, store), keys),
    )
    for eps in settings.thresholds.eps_thresholds:
        results.duplicates[eps] = list_duplicates(Snapshot(settings, store), eps)
        if curate:
            results.curated[eps] = write_shards(Snapshot(settings, store), eps)
    return results


def bytes_of(folder: Path | str) -> dict[str, bytes]:
    """The content of all files below a folder by relative name."""
    root = Path(folder)
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with serving() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A server with an empty bucket; credentials and endpoint are in the environment."""
    strip_credentials(monkeypatch)
    give_credentials(monkeypatch, s3_endpoint)
    forget_sessions()
    server = S3Server(s3_endpoint, f"bucket-{uuid.uuid4().hex[:12]}")
    server.client().create_bucket(Bucket=server.bucket)
    return server
