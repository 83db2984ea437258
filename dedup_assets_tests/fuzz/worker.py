"""Reads the inputs of the seeds that come on standard input; an answer a line."""

import json
import os
import resource
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("default")
    from pydantic import ValidationError

    from dedup_assets.command.arguments import describe
    from dedup_assets.errors import DedupError, one_line
    from dedup_assets.settings import Settings
    from dedup_assets.stages.centroids import normalise
    from dedup_assets.stages.embeddings import check_unchanged, input_files, list_embeddings
    from dedup_assets.store.filesystem import Store
from dedup_assets_tests.fuzz.inputs import make
from dedup_assets_tests.fuzz.made import DIM, Made
from dedup_assets_tests.fuzz.promises import BrokenPromiseError

_MOST_MEMORY = 6 << 30
_LONGEST_ERROR = 2_000


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anything else prints is no answer
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        with tempfile.TemporaryDirectory(prefix="dedup-assets-fuzz-") as folder:
            made = make(int(line), Path(folder))
            outcome, detail = tried(made, Path(folder))
        json.dump({"kind": made.kind, "outcome": outcome, "detail": detail[:500]}, answers)
        answers.write("\n")
        answers.flush()


def tried(made: Made, folder: Path) -> tuple[str, str]:
    """What comes of reading an input, and more on it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = read(made, folder) if made.act is None else made.act()
    except BrokenPromiseError as error:
        return "broken promise", str(error)
    except (DedupError, ValidationError, OSError) as error:
        if isinstance(error, OSError) and (made.act is None or error.filename is None):
            return _traceback(error)
        text = described(error)
        if len(text.splitlines()) != 1:
            return "several lines", text
        if len(text) > _LONGEST_ERROR:
            return "long error", text
        if made.must_read:
            return "wrong rows", f"refused, and is valid: {text}"
        return type(error).__name__, text
    except Exception as error:
        return _traceback(error)
    if made.act is not None:
        return "held", ""
    if made.expected is not None and found != made.expected:
        return "wrong rows", f"found {found}, expected {made.expected}"
    return "read", ""


def _traceback(error: Exception) -> tuple[str, str]:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    at = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[::-1][:6])
    return "traceback", f"{type(error).__name__}: {error} at {at}"


def described(error: Exception) -> str:
    """What a user is told."""
    if isinstance(error, ValidationError):
        return "; ".join(describe(each) for each in error.errors())
    return one_line(error) if isinstance(error, OSError) else str(error)


def read(made: Made, folder: Path) -> Any:
    """Every row as the stages read it: its vector by id, and how many were rejected."""
    settings = Settings.of(
        input_embeddings_path=str(made.path),
        output_path=str(folder / "out"),
        n_clusters=1,
        embedding_dim=DIM,
        on_invalid="quarantine",
        input_filetype=made.filetype,
    )
    manifest = list_embeddings(settings, Store(settings.storage.output_path))
    rows, rejected = {}, 0
    files = input_files(settings)
    for file in manifest.files:
        check_unchanged(files, file)
        read = 0
        for batch in files.read(file["file"], manifest.dim, batch_bytes=256):
            _, good, bad = normalise(batch)
            read += len(batch.ids) + len(batch.rejected)
            rejected += len(bad)
            for i in good:
                rows[batch.ids[int(i)].as_py()] = batch.vectors[i].tolist()
        if read != file["rows"]:
            raise AssertionError(f"{read} rows were read of {file}")
    return rows, rejected


if __name__ == "__main__":
    main()
