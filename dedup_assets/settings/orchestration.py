"""Settings of a dataset's place in Dagster; in YAML only, since they are of the user's project."""

import re
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg
from pydantic import Field, field_validator

from dedup_assets.graph import READS
from dedup_assets.settings.group import Group

_SEGMENT = re.compile(r"[A-Za-z0-9_.-]+")


class Assets(Group):
    """How the assets appear in Dagster, and what their steps need."""

    key_prefix: list[str] = Field(
        default_factory=list,
        description="Segments before the dataset in each asset key.",
        examples=[["video", "curation"]],
    )
    deps: list[str] = Field(
        default_factory=list,
        description="Asset keys that the input is made by; they come before embeddings.",
        examples=[["video/clip_embeddings"]],
    )
    owners: list[str] = Field(
        default_factory=list,
        description="Owners of the assets: an email address, or team:NAME.",
        examples=[["team:data-platform"]],
    )
    tags: dict[str, str] = Field(
        default_factory=dict, description="Tags of the assets.", examples=[{"domain": "video"}]
    )
    op_tags: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Tags of the step that makes an asset, by the asset's name: what it asks of "
        "Kubernetes, for example.",
        examples=[{"pairwise_scores": {"dagster/priority": "1"}}],
    )
    pool: str | None = Field(
        default="gpu",
        pattern=r"^\S+$",
        description="Pool of the steps that may compute on a GPU; none with device cpu.",
    )

    ray_resource: str | None = Field(
        default=None,
        min_length=1,
        description="Key of a resource of dagster-ray's, bound in your Definitions, whose cluster "
        "the steps use that have tasks; goes with engine ray.",
        examples=["ray_cluster"],
    )

    @field_validator("key_prefix")
    @classmethod
    def _segments(cls, values: list[str]) -> list[str]:
        for value in values:
            if not _SEGMENT.fullmatch(value):
                raise ValueError(
                    f"key_prefix takes segments of letters, digits and _ . -, got {value!r}"
                )
        return values

    @field_validator("deps")
    @classmethod
    def _asset_keys(cls, values: list[str]) -> list[str]:
        for value in values:
            if not all(_SEGMENT.fullmatch(segment) for segment in value.split("/")):
                raise ValueError(
                    f"deps takes asset keys such as video/clip_embeddings, got {value!r}"
                )
        return values

    @field_validator("owners")
    @classmethod
    def _known_forms(cls, values: list[str]) -> list[str]:
        for value in values:
            try:
                dg.AssetSpec("any", owners=[value])
            except dg.DagsterInvalidDefinitionError:
                raise ValueError(
                    f"owners takes email addresses and team:NAME, got {value!r}"
                ) from None
        return values

    @field_validator("tags")
    @classmethod
    def _as_dagster_has_them(cls, values: dict[str, str]) -> dict[str, str]:
        try:
            dg.AssetSpec("any", tags=values)
        except dg.DagsterInvalidDefinitionError as error:
            raise ValueError(str(error)) from None
        return values

    @field_validator("op_tags")
    @classmethod
    def _of_our_assets(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in values:
            if name not in READS:
                raise ValueError(f"op_tags takes tags by asset ({', '.join(READS)}), got {name!r}")
        return values

    @property
    def dep_keys(self) -> list[dg.AssetKey]:
        """The keys of `deps`."""
        return [dg.AssetKey(key.split("/")) for key in self.deps]


class Automation(Group):
    """What starts runs automatically."""

    mode: Literal["none", "schedule", "sensor", "eager"] = Field(
        default="none",
        description="What is switched on from the start: nothing; the schedule; the sensor that "
        "runs the graph when the input has new files; or eager: conditions by which each asset "
        "follows those it reads, and deps, or without deps that sensor. The UI can switch each.",
    )
    schedule: str = Field(default="0 3 * * *", description="Cron schedule of the whole graph.")
    execution_timezone: str = Field(
        default="UTC", description="Time zone of the schedule, such as Europe/Berlin."
    )

    fresh_for_hours: float | None = Field(
        default=None,
        ge=1,
        le=87_600,
        description="Hours after which Dagster reports a similarity histogram as overdue; its "
        "freshness daemon must be enabled.",
        examples=[26],
    )

    @field_validator("execution_timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"must be a time zone such as Europe/Berlin, got {value!r}") from error
        return value
