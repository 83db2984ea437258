"""What all assets share: their keys, how errors reach the user, and metadata in one form."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pyarrow as pa

from dedup_assets.compute.arrays import DeviceError
from dedup_assets.errors import DedupError, one_line
from dedup_assets.progress import LogProgress, listening, track
from dedup_assets.resources import StoreResource, store_key
from dedup_assets.settings import Settings
from dedup_assets.store.filesystem import Store
from dedup_assets.store.guard import refuse_other_layout
from dedup_assets.store.locks import WHOLE, writing
from dedup_assets.store.schemas import DESCRIPTIONS

EMBEDDINGS = "embeddings"
CENTROIDS = "centroids"
CLUSTER_PARTITIONS = "cluster_partitions"
PAIRWISE_SCORES = "pairwise_scores"
SIMILARITY_HISTOGRAM = "similarity_histogram"
DUPLICATE_IDS = "duplicate_ids"
CURATED_SHARDS = "curated_shards"

READS = {
    EMBEDDINGS: (),
    CENTROIDS: (EMBEDDINGS,),
    CLUSTER_PARTITIONS: (EMBEDDINGS, CENTROIDS),
    PAIRWISE_SCORES: (EMBEDDINGS, CENTROIDS, CLUSTER_PARTITIONS),
    SIMILARITY_HISTOGRAM: (EMBEDDINGS, CENTROIDS, CLUSTER_PARTITIONS, PAIRWISE_SCORES),
    DUPLICATE_IDS: (EMBEDDINGS, CENTROIDS, CLUSTER_PARTITIONS, PAIRWISE_SCORES),
    CURATED_SHARDS: (
        EMBEDDINGS,
        CENTROIDS,
        CLUSTER_PARTITIONS,
        PAIRWISE_SCORES,
        DUPLICATE_IDS,
    ),
}
"""The assets whose files each one reads; none of them may be rewritten meanwhile."""

SAME_KEYS = {PAIRWISE_SCORES: (CLUSTER_PARTITIONS,), CURATED_SHARDS: (DUPLICATE_IDS,)}
"""Of these it reads the keys that it writes, and no others."""

_LASTING = {
    *(errno.ENOENT, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR),
    *(errno.EISDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP, errno.EMLINK, errno.EXDEV),
    *(errno.EINVAL, errno.EFBIG, errno.ENODEV, errno.ENXIO, errno.ENOTSUP),
    *(errno.EILSEQ, errno.EOVERFLOW, errno.ETXTBSY, errno.ENOSYS),
}
"""Faults that the same request finds again, however late it comes."""

INTERRUPTED = "interrupted"
"""Description of the failure of a step that a signal stopped."""

GPU_POOL = "gpu"
RETRY = dg.RetryPolicy(
    max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
"""For faults of the storage; what a retry cannot mend is raised with ``allow_retries=False``."""


def gpu_pool(settings: Settings) -> str | None:
    """The pool of assets that may compute on a GPU; none where the CPU was asked for."""
    return None if settings.device == "cpu" else GPU_POOL


def asset_key(settings: Settings, name: str) -> dg.AssetKey:
    return dg.AssetKey([settings.dataset, name])


def asset_options(settings: Settings, name: str, kinds: set[str]) -> dict[str, Any]:
    """Arguments of ``@dg.asset`` that every asset of a dataset has."""
    return {
        "key": asset_key(settings, name),
        "group_name": settings.dataset,
        "kinds": kinds,
        "required_resource_keys": {store_key(settings.dataset)},
        "retry_policy": RETRY,
        "output_required": True,
    }


@contextmanager
def stage(context: dg.AssetExecutionContext, settings: Settings) -> Iterator[Store]:
    """Open the store for the asset that ``context`` computes, under a lease on its keys.

    Progress goes to the log, and errors fail in one line.
    """
    resource: StoreResource = getattr(context.resources, store_key(settings.dataset))
    for warning in settings.warnings():
        context.log.warning(warning)
    store = resource.open(settings.output_access)
    name = context.asset_key.path[-1]
    partitioned = context.assets_def.partitions_def is not None
    keys = list(context.partition_keys) if partitioned else [WHOLE]
    reads = {read: keys if read in SAME_KEYS.get(name, ()) else [WHOLE] for read in READS[name]}
    with user_errors():
        refuse_other_layout(store)
    with (
        listening(LogProgress(context.log.info)),
        track(name),
        user_errors(),
        writing(store, name, keys, reads=reads, run=context.run.run_id),
    ):
        yield store


@contextmanager
def user_errors() -> Iterator[None]:
    """Let a retry have only what it may mend: faults of the storage, not of data or program."""
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt) as error:
        # Dagster retries an interrupted step that has a retry policy: Ctrl-C would do nothing.
        raise dg.Failure(description=INTERRUPTED, allow_retries=False) from error
    except (DedupError, DeviceError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            text = f"{error}; free space there or choose another output_path, and run again"
            raise dg.Failure(description=one_line(text), allow_retries=False) from error
        if error.errno in _LASTING:
            raise dg.Failure(description=one_line(error), allow_retries=False) from error
        raise
    except Exception as error:
        text = one_line(f"{type(error).__name__}: {error}")
        raise dg.Failure(description=text, allow_retries=False) from error


def column_schema(schema: pa.Schema) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name,
                str(field.type),
                description=DESCRIPTIONS.get(field.name),
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )


def described(store: Store, name: str, rows: int, fingerprint: str, **more: Any) -> dict[str, Any]:
    """Metadata that every artifact has: where it is, its rows and what it was made from."""
    return {
        **more,
        "dagster/row_count": rows,
        "path": dg.MetadataValue.path(store.url(name)),
        "fingerprint": fingerprint,
    }


def table(records: list[dict[str, Any]], schema: dg.TableSchema) -> dg.TableMetadataValue:
    """A table for the UI; the schema is needed where there may be no records."""
    return dg.MetadataValue.table([dg.TableRecord(r) for r in records], schema=schema)
