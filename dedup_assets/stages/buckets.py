"""Folders of shards by the size, shape and length of clips, as trainers want their batches.

The bins are those of cosmos-curate's `shard`, with names as there. It leaves clips below 5 seconds
out; here they have a bin of their own.
"""

from collections.abc import Callable

import polars as pl

from dedup_assets.errors import InputError
from dedup_assets.settings.steps import BUCKET_COLUMNS

_SHAPES = ((0.65, "9_16"), (0.88, "3_4"), (1.16, "1_1"), (1.55, "4_3"))
"""Width by height up to which a shape reaches, and its name; wider ones are 16:9."""


def bucket_folders(clips: pl.DataFrame, bucket_by: list[str]) -> pl.Series:
    """The folder of each clip, such as ``resolution_720/aspect_ratio_16_9/duration_5_10``.

    Args:
        clips: with the columns of what they are divided by.
        bucket_by: keys of `BUCKET_COLUMNS`, in the order in which folders are nested.

    Raises:
        InputError: a clip has no number, or none above 0, in one of these columns.
    """
    for column in dict.fromkeys(c for name in bucket_by for c in BUCKET_COLUMNS[name]):
        numbers = clips[column].cast(pl.Float64, strict=False)
        wrong = ~((numbers > 0) & numbers.is_finite()).fill_null(False)
        if wrong.any():
            at = int(wrong.arg_max() or 0)
            raise InputError(
                f"bucket_by needs a number above 0 in {column} of every kept clip, and "
                f"{wrong.sum()} have none; the first has {clips[column][at]!r}: fix the column, "
                "or leave bucket_by out"
            )
    folders = [_FOLDERS[name]() for name in bucket_by]
    return clips.select(folder=pl.concat_str(folders, separator="/"))["folder"]


def _resolution() -> pl.Expr:
    """By the shorter side."""
    shorter = pl.min_horizontal(pl.col("width", "height").cast(pl.Float64))
    name = (
        pl.when(shorter >= 1080)
        .then(pl.lit("1080"))
        .when(shorter >= 720)
        .then(pl.lit("720"))
        .otherwise(pl.lit("lt_720"))
    )
    return pl.concat_str(pl.lit("resolution_"), name)


def _aspect_ratio() -> pl.Expr:
    ratio = pl.col("width").cast(pl.Float64) / pl.col("height").cast(pl.Float64)
    name = pl.lit("16_9")
    for limit, shape in reversed(_SHAPES):
        name = pl.when(ratio <= limit).then(pl.lit(shape)).otherwise(name)
    return pl.concat_str(pl.lit("aspect_ratio_"), name)


def _duration() -> pl.Expr:
    """In seconds; a border belongs to the shorter bin, but 5 to the longer one."""
    seconds = pl.col("duration").cast(pl.Float64)
    name = (
        pl.when(seconds < 5)
        .then(pl.lit("0_5"))
        .when(seconds <= 10)
        .then(pl.lit("5_10"))
        .when(seconds <= 30)
        .then(pl.lit("10_30"))
        .otherwise(pl.lit("30_inf"))
    )
    return pl.concat_str(pl.lit("duration_"), name)


_FOLDERS: dict[str, Callable[[], pl.Expr]] = {
    "resolution": _resolution,
    "aspect_ratio": _aspect_ratio,
    "duration": _duration,
}
