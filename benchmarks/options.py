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
    several = len(clusters) > 1
    parser = array_parser(description, clusters="+" if several else None)
    parser.set_defaults(rows=100_000, clusters=clusters if several else clusters[0])
    parser.add_argument(
        "--work",
        type=Path,
        metavar="FOLDER",
        help="folder for data and outputs; or a temporary one",
    )
    parser.add_argument("--keep", action="store_true", help="keep data and outputs")
    return parser


def array_parser(description: str, clusters: str | None = None) -> argparse.ArgumentParser:
    """A parser with the options of the data and the device, for what writes no data.

    ``clusters="+"`` lets several numbers be given.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rows", type=positive, help="rows of the data set")
    parser.add_argument("--dim", type=positive, default=768, help="length of the vectors")
    parser.add_argument("--clusters", type=positive, nargs=clusters, help="clusters of the rows")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute"
    )
    parser.add_argument("--seed", type=int, default=7, help="seed of the data")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    return parser


def add_rounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds", type=positive, default=3, help="rounds that count, after one that does not"
    )


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


def positive(text: str) -> int:
    value = int(text.replace("_", "").replace(",", ""))
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value
