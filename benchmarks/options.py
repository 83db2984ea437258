"""Options that all benchmarks share, and the folder they work in."""

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def common_parser(
    description: str, clusters: tuple[int, ...] = (1_000,)
) -> argparse.ArgumentParser:
    """A parser with the options of the data, the device and the places.

    With several ``clusters`` as a default, ``--clusters`` takes several.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rows", type=_positive, default=100_000, help="rows of the data set")
    parser.add_argument("--dim", type=_positive, default=768, help="length of the vectors")
    parser.add_argument(
        "--clusters",
        type=_positive,
        nargs=None if len(clusters) == 1 else "+",
        default=clusters[0] if len(clusters) == 1 else clusters,
        help="clusters of k-means",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute"
    )
    parser.add_argument("--seed", type=int, default=7, help="seed of the data")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    parser.add_argument(
        "--work",
        type=Path,
        metavar="FOLDER",
        help="folder for data and outputs; or a temporary one",
    )
    parser.add_argument("--keep", action="store_true", help="keep data and outputs")
    return parser


@contextmanager
def work_folder(options: argparse.Namespace) -> Iterator[Path]:
    """A new folder below ``--work``, deleted at the end unless ``--keep``."""
    if options.work is not None:
        options.work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="benchmark-", dir=options.work))
    try:
        yield folder
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _positive(text: str) -> int:
    value = int(text.replace("_", "").replace(",", ""))
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value
