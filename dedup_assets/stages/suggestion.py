"""How many clusters: measure this device on a few of the rows, predict, and choose."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dedup_assets.compute.arrays import DeviceError, resolve_device
from dedup_assets.compute.cost import Choice, Rates, Workload, choose
from dedup_assets.errors import InputError, SettingsError
from dedup_assets.settings import Settings
from dedup_assets.stages.calibration import measure_rates, read_sample
from dedup_assets.stages.centroids import sample_size
from dedup_assets.stages.embeddings import survey_embeddings
from dedup_assets.stages.machine import compute_budget, free_memory
from dedup_assets.state.groups import group_bytes
from dedup_assets.state.manifest import Manifest

_COPIES = 3  # of a cluster at once: read, put in order, and as the search needs it


@dataclass(frozen=True)
class Measured:
    """The input, and how fast this machine works on it.

    Attributes:
        manifest: the input.
        rates: of this machine.
        sample_rows: rows that were measured on.
        device: where the arithmetic ran.
        free_bytes: the largest cluster that can be compared here, as float32 rows; None: unknown.
        seconds: how long measuring took.
    """

    manifest: Manifest
    rates: Rates
    sample_rows: int
    device: str
    free_bytes: int | None
    seconds: float


@dataclass(frozen=True)
class Survey:
    """The input, and how many seconds it took to read its footers."""

    manifest: Manifest
    seconds: float


def survey(settings: Settings) -> Survey:
    """List the input.

    Raises:
        InputError: it cannot be used; the same errors as those of a run.
    """
    started = time.perf_counter()
    with _one_line():
        manifest = survey_embeddings(settings)
    return Survey(manifest, time.perf_counter() - started)


def measure(settings: Settings, surveyed: Survey) -> Measured:
    """Measure this machine on some of the rows, in some seconds.

    ``n_clusters`` and ``output_path`` of the settings are not looked at.

    Raises:
        InputError: the input cannot be used; the same errors as those of a run.
        SettingsError: the device that was asked for is not there.
    """
    started = time.perf_counter()
    manifest = surveyed.manifest
    with _one_line():
        device = resolve_device(settings.compute.device)
        sample = read_sample(settings, manifest)
        rates = measure_rates(settings, sample, surveyed.seconds)
    return Measured(
        manifest,
        rates,
        len(sample.rows),
        device,
        _largest_cluster(settings, device),
        time.perf_counter() - started,
    )


def suggest(settings: Settings, measured: Measured, budget_s: float) -> Choice:
    """The fewest clusters whose scoring is predicted to take at most ``budget_s``.

    Raises:
        InputError: no number of clusters would do on this machine.
    """
    work = workload(settings, measured)
    try:
        return choose(work, measured.rates, budget_s)
    except ValueError:
        raise InputError(
            f"{work.rows:,} rows of {work.dim} numbers cannot be cut into clusters that fit into "
            "the memory of this machine; use one with more"
        ) from None


def workload(settings: Settings, measured: Measured) -> Workload:
    """What the cost model has to know of an input and its settings."""
    manifest = measured.manifest

    def with_clusters(clusters: int) -> Settings:
        return settings.replace(n_clusters=clusters)

    def groups(clusters: int) -> int:
        if settings.compute.files_per_partition is not None:
            return -(-len(manifest.files) // settings.compute.files_per_partition)
        return -(-manifest.bytes // group_bytes(with_clusters(clusters)))

    return Workload(
        rows=manifest.rows,
        dim=manifest.dim,
        fit_rows=lambda clusters: sample_size(with_clusters(clusters), manifest),
        groups=groups,
        most_bytes=measured.free_bytes,
    )


def _largest_cluster(settings: Settings, device: str) -> int | None:
    """Bytes of the largest cluster that a step can hold beside its ``memory_budget``."""
    room = []
    if (free := free_memory()) is not None:
        room.append(free - settings.compute.memory_budget // 2)
    if device != "cpu":
        room.append(compute_budget(settings) // 2)
    return max(0, min(room)) // _COPIES if room else None


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except DeviceError as error:
        raise SettingsError(str(error)) from error
    except OSError as error:
        raise InputError(str(error)) from error
