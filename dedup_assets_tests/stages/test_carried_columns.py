"""Columns of any type, from the input through fragments into the JSON of the samples."""

import base64
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dedup_assets.store import layout
from dedup_assets.store.tables import read_table
from dedup_assets_tests.conftest import make_settings, run_stages, write_parquet
from dedup_assets_tests.stages.test_shards import EPS, media_of, read_back

NANOS = 1_700_000_000_123_456_789
MOMENT = "2023-11-14 22:13:20"
BYTES = b"\x00\xff\xfe{"
TEXT = base64.b64encode(BYTES).decode()
FAR = 2**62

CASES: dict[str, tuple[pa.DataType, Any, Any]] = {
    "binary": (pa.binary(), BYTES, TEXT),
    "large binary": (pa.large_binary(), BYTES, TEXT),
    "fixed binary": (pa.binary(4), BYTES, TEXT),
    "binary view": (pa.binary_view(), BYTES, TEXT),
    "string view": (pa.string_view(), "é", "é"),
    "list of views": (pa.list_(pa.binary_view()), [BYTES, None], [TEXT, None]),
    "large list of views": (pa.large_list(pa.string_view()), ["é"], ["é"]),
    "fixed list of views": (pa.list_(pa.binary_view(), 1), [BYTES], [TEXT]),
    "struct of views": (
        pa.struct([("a", pa.binary_view()), ("b", pa.list_(pa.string_view()))]),
        {"a": BYTES, "b": ["é"]},
        {"a": TEXT, "b": ["é"]},
    ),
    "map of views": (
        pa.map_(pa.string_view(), pa.binary_view()),
        [("é", BYTES)],
        [["é", TEXT]],
    ),
    "ns": (pa.timestamp("ns"), NANOS, f"{MOMENT}.123456789"),
    "ns, zone": (pa.timestamp("ns", "Asia/Kolkata"), NANOS, "2023-11-15 03:43:20.123456789+05:30"),
    "ns that need none": (pa.timestamp("ns"), NANOS - 789, f"{MOMENT}.123456"),
    "one ns": (pa.timestamp("ns"), 1, "1970-01-01 00:00:00.000000001"),
    "before 1970": (pa.timestamp("ns"), -1, "1969-12-31 23:59:59.999999999"),
    "us": (pa.timestamp("us", "UTC"), NANOS // 1000, f"{MOMENT}.123456+00:00"),
    "s": (pa.timestamp("s"), NANOS // 10**9, MOMENT),
    "far year": (pa.timestamp("us"), FAR, f"{FAR} us"),
    "time": (pa.time64("ns"), 3_600_000_000_001, "01:00:00.000000001"),
    "duration": (pa.duration("ns"), 86_400_000_000_001, "1 day, 0:00:00.000000001"),
    "duration, s": (pa.duration("s"), 5, "0:00:05"),
    "far date": (pa.date32(), 2**30, f"{2**30} D"),
    "date": (pa.date32(), 1, "1970-01-02"),
    "times in a list": (pa.list_(pa.timestamp("ns")), [NANOS], [f"{MOMENT}.123456789"]),
    "decimal": (pa.decimal128(38, 30), Decimal("1." + "0" * 29 + "1"), "1." + "0" * 29 + "1"),
    "list": (pa.list_(pa.float32()), [1.5, float("nan"), None], [1.5, None, None]),
    "large integer": (pa.uint64(), 2**64 - 1, 2**64 - 1),
}


@pytest.mark.parametrize("case", CASES)
def test_carried_column_keeps_all_it_holds(tmp_path: Path, case: str):
    """One row is set aside, so that rows are taken; one file holds nulls only."""
    type_, value, expected = CASES[case]
    ids = [f"v{number}" for number in range(8)]
    vectors = [np.zeros(4), *np.eye(4), *-np.eye(4)[:3]]
    values = [None, value, value, value, None, None, None, None]
    for name, rows in (("a", slice(0, 5)), ("b", slice(5, 8))):
        column = pa.array(values[rows], type_)
        path = tmp_path / "in" / f"{name}.parquet"
        write_parquet(path, ids[rows], vectors[rows], column=column)
    (tmp_path / "clips").mkdir()
    for id_ in ids:
        (tmp_path / "clips" / f"{id_}.mp4").write_bytes(media_of(id_))
    results = run_stages(
        make_settings(
            tmp_path,
            n_clusters=2,
            eps_thresholds=[EPS],
            metadata_fields=["column"],
            on_invalid="quarantine",
            clips_path=str(tmp_path / "clips"),
        )
    )
    found = {s["__key__"]: json.loads(s["json"])["metadata"]["column"] for s in read_back(results)}
    assert found == {f"v{n}": expected if 1 <= n <= 3 else None for n in range(1, 8)}
    fragment = results.store.list(layout.CLUSTERS)[0]
    stored = read_table(results.store, f"{layout.CLUSTERS}/{fragment}").schema.field("column").type
    assert "view" not in str(stored)
