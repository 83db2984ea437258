"""The kinds of demo clips and the table that says which clip duplicates which."""

import pyarrow as pa

ORIGINAL = "original"
LOOKALIKE = "lookalike"
DUPLICATE_KINDS = ("bitrate", "resolution", "brightness_contrast", "crop", "trim", "flip")
KINDS = (ORIGINAL, *DUPLICATE_KINDS, LOOKALIKE)

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
