"""What all assets share: their keys, how errors reach the user, and metadata in one form."""

import errno
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa

from dedup_assets.compute.arrays import DeviceError
from dedup_assets.errors import DedupError, LockedError, describe_fault, one_line
from dedup_assets.graph import (
    PAIRWISE_SCORES,
    PARTITIONED,
    SIMILARITY_HISTOGRAM,
    TASKS,
)
from dedup_assets.progress import LogProgress, listening, track
from dedup_assets.settings import Settings
from dedup_assets.stages.overlaps import refuse_overlaps
from dedup_assets.stages.videos import Splitting, refuse_other_clips
from dedup_assets.state.snapshot import Snapshot
from dedup_assets.state.versions import code_version
from dedup_assets.store.access import is_remote
from dedup_assets.store.filesystem import Store
from dedup_assets.store.guard import refuse_other_dataset, refuse_other_layout
from dedup_assets.store.locks import WHOLE, writing
from dedup_assets.store.schemas import DESCRIPTIONS

if TYPE_CHECKING:
    from dedup_assets.resources import StoreResource

_LASTING = {
    *(errno.ENOENT, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR),
    *(errno.EISDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP, errno.EMLINK, errno.EXDEV),
    *(errno.EINVAL, errno.EFBIG, errno.ENODEV, errno.ENXIO, errno.ENOTSUP),
    *(errno.ENOSPC, errno.EDQUOT, errno.EILSEQ, errno.EOVERFLOW, errno.ETXTBSY, errno.ENOSYS),
}
"""Faults that the same request finds again, however late it comes."""

_OF_THE_PROGRAM = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError),
    *(NotImplementedError, ValueError),
)
"""What the same call raises again; anything else that nobody foresaw may pass."""

INTERRUPTED = "interrupted"
"""Description of the failure of a step that a signal stopped."""

RETRY = dg.RetryPolicy(
    max_retries=3, delay=2, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS
)
"""For faults of the storage; what a retry cannot fix is raised with ``allow_retries=False``."""


def gpu_pool(settings: Settings) -> str | None:
    """The pool of assets whose steps may compute on a GPU of their machine."""
    here = settings.compute.engine == "local" and settings.compute.device != "cpu"
    return settings.assets.pool if here else None


def asset_key(settings: Settings, name: str) -> dg.AssetKey:
    return dg.AssetKey([*settings.assets.key_prefix, settings.dataset, name])


def asset_options(settings: Settings, name: str, kinds: set[str]) -> dict[str, Any]:
    """Arguments of ``@dg.asset`` that every asset of a dataset has."""
    return {
        "key": asset_key(settings, name),
        "group_name": settings.dataset,
        "kinds": kinds,
        "deps": [_dep(settings, name, r) for r in settings.reads(name)] or settings.assets.dep_keys,
        "required_resource_keys": store_keys(settings) | _ray_keys(settings, name),
        "metadata": {"output_path": dg.MetadataValue.path(settings.storage.output_path)},
        "retry_policy": RETRY,
        "code_version": code_version(settings, name),
        "owners": settings.assets.owners,
        "tags": settings.assets.tags,
        "op_tags": settings.assets.op_tags.get(name),
        "backfill_policy": _backfill_policy(settings, name),
        "automation_condition": _condition(settings, name),
        "freshness_policy": _freshness(settings, name),
    }


def _freshness(settings: Settings, name: str) -> dg.FreshnessPolicy | None:
    """How old the last asset that is not of an eps may be."""
    hours = settings.automation.fresh_for_hours
    if hours is None or name != SIMILARITY_HISTOGRAM:
        return None
    return dg.FreshnessPolicy.time_window(timedelta(hours=hours))


def _condition(settings: Settings, name: str) -> dg.AutomationCondition[Any] | None:
    """What follows what it reads, up to the histogram; each eps is run after it by `each_eps`.

    In one tick with the histogram, an eps would be in a backfill that Dagster finds no root of.
    """
    if settings.automation.mode != "eager" or PARTITIONED.get(name) == "eps":
        return None
    reads = settings.reads(name)
    if not reads:  # of files that no asset makes, a sensor tells
        return dg.AutomationCondition.eager() if settings.assets.deps else None
    # Of what it reads, the last: earlier ones are made before that is up to date with them.
    last = [r for r in reads if not any(r in settings.reads(other) for other in reads)]
    keys = [asset_key(settings, read) for read in last]
    return dg.AutomationCondition.eager().allow(dg.AssetSelection.assets(*keys))


def _backfill_policy(settings: Settings, name: str) -> dg.BackfillPolicy | None:
    """One run for all clusters; one for each eps, so that checks keep their partition.

    `dg launch --partition-range` asks it of the assets without partitions too.
    """
    if PARTITIONED.get(name) == "eps":
        return None
    per_run = settings.compute.partitions_per_run if name == PAIRWISE_SCORES else None
    return dg.BackfillPolicy.multi_run(per_run) if per_run else dg.BackfillPolicy.single_run()


def _dep(settings: Settings, name: str, read: str) -> dg.AssetDep:
    """A dependency: on all partitions of an asset that is not partitioned alike."""
    kind = PARTITIONED.get(read)
    whole = kind is not None and kind != PARTITIONED.get(name)
    mapping = dg.AllPartitionMapping() if whole else None
    return dg.AssetDep(asset_key(settings, read), partition_mapping=mapping)


