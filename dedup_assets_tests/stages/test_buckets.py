"""Which folder a clip goes to, by hand and against the bins of cosmos-curate's `shard`."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup_assets.errors import InputError
from dedup_assets.stages.buckets import bucket_folders

ALL = ["resolution", "aspect_ratio", "duration"]


def folder(width: int, height: int, duration: float, by: list[str] = ALL) -> str:
    clips = pl.DataFrame({"width": [width], "height": [height], "duration": [duration]})
    (found,) = bucket_folders(clips, by)
    return str(found)


@pytest.mark.parametrize(
    ("width", "height", "duration", "expected"),
    [
        (1920, 1080, 10.0, "resolution_1080/aspect_ratio_16_9/duration_5_10"),
        (1080, 1920, 10.1, "resolution_1080/aspect_ratio_9_16/duration_10_30"),
        (1280, 720, 30.0, "resolution_720/aspect_ratio_16_9/duration_10_30"),
        (1000, 1000, 31.0, "resolution_720/aspect_ratio_1_1/duration_30_inf"),
        (640, 480, 5.0, "resolution_lt_720/aspect_ratio_4_3/duration_5_10"),
        (480, 640, 4.9, "resolution_lt_720/aspect_ratio_3_4/duration_0_5"),
    ],
)
def test_by_hand(width: int, height: int, duration: float, expected: str) -> None:
    assert folder(width, height, duration) == expected


@given(st.integers(1, 8000), st.integers(1, 8000), st.floats(0.01, 1e6))
def test_bins_are_those_of_the_peer(width: int, height: int, duration: float) -> None:
    """Whose bins are given as limits, lower exclusive and upper inclusive, the first that fits."""
    shapes = ((0.65, "9_16"), (0.88, "3_4"), (1.16, "1_1"), (1.55, "4_3"), (1e9, "16_9"))
    shape = next(name for limit, name in shapes if width / height <= limit)
    lengths = ((5, 10, "5_10"), (10, 30, "10_30"), (30, 2**63, "30_inf"))
    length = next((name for low, high, name in lengths if low <= duration <= high), "0_5")
    side = min(width, height)
    size = "1080" if side >= 1080 else "720" if side >= 720 else "lt_720"
    expected = f"resolution_{size}/aspect_ratio_{shape}/duration_{length}"
    assert folder(width, height, duration) == expected


def test_only_what_is_asked_for_is_looked_at() -> None:
    clips = pl.DataFrame({"duration": [3.0]})
    assert bucket_folders(clips, ["duration"]).to_list() == ["duration_0_5"]


@pytest.mark.parametrize("value", [None, 0, -1, float("nan"), float("inf")])
def test_a_clip_without_a_number_is_refused(value: Any) -> None:
    clips = pl.DataFrame({"duration": [1.0, value, value]}, strict=False)
    with pytest.raises(InputError, match="number above 0 in duration of every kept clip, and 2"):
        bucket_folders(clips, ["duration"])
