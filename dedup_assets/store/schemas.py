"""Every schema. Ids keep the type that they have in the input."""

import pyarrow as pa

ID, EMBEDDING = "id", "embedding"
COSINE_DISTANCE, L2_DISTANCE = "cosine_dist_to_cent", "l2_dist_to_cent"
MAX_ID, SCORE = "max_id", "cosine_sim_score"
CLUSTER, DIGEST, DIGEST_BYTES = "cluster", "digest", 16

DESCRIPTIONS = {
    ID: "the clip",
    EMBEDDING: "unit vector",
    COSINE_DISTANCE: "1 - cosine with the centroid of its cluster",
    L2_DISTANCE: "Euclidean distance to that centroid",
    MAX_ID: "its most similar earlier-ranked clip of the cluster; itself if there is none",
    SCORE: "cosine similarity with that clip; 0 if there is none",
    "centroid": "unit vector; its row number is the cluster",
    "file": "relative to the input folder",
    "fingerprint": "changes when the file does",
    "key": "name of the sample in its shard",
    "shard": "tar, relative to the folder of this index",
    "offset": "where the sample starts in the tar, in bytes",
    "size": "bytes of the sample in the tar, headers included",
    "score_low": "lower end of the bin, inclusive",
    "score_high": "upper end of the bin",
    "count": "compared clips in the bin",
    "ecdf": "share of compared clips at or below the bin",
    "eps": "1 - score_low, where that is an eps of the grid",
    "removed": "clips with a score of at least score_low",
    "removed_share": "the same as a share of all clips",
    "cluster": "number of its cluster",
    "within_id": "its most similar clip of its own cluster; null if it is alone there",
    "within_score": "cosine similarity with that clip",
    "across_id": "its most similar clip of all other clusters; null if these are empty",
    "across_cluster": "the cluster of that clip",
    "across_score": "cosine similarity with that clip",
}
"""What a column holds, where the name alone does not say it; shown in the UI."""

MANIFEST = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
    ]
)

ID_HASHES = pa.schema([pa.field("hash", pa.uint64(), nullable=False)])

PARTITION_COMMIT = pa.schema(
    [
        pa.field("cluster", pa.int32(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("fragment", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("squared_distance", pa.float64(), nullable=False),
    ]
)

LIST_LEDGER = pa.schema(
    [
        pa.field("cluster", pa.int32(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("removed", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)

HISTOGRAM = pa.schema(
    [
        pa.field("score_low", pa.float32(), nullable=False),
        pa.field("score_high", pa.float32(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("ecdf", pa.float64(), nullable=False),
        pa.field("eps", pa.string()),
        pa.field("removed", pa.int64(), nullable=False),
        pa.field("removed_share", pa.float64(), nullable=False),
    ]
)


def centroids(dim: int) -> pa.Schema:
    """The matrix of centroids, a row each, seen as a table."""
    return pa.schema([pa.field("centroid", pa.list_(pa.float32(), dim), nullable=False)])


def fragment(id_type: pa.DataType, metadata: pa.Schema) -> pa.Schema:
    """Rows of one cluster: unit vectors, both distances to the centroid, the user's columns."""
    return pa.schema(
        [
            pa.field(ID, id_type, nullable=False),
            pa.field(
                EMBEDDING,
                pa.list_(pa.field("element", pa.float32(), nullable=False)),
                nullable=False,
            ),
            pa.field(COSINE_DISTANCE, pa.float32(), nullable=False),
            pa.field(L2_DISTANCE, pa.float32(), nullable=False),
            *metadata,
        ]
    )


def rejected(id_type: pa.DataType) -> pa.Schema:
    return pa.schema(
        [
            pa.field(ID, id_type),
            pa.field("file", pa.string(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
        ]
    )


def pairs(id_type: pa.DataType) -> pa.Schema:
    """Pruning tables: each row, its best earlier match, their cosine."""
    return pa.schema(
        [
            pa.field(ID, id_type, nullable=False),
            pa.field(MAX_ID, id_type, nullable=False),
            pa.field(SCORE, pa.float32(), nullable=False),
        ]
    )


def score_ledger(id_type: pa.DataType) -> pa.Schema:
    """The pruning tables of some clusters, and a digest of each row's vector."""
    return pa.schema(
        [
            pa.field("cluster", pa.int32(), nullable=False),
            *pairs(id_type),
            pa.field(DIGEST, pa.binary(DIGEST_BYTES), nullable=False),
        ]
    )


def removed_rows(id_type: pa.DataType, *, ids_only: bool) -> pa.Schema:
    """A list of ids to remove: their rows of the pruning tables, or the ids alone."""
    whole = pairs(id_type)
    return pa.schema([whole.field(ID)]) if ids_only else whole


def missed(id_type: pa.DataType) -> pa.Schema:
    """Sampled rows, each with its best partner within its cluster and across all others."""
    return pa.schema(
        [
            pa.field(ID, id_type, nullable=False),
            pa.field("cluster", pa.int32(), nullable=False),
            pa.field("within_id", id_type),
            pa.field("within_score", pa.float32()),
            pa.field("across_id", id_type),
            pa.field("across_cluster", pa.int32()),
            pa.field("across_score", pa.float32()),
        ]
    )


def shard_index(id_type: pa.DataType) -> pa.Schema:
    """Kept clips. Shard, offset and size are null where there was no clips folder."""
    return pa.schema(
        [
            pa.field(ID, id_type, nullable=False),
            pa.field("key", pa.string(), nullable=False),
            pa.field("shard", pa.string()),
            pa.field("offset", pa.int64()),
            pa.field("size", pa.int64()),
        ]
    )


def missing_media(id_type: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field(ID, id_type, nullable=False)])