def store_keys(settings: Settings) -> set[str]:
    """The key of the `StoreResource` that a dataset needs; empty where all is on local disk."""
    if settings.storage.store_resource is not None:
        return {settings.storage.store_resource}
    remote = any(is_remote(path) for path, _ in settings.paths)
    return {f"{settings.dataset}_store"} if remote else set()


def _ray_keys(settings: Settings, name: str) -> set[str]:
    """The resource whose Ray cluster the step of an asset uses: it is there while the step is."""
    resource = settings.assets.ray_resource
    return set() if resource is None or name not in TASKS else {resource}


def open_store(resources: Any, settings: Settings) -> tuple[Settings, Store]:
    """The settings of a dataset with its resource applied, and its output.

    What killed processes left half-written there is deleted.
    """
    for key in store_keys(settings):
        resource: StoreResource = getattr(resources, key)
        settings = resource.applied_to(settings)
    store = settings.storage.open_output()
    store.sweep()
    return settings, store


@contextmanager
def stage(context: dg.AssetExecutionContext, settings: Settings) -> Iterator[Snapshot]:
    """Look at the output for the asset that ``context`` computes, under a lease on its keys.

    Progress goes to the log, and errors fail in one line.
    """
    with _step(context, settings) as (settings, store):
        yield Snapshot(settings, store)


@contextmanager
def video_stage(context: dg.AssetExecutionContext, settings: Settings) -> Iterator[Splitting]:
    """As `stage`, for the assets that are made of videos; leases are held where clips go too."""
    with _step(context, settings) as (settings, store):
        common = Splitting(settings)
        refuse_other_clips(common)
        if common.store.root == store.root:
            yield common
            return
        common.store.sweep()
        with _leased(context, common.store, settings):
            yield common


@contextmanager
def _step(
    context: dg.AssetExecutionContext, settings: Settings
) -> Iterator[tuple[Settings, Store]]:
    """The settings and the output of a step, whose errors fail in one line."""
    with user_errors():
        settings, store = open_store(context.resources, settings)
    for warning in settings.warnings():
        context.log.warning(warning)
    name = context.asset_key.path[-1]
    with user_errors():  # before anything is written, the lease included
        refuse_overlaps(settings)
        refuse_other_layout(store)
    with (
        listening(LogProgress(context.log.info)),
        track(name),
        user_errors(),
        _leased(context, store, settings),
    ):
        # Under the lease: another dataset's run cannot write its manifest between look and write.
        refuse_other_dataset(store, settings.dataset)
        began = time.monotonic()
        yield settings, store
        if PARTITIONED.get(name) in (None, "eps"):  # else it would be stored once for each key
            context.add_output_metadata({"seconds": round(time.monotonic() - began, 1)})


@contextmanager
def _leased(context: dg.AssetExecutionContext, store: Store, settings: Settings) -> Iterator[None]:
    """The lease on what an asset writes; the lease of a run that has ended is waited for.

    A run whose machine was lost is marked as failed by Dagster, and its retry elsewhere finds the
    lease. It is not taken away: if the run is alive after all, it renews it, and this one fails.
    """
    name = context.asset_key.path[-1]
    kind = PARTITIONED.get(name)
    keys = [WHOLE] if kind is None else list(context.partition_keys)
    read = settings.reads(name)
    alike = {r for r in read if kind is not None and PARTITIONED.get(r) == kind}
    reads = {r: keys if r in alike else [WHOLE] for r in read}

    def lease() -> AbstractContextManager[None]:
        return writing(store, name, keys, reads=reads, run=context.run.run_id)

    with ExitStack() as held:
        try:
            held.enter_context(lease())
        except LockedError as error:
            holder = context.instance.get_run_by_id(error.run) if error.run else None
            if holder is None or not holder.is_finished:
                raise
            context.log.info(f"waiting for the lease of run {error.run}, which has ended")
            time.sleep(max(0.0, error.expires - time.time()))
            held.enter_context(lease())
        yield


@contextmanager
def user_errors() -> Iterator[None]:
    """Fail in one line; never retry an error of the user or program, or a fault that stays."""
    try:
        yield
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt) as error:
        # Dagster retries an interrupted step that has a retry policy: Ctrl-C would do nothing.
        raise dg.Failure(description=INTERRUPTED, allow_retries=False) from error
    except (DedupError, DeviceError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except OSError as error:
        if error.errno in _LASTING:
            raise dg.Failure(description=describe_fault(error), allow_retries=False) from error
        raise
    except Exception as error:
        raise dg.Failure(
            description=one_line(f"{type(error).__name__}: {error}"),
            allow_retries=not isinstance(error, _OF_THE_PROGRAM),
        ) from error


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
        "dagster/uri": store.url(name),
        "fingerprint": fingerprint,
    }


def lineage(settings: Settings, **columns: tuple[str, str]) -> dg.TableColumnLineage:
    """From which column of which asset each column is made."""
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(asset_key(settings, asset), column)]
            for name, (asset, column) in columns.items()
        }
    )


def table(records: list[dict[str, Any]], schema: dg.TableSchema) -> dg.TableMetadataValue:
    """A table for the UI; the schema is needed where there may be no records."""
    return dg.MetadataValue.table([dg.TableRecord(r) for r in records], schema=schema)
