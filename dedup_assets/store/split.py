"""The output folder of a split pipeline (cosmos-curate, NeMo Curator), taken as input."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dedup_assets.errors import InputError
from dedup_assets.store.processed import FAILED
from dedup_assets.store.source import Source

CLIPS = "clips"
PICKLES = (".pickle", ".pkl")
PARQUET_SUFFIX = "_parquet"
_EMBEDDINGS = re.compile(r"[A-Za-z0-9][\w.-]*_embd[\w.-]*")


@dataclass(frozen=True)
class SplitOutput:
    """What of an output folder is read: its embeddings, and its clips if it holds any."""

    embeddings: str
    clips: str | None


def find_split(
    source: Source, path: str, filetype: str | None, extensions: tuple[str, ...]
) -> SplitOutput | None:
    """The folders of a split pipeline's output; None if ``source`` is something else.

    Args:
        source: what lies at ``path``.
        path: as the user gave it.
        filetype: the format that was asked for.
        extensions: of input files; a folder that holds one itself is a plain folder of input.

    Raises:
        InputError: it holds embeddings of several models.
    """
    folders, files = source.entries()
    if filetype == "jsonl" or any(n.endswith(extensions) for n in files if n != FAILED):
        return None
    found = [name for name in folders if _EMBEDDINGS.fullmatch(name)]
    tables = [name for name in found if name.endswith(PARQUET_SUFFIX)]
    vectors = [name for name in found if not name.endswith(PARQUET_SUFFIX)]
    by_type = {"parquet": tables, "npy": vectors, None: tables or vectors}
    chosen = by_type[filetype]
    if not chosen:
        return None
    root = path.rstrip("/")
    if len(chosen) > 1:
        raise InputError(
            f"{source.url()} holds embeddings of several models: {', '.join(chosen)}; set "
            f"input_embeddings_path to one of them, such as {root}/{chosen[0]}"
        )
    return SplitOutput(f"{root}/{chosen[0]}", f"{root}/{CLIPS}" if CLIPS in folders else None)


def refuse_pickles(source: Source, names: Iterable[str], path: str, sibling: Source | None) -> None:
    """Refuse files that could run code when they are read.

    Args:
        source: the input.
        names: what it holds.
        path: as the user gave it.
        sibling: the folder that a split pipeline writes the same embeddings to as Parquet,
            if there may be one.

    Raises:
        InputError: there is one.
    """
    pickle = next((name for name in names if name.endswith(PICKLES)), None)
    if pickle is None:
        return
    instead = "write the embeddings as Parquet"
    if sibling is not None and sibling.exists(""):
        instead = f"set input_embeddings_path to {path.rstrip('/')}{PARQUET_SUFFIX}"
    raise InputError(
        f"{source.url(pickle)} is a pickle, which could run any code and is never read; {instead}"
    )
