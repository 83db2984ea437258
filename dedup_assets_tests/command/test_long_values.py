"""A value of 100,000 characters is shortened in every message that repeats it."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup_assets.errors import DedupError, listed, one_line, shorten, shown
from dedup_assets_tests.assets.helpers import near_duplicates, write_part
from dedup_assets_tests.command.conftest import Call

LONG = "x" * 100_000
SPACED = "x y " * 25_000
FLAGS = ("--n-clusters", "2", "--output-path", "out")
Write = Callable[[Path], None]


def duplicate_ids(folder: Path) -> None:
    write_part(folder, near_duplicates(4), [LONG, LONG, SPACED, SPACED])


def nan(folder: Path) -> None:
    vectors = near_duplicates(4)
    vectors[1, 0] = np.nan
    write_part(folder, vectors, ["a", SPACED, "c", "d"])


def other_columns(folder: Path) -> None:
    folder.mkdir()
    columns = {f"{LONG}{number}": ["a"] for number in range(30)}
    pq.write_table(pa.table(columns), folder / "a.parquet")


def twice(folder: Path) -> None:
    folder.mkdir()
    table = pa.table([pa.array(["a"])] * 2, names=[SPACED, SPACED])
    pq.write_table(table, folder / "a.parquet")


def wide_type(folder: Path) -> None:
    write_part(folder, near_duplicates(4))
    table = pq.read_table(folder / "part-0.parquet")
    wide = pa.array([{f"field {number}": 1 for number in range(5_000)}] * 4)
    pq.write_table(table.set_column(0, "id", wide), folder / "part-0.parquet")


def json_lines(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps({"id": "a", "embedding": SPACED}) + "\n")


def good(folder: Path) -> None:
    write_part(folder, near_duplicates(4))


def zip_with_long_name(folder: Path) -> None:
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as packed:
        packed.writestr("../" + "x y " * 15_000 + ".parquet", b"")


IN = ("--input-embeddings-path", "in")
CASES: dict[str, tuple[Write, tuple[str, ...]]] = {
    "ids that are there twice": (duplicate_ids, IN),
    "an invalid row": (nan, IN),
    "column names": (other_columns, IN),
    "a column that is there twice": (twice, (*IN, "--id-field", SPACED)),
    "a column that is not there": (good, (*IN, "--id-field", SPACED)),
    "a type": (wide_type, IN),
    "a field of JSON": (json_lines, IN),
    "a name in a zip": (zip_with_long_name, ("--input-embeddings-path", "in.zip")),
    "the input": (good, ("--input-embeddings-path", LONG)),
    **{
        f"--{name} {what}": (good, (*IN, f"--{name}", value))
        for what, value in (("in one word", LONG), ("in many words", SPACED))
        for name in (
            *("eps-thresholds", "n-clusters", "memory-budget", "rank-by", "layout", "device"),
            *("clips-path", "output-s3-endpoint-url", "output-zip", "spec", "nothing"),
        )
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_long_value_is_shortened_in_the_message(tmp_path: Path, call: Call, case: str):
    write, flags = CASES[case]
    write(tmp_path / "in")
    outcome = call("run", *FLAGS, *flags)
    assert outcome.code in (1, 2)
    assert outcome.err.count("\n") == 1, outcome.err[:500]
    assert len(outcome.err) < 2_500
    assert "x" * 500 not in outcome.err


@pytest.mark.parametrize(
    "document",
    [
        {LONG: 1},
        {"pipeline": SPACED},
        {"pipeline": "dedup", "args": {SPACED: 1}},
        {"pipeline": "dedup", "args": {"n_clusters": SPACED}},
        {"pipeline": "dedup", "args": {"time_budget": SPACED}},
        {"pipeline": "dedup", "args": {"output_zip": [SPACED]}},
    ],
)
def test_a_long_value_of_a_spec_is_shortened(tmp_path: Path, call: Call, document: object):
    (tmp_path / "spec.json").write_text(json.dumps(document))
    outcome = call("run", "--spec", "spec.json", "--output-path", "out", "--input-zip", "in.zip")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert len(outcome.err) < 2_500


def test_values_keep_both_ends_and_say_how_long_they_are():
    assert shorten("short") == shorten("short", 5) == "short"
    assert shorten("a" * 300 + "b" * 300, 6) == "aaaa... (600 characters) ...bb"
    assert shown("it's") == '"it\'s"'
    assert listed(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert listed(["a"]) == "a"
    assert one_line("a\nb") == str(DedupError("a\nb")) == "a b"
