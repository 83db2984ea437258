"""Where a model runs, and how many clips fit at once."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dedup_assets.errors import first_line, shown
from dedup_assets.video.embed.errors import EmbedError

if TYPE_CHECKING:
    import torch

#: Clips at once on a CPU: more hardly run faster, and memory is shared with decoding.
CPU_CLIPS = 4
#: Most clips at once on a GPU; beyond it the batches are no faster.
MOST_CLIPS = 256
#: Share of the free device memory that a batch may take; kernels choose workspaces by the rest.
MEMORY_SHARE = 0.5


def pick_device(device: str) -> "torch.device":
    """`auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (":" in device and not (kind == "cuda" and index.isdigit())):
        raise EmbedError(f"device={shown(device)} should be auto, cpu, cuda or cuda:N, as cuda:0")
    if kind == "cuda":
        _check_cuda(device, int(index or 0))
    return torch.device(device)


def _check_cuda(device: str, index: int) -> None:
    import torch

    if not torch.cuda.is_available():
        raise EmbedError(
            f"device={device}: torch {torch.__version__} sees no CUDA device here; use --device "
            "cpu, or install a CUDA build of torch and check nvidia-smi"
        )
    count = torch.cuda.device_count()
    if index >= count:
        raise EmbedError(
            f"device={device}: there are {count} CUDA devices, so N should be < {count}"
        )


def clips_at_once(device: "torch.device", run_one: Callable[[], object]) -> int:
    """How many clips a batch holds: on a GPU from what `run_one` takes and what is free."""
    if device.type != "cuda":
        return CPU_CLIPS
    import torch

    run_one()  # once before measuring: the first call loads kernels
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run_one()
    torch.cuda.synchronize(device)
    one = max(1, torch.cuda.max_memory_allocated(device) - before)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(MOST_CLIPS, int(free * MEMORY_SHARE) // one))


def out_of_memory(device: "torch.device", error: BaseException, name: str) -> EmbedError:
    """The error for one clip that does not fit."""
    return EmbedError(
        f"{name}: one clip does not fit into the free memory of {device} "
        f"({first_line(error)}); free memory there, or use a smaller model or --device cpu"
    )
