"""Small data sets with known duplicates, and runs of the graph over them."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dedup_assets.assets.common import asset_key
from dedup_assets.component import build_definitions
from dedup_assets.partitions import cluster_partitions_def, eps_partitions_name
from dedup_assets.runs import RANGE_END, RANGE_START, curation_job_name, scoring_job_name
from dedup_assets.settings import Settings

DIM = 8
ROWS = 60
KEYS = ["0-1", "2-3", "4-5"]
"""The cluster partitions of `make_settings`: six clusters, two in each key."""

INSTANCE_YAML = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"


def near_duplicates(rows: int = ROWS, dim: int = DIM, seed: int = 0) -> np.ndarray:
    """Random rows, each in the first half with a near copy in the second: half of the copies
    differ by some 0.00001 in cosine, half by some 0.01.
    """
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(rows // 2, dim))
    noise = rng.normal(size=first.shape) * np.where(np.arange(rows // 2) % 2, 0.003, 0.1)[:, None]
    return np.concatenate([first, first + noise]).astype(np.float32)


def clip_ids(rows: int = ROWS) -> list[str]:
    return [f"clip-{i:03d}" for i in range(rows)]


def write_part(
    folder: Path,
    vectors: Iterable[Any],
    ids: Sequence[Any] | None = None,
    name: str = "part-0.parquet",
    **columns: Any,
) -> Path:
    """Write one input file as users do: a nullable list column, everything by default."""
    rows = [None if row is None else [float(x) for x in row] for row in vectors]
    table = {
        "id": list(clip_ids(len(rows)) if ids is None else ids),
        "embedding": pa.array(rows, pa.list_(pa.float32())),
        **columns,
    }
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), folder / name)
    return folder / name


def write_clips(folder: Path, ids: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for id_ in ids:
        (folder / f"{id_}.mp4").write_bytes(f"video of {id_}".encode())


def make_settings(root: Path, **changes: Any) -> Settings:
    """Settings over ``root/embeddings`` with six clusters, which are written if they are not."""
    if not (root / "embeddings").exists():
        vectors = near_duplicates()
        write_part(root / "embeddings", vectors[:40], clip_ids()[:40])
        write_part(root / "embeddings", vectors[40:], clip_ids()[40:], "part-1.parquet")
    values: dict[str, Any] = {
        "dataset": "small",
        "input_embeddings_path": str(root / "embeddings"),
        "output_path": str(root / "output"),
        "n_clusters": 6,
        "clusters_per_partition": 2,
        "eps_thresholds": ["0.05", "0.001"],
        "eps_to_extract": "0.05",
    }
    return Settings.of(**{**values, **changes})


def open_instance(
    folder: Path, config: str = "", template: Path | None = None
) -> dg.DagsterInstance:
    """A Dagster instance on disk, new or a copy of ``template``."""
    if template is not None:
        shutil.copytree(template, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dagster.yaml").write_text(INSTANCE_YAML + config)
    return dg.DagsterInstance.from_config(str(folder))


def output_of(definitions: dg.Definitions) -> str:
    """The output folder of the dataset that they are of."""
    (path,) = {
        str(spec.metadata["output_path"].value) for spec in definitions.resolve_all_asset_specs()
    }
    return path


def run_scoring(
    settings: Settings,
    instance: dg.DagsterInstance,
    first: str | None = None,
    last: str | None = None,
    only: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run the scoring job over the keys ``first`` to ``last`` (by default all)."""
    keys = cluster_partitions_def(settings).get_partition_keys()
    job = build_definitions(settings).resolve_job_def(scoring_job_name(settings))
    return job.execute_in_process(
        instance=instance,
        tags={RANGE_START: first or keys[0], RANGE_END: last or keys[-1], **(tags or {})},
        asset_selection=None if only is None else [asset_key(settings, name) for name in only],
        raise_on_error=False,
    )


def run_curation(
    settings: Settings,
    instance: dg.DagsterInstance,
    eps: str,
    only: Sequence[str] | None = None,
) -> dg.ExecuteInProcessResult:
    """Run the curation job for an eps, which is added to the partitions as the UI does."""
    instance.add_dynamic_partitions(eps_partitions_name(settings), [eps])
    job = build_definitions(settings).resolve_job_def(curation_job_name(settings))
    return job.execute_in_process(
        instance=instance,
        partition_key=eps,
        asset_selection=None if only is None else [asset_key(settings, name) for name in only],
        raise_on_error=False,
    )


def materialized(result: dg.ExecuteInProcessResult) -> list[tuple[str, str | None]]:
    """(asset, partition) of each materialization event of a run, sorted."""
    found = [
        event.step_materialization_data.materialization
        for event in result.all_events
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION
    ]
    return sorted(((m.asset_key.path[-1], m.partition) for m in found), key=str)


def metadata_of(
    instance: dg.DagsterInstance, settings: Settings, name: str, partition: str | None = None
) -> dict[str, Any]:
    """Metadata of the latest materialization of an asset (and partition)."""
    materialization = latest(instance, settings, name, partition)
    return {key: value.value for key, value in materialization.metadata.items()}


def latest(
    instance: dg.DagsterInstance, settings: Settings, name: str, partition: str | None = None
) -> dg.AssetMaterialization:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=asset_key(settings, name),
            asset_partitions=None if partition is None else [partition],
        ),
        limit=1,
    ).records
    assert records, f"{name} {partition} was never materialized"
    materialization = records[0].asset_materialization
    assert materialization is not None
    return materialization


def failure(result: dg.ExecuteInProcessResult) -> tuple[str, str]:
    """(asset, description) of the one step that failed."""
    failed = [e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_FAILURE]
    assert len(failed) == 1, [e.message for e in failed]
    data = failed[0].step_failure_data
    assert data.user_failure_data is not None, data.error
    assert failed[0].step_key is not None
    return failed[0].step_key.rpartition("__")[2], data.user_failure_data.description or ""


def steps(result: dg.ExecuteInProcessResult, kind: dg.DagsterEventType) -> list[str]:
    """Names of the steps that have an event of this kind, one entry an event."""
    return [
        event.step_key.rpartition("__")[2]
        for event in result.all_events
        if event.event_type == kind and event.step_key
    ]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of writing and bytes of each file below a folder, hidden ones left out."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    }
