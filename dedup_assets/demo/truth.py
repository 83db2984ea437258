"""The kinds of the demo's videos, and the tables that say which clip duplicates which."""

import pyarrow as pa

ORIGINAL = "original"
LOOKALIKE = "lookalike"
DUPLICATE_KINDS = ("bitrate", "resolution", "brightness_contrast", "crop", "trim", "flip")
KINDS = (ORIGINAL, *DUPLICATE_KINDS, LOOKALIKE)

#: One row per video and scene in it. `video` is the name of the file, `source_video` that of the
#: original that the scene copies or resembles at the same number (an original's own name);
#: `start_s` is when the clip of the scene begins in the video.
SCENE_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("scene", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("source_video", pa.string(), nullable=False),
    ]
)

#: One row per clip. `source_id` is the id of the original that the clip copies or resembles (an
#: original's own id); `is_duplicate` says whether it is a near-duplicate of that original.
TRUTH_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("source_id", pa.string(), nullable=False),
        pa.field("is_duplicate", pa.bool_(), nullable=False),
    ]
)


def truth_of_clips(scenes: pa.Table, clips: pa.Table) -> pa.Table:
    """What is true of each clip, in `TRUTH_SCHEMA`.

    Args:
        scenes: in `SCENE_SCHEMA`.
        clips: `id`, `source_video` (a path or URL) and `span_start` in seconds, of all clips.

    Raises:
        ValueError: a scene has no clip.
    """
    at = {
        (row["source_video"].rpartition("/")[2], row["span_start"]): row["id"]
        for row in clips.to_pylist()
    }
    rows = scenes.to_pylist()
    lacking = [row for row in rows if (row["video"], row["start_s"]) not in at]
    if lacking:
        first = lacking[0]
        raise ValueError(
            f"{len(lacking)} scenes have no clip; the first begins at {first['start_s']:g} s of "
            f"{first['video']}"
        )
    start = {(row["video"], row["scene"]): row["start_s"] for row in rows}
    columns = {
        "id": [at[row["video"], row["start_s"]] for row in rows],
        "kind": [row["kind"] for row in rows],
        "source_id": [
            at[row["source_video"], start[row["source_video"], row["scene"]]] for row in rows
        ],
        "is_duplicate": [row["kind"] in DUPLICATE_KINDS for row in rows],
    }
    return pa.table(columns, schema=TRUTH_SCHEMA)
