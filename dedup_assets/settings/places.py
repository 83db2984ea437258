"""Settings of what is read and of where the output goes."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from dedup_assets.settings.group import Group
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

OWN_COLUMNS = {ID, EMBEDDING, COSINE_DISTANCE, L2_DISTANCE}
_BUCKET = re.compile(r"(?:[A-Za-z0-9._-]+|arn:[^/]+)(?:/|$)")


class Source(Group):
    """The embeddings to read, and the clips that they are of."""

    input_embeddings_path: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of Parquet, JSON lines or .npy files, one file, a .zip of them, or the "
        "output folder of cosmos-curate or NeMo Curator; local or s3://bucket/prefix.",
        examples=["s3://bucket/embeddings"],
    )
    input_filetype: Literal["parquet", "jsonl", "npy"] | None = Field(
        default=None,
        description="Format of the embeddings; by default told by the files' names.",
        examples=["parquet"],
    )
    id_field: str = Field(default="id", min_length=1, description="Column of the clip ids.")
    embedding_field: str = Field(
        default="embedding", min_length=1, description="Column of the embeddings."
    )
    embedding_dim: int | None = Field(
        default=None,
        ge=1,
        description="Dimension that the embeddings must have.",
        examples=[768],
    )
    metadata_fields: list[str] = Field(
        default_factory=list,
        description="Columns to carry along, into the shards too.",
        examples=[["duration", "source"]],
    )
    on_invalid: Literal["fail", "quarantine"] = Field(
        default="fail",
        description="What to do with NaN, infinite, zero, null or ragged embeddings and null ids: "
        "fail naming the row, or set it aside in rejected/.",
    )
    clips_path: str | None = Field(
        default=None,
        description="Folder of the clips' media files; none: clips/ of input_embeddings_path, if "
        "that is the output folder of a split pipeline, or else an index of ids only.",
        examples=["s3://bucket/clips"],
    )
    allow_links: bool = Field(
        default=False,
        description="Follow symbolic links in the folder of clips or videos that lead out of it, "
        "to any file that you can read; they are refused otherwise.",
    )

    @field_validator("input_embeddings_path", "clips_path")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        return None if value is None else local_or_s3(value)

    @field_validator("metadata_fields")
    @classmethod
    def _no_own_names(cls, values: list[str]) -> list[str]:
        refuse_own_columns(set(values) - {"id", "embedding"})
        return list(dict.fromkeys(values))


class Storage(Group):
    """The output, and how both sides are reached on S3."""

    output_path: str = Field(
        min_length=1,
        description="Folder that everything is written below; local or s3://bucket/prefix.",
        examples=["s3://bucket/deduplicated"],
    )
    layout: Literal["cosmos-curate", "nemo"] = Field(
        default="cosmos-curate",
        description="How the output is named: as by cosmos-curate's dedup, or with kmeans/, "
        "pairwise/ and duplicates/ as by NeMo Curator's semantic deduplication.",
    )
    input_s3_profile_name: str | None = Field(
        default=None,
        description="AWS profile to read embeddings and clips with, from S3.",
        examples=["research"],
    )
    output_s3_profile_name: str | None = Field(
        default=None,
        description="AWS profile to read and write the output with, on S3.",
        examples=["research"],
    )
    input_s3_endpoint_url: str | None = Field(
        default=None,
        description="URL of the S3-compatible store that the input lies in.",
        examples=["https://s3.example.com"],
    )
    output_s3_endpoint_url: str | None = Field(
        default=None,
        description="URL of the S3-compatible store that the output goes to.",
        examples=["https://s3.example.com"],
    )
    input_storage_options: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="Arguments of s3fs for the input, such as key and secret. Take secrets from "
        "the environment: '{{ env.NAME }}'.",
        examples=[{"secret": "{{ env.S3_SECRET }}"}],
    )
    output_storage_options: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="Arguments of s3fs for the output, likewise.",
        examples=[{"secret": "{{ env.S3_SECRET }}"}],
    )
    store_resource: str | None = Field(
        default=None,
        min_length=1,
        description="Key of a StoreResource of your own that says how to reach S3, bound in your "
        "Definitions; by default the dataset has its own.",
        examples=["store"],
    )
    storage_retries: int = Field(
        default=RETRIES,
        ge=0,
        description="How often a request to S3 is tried again after a fault that may pass; waits "
        "double up to 20 seconds.",
    )

    @field_validator("output_path")
    @classmethod
    def _path(cls, value: str) -> str:
        return local_or_s3(value)

    @field_validator("input_s3_endpoint_url", "output_s3_endpoint_url")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        return None if value is None else check_endpoint(value)

    @field_validator("input_storage_options", "output_storage_options")
    @classmethod
    def _endpoint_of_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        check_options(value)
        return value

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

    def open_output(self) -> Store:
        """The store below `output_path`."""
        return Store(self.output_path, self.output_access, self.layout)


def local_or_s3(path: str) -> str:
    """A path, refused if it is neither local nor in S3.

    Raises:
        ValueError: it is of another file system, or has no bucket.
    """
    if "\0" in path:
        raise ValueError(f"must hold no NUL character, got {path!r}")
    if is_other_url(path) or (is_remote(path) and not _BUCKET.match(path.removeprefix(S3))):
        raise ValueError(f"must be a local path or s3://bucket/prefix, got {path!r}")
    return path


def refuse_own_columns(names: set[str]) -> None:
    """Refuse carried columns that would take the place of one of the output's own.

    Raises:
        ValueError: one does.
    """
    if taken := names & OWN_COLUMNS:
        raise ValueError(f"metadata_fields cannot hold {min(taken)!r}: the output has its own")
