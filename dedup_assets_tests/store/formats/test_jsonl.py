"""JSON lines: read as Python reads them, and refused by line where they are wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup_assets.errors import InputError
from dedup_assets.store.formats import jsonl
from dedup_assets.store.inputs import InputFiles

GOOD = [{"id": f"v{i}", "embedding": [i + 0.5, 1, -2e3], "size": i} for i in range(5)]


def write(path: Path, rows: list[Any], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_bytes(end.join(lines).encode())
    return path


def opened(path: Path, *carried: str) -> InputFiles:
    return InputFiles(str(path), "id", "embedding", list(carried))


def read_all(path: Path, dim: int = 3, *carried: str) -> tuple[list[Any], list[Any], list[Any]]:
    files = opened(path, *carried)
    (name,) = files.names()
    assert files.probe(name).rows == sum(len(ids) for ids in files.read_ids(name))
    batches = list(files.read(name, dim))
    ids = [i for batch in batches for i in batch.ids.to_pylist()]
    rejected = [(r.id, r.row, r.reason) for batch in batches for r in batch.rejected]
    return ids, [row.tolist() for batch in batches for row in batch.vectors], rejected


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        read_all(path)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\n \t\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
def test_lines_are_rows_and_blank_ones_are_not(tmp_path: Path, end: str, last: str):
    path = write(tmp_path / "x.jsonl", [*GOOD[:-1], json.dumps(GOOD[-1]) + last], end)
    ids, vectors, rejected = read_all(path)
    assert ids == [row["id"] for row in GOOD]
    assert vectors == [row["embedding"] for row in GOOD]
    assert rejected == []


def test_probe_says_what_a_file_holds(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", GOOD)
    probed = opened(path, "size").probe("x.jsonl")
    assert (probed.rows, probed.dim, probed.bytes) == (5, 3, path.stat().st_size)
    assert (probed.id_type, probed.metadata.field("size").type) == (pa.string(), pa.int64())
    assert probed.fingerprint == opened(path).fingerprint("x.jsonl")
    write(path, [*GOOD[:-1], GOOD[-1] | {"size": 5}])
    assert probed.fingerprint != opened(path).fingerprint("x.jsonl")


@pytest.mark.parametrize("lines", [1, 2, 100])
def test_blocks_are_cut_at_line_ends(tmp_path: Path, lines: int, monkeypatch: pytest.MonkeyPatch):
    rows = [{"id": i, "embedding": [i, i + 1], "text": "é" * (i % 50)} for i in range(300)]
    path = write(tmp_path / "x.jsonl", rows)
    monkeypatch.setattr(jsonl, "_BLOCK_BYTES", 37 * lines)
    ids, vectors, _ = read_all(path, 2)
    assert ids == list(range(300))
    assert vectors == [[i, i + 1] for i in range(300)]
    files = opened(path, "text")
    batches = list(files.read("x.jsonl", 2, batch_bytes=64))
    assert max(len(batch.ids) for batch in batches) <= 4
    assert [int(n) for batch in batches for n in batch.rows] == list(range(300))
    texts = [v for batch in batches for v in batch.metadata["text"].to_pylist()]
    assert texts == [row["text"] for row in rows]


def test_blocks_with_none_of_the_wanted_rows_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path / "x.jsonl", [{"id": i, "embedding": [i, 1]} for i in range(100)])
    monkeypatch.setattr(jsonl, "_BLOCK_BYTES", 200)
    wanted = np.array([40, 41])
    found = [n for b in opened(path).read("x.jsonl", 2, only=wanted) for n in b.rows.tolist()]
    assert set(found) >= {40, 41}
    assert len(found) < 30


def test_rows_that_are_no_vector_are_left_out_with_the_reason(tmp_path: Path):
    vectors: list[Any] = [[1, 2, 3], None, [1, 2], [], [1, None, 3], [7, 8, 9]]
    rows = [{"id": i, "embedding": v} for i, v in zip("abcdef", vectors, strict=True)]
    rows += [{"id": None, "embedding": [1, 2, 3]}, {"embedding": [1, 2, 3]}, {"id": "g"}]
    ids, found, rejected = read_all(write(tmp_path / "x.jsonl", rows))
    assert (ids, found) == (["a", "f"], [[1, 2, 3], [7, 8, 9]])
    assert rejected == [
        ("b", 1, "null embedding"),
        ("c", 2, "2 numbers instead of 3"),
        ("d", 3, "0 numbers instead of 3"),
        ("e", 4, "null inside the embedding"),
        (None, 6, "null id"),
        (None, 7, "null id"),
        ("g", 8, "null embedding"),
    ]


def test_nan_and_infinity_are_read_as_python_writes_them(tmp_path: Path):
    rows = [*GOOD[:1], {"id": "n", "embedding": [float("nan"), float("inf"), 1e308]}]
    lines = [*map(json.dumps, rows), '{"id": "x", "embedding": [-1e999, 1%s, 2]}' % ("0" * 400)]
    _, vectors, _ = read_all(write(tmp_path / "x.jsonl", lines))
    assert np.isnan(vectors[1][0])
    assert vectors[1][1:] == [float("inf"), 1e308]
    assert vectors[2] == [-float("inf"), float("inf"), 2]


@pytest.mark.parametrize(
    "ids", [[1, -2, 2**63 - 1], [2**64 - 1, 1, 0], ["a/b", "é.😀", ""], ["2024-01-01", "x", "y"]]
)
def test_ids_keep_their_type(tmp_path: Path, ids: list[Any]):
    rows = [{"id": i, "embedding": [1, 2, 3]} for i in ids]
    assert read_all(write(tmp_path / "x.jsonl", rows))[0] == ids


@settings(max_examples=60)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"id": st.text(st.characters(exclude_categories=["Cs"]))},
            optional={
                "embedding": st.none()
                | st.lists(st.none() | st.floats() | st.integers(-99, 99), max_size=4),
                "more": st.recursive(
                    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
                    max_leaves=5,
                ),
            },
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(20, 400),
)
def test_every_row_is_read_as_python_reads_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], block: int
):
    rows = [{"id": "first", "embedding": [1, 2]}, *rows]
    try:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        path = write(tmp_path_factory.mktemp("jsonl") / "x.jsonl", lines)
    except UnicodeEncodeError:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "_BLOCK_BYTES", block)
        ids, vectors, rejected = read_all(path, 2)
    vectors_of = [row.get("embedding") or [] for row in rows]
    good = [i for i, v in enumerate(vectors_of) if len(v) == 2 and None not in v]
    assert ids == [rows[i]["id"] for i in good]
    np.testing.assert_array_equal(vectors, [rows[i]["embedding"] for i in good])
    assert [n for _, n, _ in rejected] == [i for i in range(len(rows)) if i not in good]


WRONG: dict[str, tuple[str, str]] = {
    "half": ('{"id": "x", "embed', "Unterminated string starting at, column 13"),
    "list": ("[1, 2]", "list is no object"),
    "number": ("3", "3 is no object"),
    "null": ("null", "null is no object"),
    "two": ('{"id": "x"}{"id": "y"}', "Extra data, column 12"),
    "text": ('{"id": "x", "embedding": "1 2 3"}', "'embedding' is \"1 2 3\", not a list of num"),
    "words": ('{"id": "x", "embedding": [1, "2"]}', "'embedding' holds \"2\", which is no number"),
    "lists": ('{"id": "x", "embedding": [[1, 2]]}', "'embedding' holds list, which is no number"),
    "truth": ('{"id": "x", "embedding": [true]}', "'embedding' holds true, which is no number"),
    "id": ('{"id": 5, "embedding": [1]}', "column 'id' is 5, and the first lines have string"),
    "surrogate": ('{"id": "\\ud800", "embedding": [1]}', "column 'id' is \"\\ud800\""),
    "deep": ('{"id": ' + "[" * 100_000, "recursion"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("early", [True, False])
def test_a_wrong_line_is_named(
    tmp_path: Path, case: str, early: bool, monkeypatch: pytest.MonkeyPatch
):
    """Among the lines that types are told from, and after them."""
    monkeypatch.setattr(jsonl, "_PROBE_LINES", 10 if early else 2)
    line, says = WRONG[case]
    path = write(tmp_path / "x.jsonl", [*GOOD[:2], "", line, *GOOD[2:]])
    if early and case in ("id", "surrogate"):
        refused(path, "line 1 of", "'id'")
    else:
        refused(path, f"line 4 of {path} cannot be read (", says, "must be a JSON object with 'id'")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", GOOD)
    path.write_bytes(path.read_bytes().replace(b"v3", b"v\xff"))
    refused(path, "line 4", "utf-8")


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", GOOD)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_all(path)[0] == [row["id"] for row in GOOD]


def test_a_carried_column_that_changes_its_type_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jsonl, "_PROBE_LINES", 2)
    path = write(tmp_path / "x.jsonl", [*GOOD, {"id": "x", "embedding": [1, 2, 3], "size": "big"}])
    files = opened(path, "size")
    with pytest.raises(InputError, match=r"line 6 .*'size' is \"big\", and the first lines have i"):
        list(files.read("x.jsonl", 3))
    assert read_all(path)[0][-1] == "x"


def test_unknown_column_is_named_beside_those_that_are_there(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", GOOD)
    with pytest.raises(InputError, match=r"no column 'length'; it has id, embedding, size; set id"):
        opened(path, "length").probe("x.jsonl")


def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(jsonl, "_BLOCK_BYTES", 100)
    monkeypatch.setattr(jsonl, "_LONGEST_LINE", 1_000)
    path = write(tmp_path / "x.jsonl", [*GOOD, '{"id": "' + "x" * 5_000])
    refused(path, "line 6", "longer than 1000 bytes")


@pytest.mark.parametrize("data", [b"", b"\n\n", b" "])
def test_a_file_without_rows_has_no_dimension(tmp_path: Path, data: bytes):
    (tmp_path / "x.jsonl").write_bytes(data)
    probed = opened(tmp_path).probe("x.jsonl")
    assert (probed.rows, probed.dim) == (0, None)
    assert list(opened(tmp_path).read("x.jsonl", 3)) == []
