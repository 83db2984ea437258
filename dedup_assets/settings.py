"""What a user can set for one dataset, declared once: YAML fields and command flags alike."""

import re
from typing import Annotated, Any, Literal, Self

import dagster as dg
from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from dedup_assets.compute.thresholds import canonical_eps
from dedup_assets.store.access import (
    RETRIES,
    S3,
    Access,
    check_endpoint,
    check_options,
    is_other_url,
    is_remote,
)
from dedup_assets.store.filesystem import Store
from dedup_assets.store.schemas import COSINE_DISTANCE, EMBEDDING, ID, L2_DISTANCE
from dedup_assets.store.sizes import parse_bytes

Eps = Annotated[str, BeforeValidator(canonical_eps)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]

MAX_PARTITION_KEYS = 128
_BUCKET = re.compile(r"(?:[A-Za-z0-9._-]+|arn:[^/]+)(?:/|$)")
OWN_COLUMNS = {ID, EMBEDDING, COSINE_DISTANCE, L2_DISTANCE}


class Settings(dg.Model):
    """Settings of one dataset."""

    # Storage options may hold secrets, and pydantic would repeat what it does not accept.
    # Neither JSON nor a sum knows infinity.
    model_config = ConfigDict(hide_input_in_errors=True, allow_inf_nan=False)

    dataset: str = Field(
        default="dedup",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the dataset: prefix of its asset keys, jobs and eps partitions.",
    )
    input_embeddings_path: str = Field(
        min_length=1,
        description="Folder of Parquet, JSON lines or .npy files, one file, a .zip of them, or the "
        "output folder of cosmos-curate or NeMo Curator; local or s3://bucket/prefix.",
    )
    input_filetype: Literal["parquet", "jsonl", "npy"] | None = Field(
        default=None, description="Format of the embeddings; by default told by the files' names."
    )
    output_path: str = Field(
        min_length=1,
        description="Folder that everything is written below; local or s3://bucket/prefix.",
    )
    layout: Literal["cosmos-curate", "nemo"] = Field(
        default="cosmos-curate",
        description="How the output is named: as by cosmos-curate's dedup, or with kmeans/, "
        "pairwise/ and duplicates/ as by NeMo Curator's semantic deduplication.",
    )
    n_clusters: int = Field(
        description="Clusters; only rows of one cluster are compared. 1 compares all rows."
    )
    clusters_per_partition: int | None = Field(
        default=None,
        ge=1,
        description="Clusters in one partition key; by default as few as keep the keys at "
        f"{MAX_PARTITION_KEYS} or fewer.",
    )
    eps_thresholds: list[Eps] = Field(
        default_factory=list,
        description="eps values to list the duplicates for; 1 - eps is the lowest similarity.",
    )
    eps_to_extract: Eps | None = Field(
        default=None, description="eps to write the curated shards for."
    )
    which_to_keep: Literal["hard", "easy", "soft", "random"] = Field(
        default="hard",
        description="Which of a group of duplicates is kept: farthest from its centroid (hard), "
        "nearest (easy, or its old name soft), or by a hash of the id (random).",
    )
    sim_metric: Literal["cosine", "l2"] = Field(
        default="cosine", description="Distance to the centroid that hard and easy rank by."
    )
    rank_by: list[str] = Field(
        default_factory=list,
        description="Columns to rank by instead of which_to_keep, each COLUMN:asc or COLUMN:desc.",
    )
    precision: Literal["exact", "fast"] = Field(
        default="exact",
        description="exact: each score is the highest similarity to an earlier row, the same on "
        "every machine. fast: up to 0.001 below it, for a GPU; near eps some duplicates stay.",
    )
    kmeans: Literal["lloyd", "cuml"] = Field(
        default="lloyd",
        description="Implementation of k-means: our own, or RAPIDS cuML on a GPU.",
    )
    max_iter: int = Field(default=100, ge=1, description="Most iterations of k-means.")
    tol: float = Field(default=1e-4, ge=0, description="Tolerance at which k-means stops.")
    random_state: int = Field(default=42, ge=0, lt=2**63, description="Seed of all random choices.")
    fit_data_fraction: float | None = Field(
        default=None, gt=0, le=1, description="Most of the rows that k-means is fitted on."
    )
    files_per_partition: int | None = Field(
        default=None,
        ge=1,
        description="Input files in one group of the shuffle; by default about 1 GiB of files.",
    )
    max_fragments: int = Field(
        default=64,
        ge=1,
        description="Most fragments of a cluster: beyond it, small groups of input files are "
        "shuffled again together.",
    )
    id_field: str = Field(default="id", min_length=1, description="Column of the clip ids.")
    embedding_field: str = Field(
        default="embedding", min_length=1, description="Column of the embeddings."
    )
    embedding_dim: int | None = Field(
        default=None, ge=1, description="Dimension that the embeddings must have."
    )
    metadata_fields: list[str] = Field(
        default_factory=list, description="Columns to carry along, into the shards too."
    )
    clips_path: str | None = Field(
        default=None,
        description="Folder of the clips' media files; none: clips/ of input_embeddings_path, if "
        "that is the output folder of a split pipeline, or else an index of ids only.",
    )
    allow_links: bool = Field(
        default=False,
        description="Follow symbolic links in the clips folder that lead out of it, to any file "
        "that you can read; they are refused otherwise.",
    )
    samples_per_shard: int = Field(default=10_000, ge=1, description="Clips in one tar.")
    export: Literal["shards", "media"] = Field(
        default="shards", description="WebDataset tars, or a folder of plain media files."
    )
    missing_media: Literal["fail", "skip"] = Field(
        default="fail", description="What to do with a kept clip without a media file."
    )
    missed_sample: int = Field(
        default=2000,
        ge=0,
        description="Rows to compare with all rows, to say what share of the duplicates clustering "
        "misses; fewer where they would take more than a quarter of memory_budget. It costs 2 * "
        "rows * missed_sample * dimension operations: missed_sample / n_clusters of what "
        "assigning the rows costs. 0 switches it off.",
    )
    missed_limit: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of the duplicates missed at a configured eps above which a check warns.",
    )
    on_invalid: Literal["fail", "quarantine"] = Field(
        default="fail",
        description="What to do with NaN, infinite, zero, null or ragged embeddings and null ids: "
        "fail naming the row, or set it aside in rejected/.",
    )
    pairwise_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Rows of a tile in the pairwise step; it changes no result.",
    )
    memory_budget: Bytes = Field(
        default=parse_bytes("1GiB"),
        ge=parse_bytes("16MiB"),
        description="Bytes a step may hold, such as 512MiB or 4GiB.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="Where to compute.")
    partitions_per_run: int | None = Field(
        default=None,
        ge=1,
        description="Partition keys of pairwise_scores in one run of a backfill; by default all.",
    )
    input_s3_profile_name: str | None = Field(
        default=None, description="AWS profile to read embeddings and clips with, from S3."
    )
    output_s3_profile_name: str | None = Field(
        default=None, description="AWS profile to read and write the output with, on S3."
    )
    input_s3_endpoint_url: str | None = Field(
        default=None, description="URL of the S3-compatible store that the input lies in."
    )
    output_s3_endpoint_url: str | None = Field(
        default=None, description="URL of the S3-compatible store that the output goes to."
    )
    input_storage_options: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="Arguments of s3fs for the input, such as key and secret. Take secrets from "
        "the environment: '{{ env.NAME }}'.",
    )
    output_storage_options: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="Arguments of s3fs for the output, likewise.",
    )
    store_resource: str | None = Field(
        default=None,
        min_length=1,
        description="Key of a StoreResource of your own that says how to reach S3, bound in your "
        "Definitions; by default the dataset has its own.",
    )
    storage_retries: int = Field(
        default=RETRIES,
        ge=0,
        description="How often a request to S3 is tried again after a fault that may pass; waits "
        "double up to 20 seconds.",
    )
    schedule: str = Field(
        default="0 3 * * *", description="Cron schedule of the whole graph, in UTC."
    )
    schedule_enabled: bool = Field(
        default=False, description="Whether the schedule starts switched on."
    )

    @field_validator("input_embeddings_path", "output_path", "clips_path")
    @classmethod
    def _local_or_s3(cls, value: str | None) -> str | None:
        path = value or ""
        if "\0" in path:
            raise ValueError(f"must hold no NUL character, got {value!r}")
        if is_other_url(path) or (is_remote(path) and not _BUCKET.match(path.removeprefix(S3))):
            raise ValueError(f"must be a local path or s3://bucket/prefix, got {value!r}")
        return value

    @field_validator("input_s3_endpoint_url", "output_s3_endpoint_url")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        return None if value is None else check_endpoint(value)

    @field_validator("input_storage_options", "output_storage_options")
    @classmethod
    def _endpoint_of_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        check_options(value)
        return value

    @field_validator("n_clusters", mode="before")
    @classmethod
    def _a_number(cls, value: object) -> object:
        if value == "auto":
            raise ValueError(
                "n_clusters must be a number here, since partitions are made from it, got 'auto'; "
                "run dedup-assets suggest-clusters to choose one"
            )
        return value

    @field_validator("n_clusters")
    @classmethod
    def _at_least_one(cls, value: int) -> int:
        # Not a bound of the field: Dagster would apply it to the text "auto" first, and fail.
        if value < 1:
            raise ValueError(f"must be greater than or equal to 1, got {value}")
        return value

    @field_validator("eps_thresholds")
    @classmethod
    def _once_each(cls, values: list[str]) -> list[str]:
        return list(dict.fromkeys(values))

    @field_validator("rank_by")
    @classmethod
    def _directions(cls, values: list[str]) -> list[str]:
        for value in values:
            column, _, direction = value.rpartition(":")
            if not column or direction not in ("asc", "desc"):
                raise ValueError(f"rank_by takes COLUMN:asc or COLUMN:desc, got {value!r}")
        return values

    @field_validator("metadata_fields")
    @classmethod
    def _no_own_names(cls, values: list[str]) -> list[str]:
        taken = set(values) & (OWN_COLUMNS - {"id", "embedding"})
        if taken:
            raise ValueError(f"metadata_fields cannot hold {min(taken)!r}: the output has its own")
        return list(dict.fromkeys(values))

    @model_validator(mode="after")
    def _extract_is_listed(self) -> Self:
        if self.eps_to_extract is not None and self.eps_to_extract not in self.eps_thresholds:
            self.eps_thresholds = [*self.eps_thresholds, self.eps_to_extract]
        return self

    @model_validator(mode="after")
    def _carried_hide_nothing(self) -> Self:
        taken = set(self.carried_columns) & OWN_COLUMNS
        if taken:
            raise ValueError(f"metadata_fields cannot hold {min(taken)!r}: the output has its own")
        return self

    @property
    def input_access(self) -> Access:
        """Credentials and endpoint of the embeddings and clips."""
        return Access(
            self.input_s3_profile_name,
            self.input_s3_endpoint_url,
            self.storage_retries,
            self.input_storage_options,
        )

    @property
    def output_access(self) -> Access:
        """Credentials and endpoint of the output."""
        return Access(
            self.output_s3_profile_name,
            self.output_s3_endpoint_url,
            self.storage_retries,
            self.output_storage_options,
        )

    def warnings(self) -> list[str]:
        """What to know before a run about the credentials; none of them is shown."""
        sides = (
            (self.input_access, (self.input_embeddings_path, self.clips_path)),
            (self.output_access, (self.output_path,)),
        )
        sources = {
            source
            for access, paths in sides
            if any(is_remote(path) for path in paths if path is not None)
            and (source := access.session_token) is not None
        }
        return [
            f"the credentials for S3 have a session token (from {source}), which expires: a run "
            "that outlives it fails, and goes on where it stopped when run again with a new one"
            for source in sorted(sources)
        ]

    def open_output(self) -> Store:
        """The store below `output_path`."""
        return Store(self.output_path, self.output_access, self.layout)

    @property
    def carried_columns(self) -> list[str]:
        """Metadata columns that the fragments hold: asked for, or ranked by."""
        ranked = [spec.rpartition(":")[0] for spec in self.rank_by]
        columns = dict.fromkeys(
            [*self.metadata_fields, *(c for c in ranked if c not in OWN_COLUMNS)]
        )
        return [c for c in columns if c not in (self.id_field, self.embedding_field)]
