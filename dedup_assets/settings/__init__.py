"""What a user can set for one dataset: its name, and a group of settings for each subject.

A setting has one name everywhere (YAML, flags, specs, errors), so names are unique over all groups.
"""

from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from pydantic import ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from dedup_assets.settings.group import Group
from dedup_assets.settings.orchestration import Assets, Automation
from dedup_assets.settings.places import OWN_COLUMNS, Source, Storage, refuse_own_columns
from dedup_assets.settings.steps import Clustering, Compute, Ranking, Shards, Thresholds
from dedup_assets.store.access import is_remote

GROUPS: dict[str, type[Group]] = {
    "source": Source,
    "clustering": Clustering,
    "ranking": Ranking,
    "thresholds": Thresholds,
    "shards": Shards,
    "compute": Compute,
    "storage": Storage,
    "assets": Assets,
    "automation": Automation,
}
GROUP_OF = {name: group for group, model in GROUPS.items() for name in model.model_fields}
"""Of each setting but ``dataset``."""

SECRET = {"input_storage_options", "output_storage_options"}
"""Settings that may hold secrets."""

SIZES = {"memory_budget", "task_memory"}
"""Settings of bytes: a number, or text such as 4GiB."""

OF_PROJECT = {"store_resource", *Assets.model_fields}
"""Settings of a project of the user's: they name what is bound or defined there."""

OF_CLUSTER = {"engine", "address", "task_cpus", "task_gpus", "task_memory"}
"""Who does the tasks: of the user's machines, never of a dataset.

Results from a Ray cluster are unpickled, so whoever chooses the cluster can run code here.
"""


class Settings(dg.Model):
    """Settings of one dataset."""

    model_config = ConfigDict(hide_input_in_errors=True)

    dataset: str = Field(
        default="dedup",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the dataset: prefix of its asset keys, jobs and eps partitions.",
    )
    source: Source
    clustering: Clustering
    ranking: Ranking = Field(default_factory=Ranking)
    thresholds: Thresholds = Field(default_factory=Thresholds)
    shards: Shards = Field(default_factory=Shards)
    compute: Compute = Field(default_factory=Compute)
    storage: Storage
    assets: Assets = Field(default_factory=Assets)
    automation: Automation = Field(default_factory=Automation)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Settings from values by name, whatever group they are in.

        Raises:
            pydantic.ValidationError: one breaks its rule, or a required one is missing.
            KeyError: a name is that of no setting.
        """
        return cls.model_validate({group: {} for group in GROUPS} | grouped(values))

    def replace(self, **values: Any) -> Self:
        """A copy with some values by name, which are not checked."""
        update = {
            name: getattr(self, name).model_copy(update=value) if name in GROUPS else value
            for name, value in grouped(values).items()
        }
        return self.model_copy(update=update)

    def values(self) -> dict[str, Any]:
        """The value of each setting by its name."""
        return {"dataset": self.dataset} | {
            name: getattr(getattr(self, group), name) for name, group in GROUP_OF.items()
        }

    @model_validator(mode="after")
    def _ray_has_tasks(self) -> Self:
        if self.assets.ray_resource is not None and self.compute.engine != "ray":
            raise ValueError("ray_resource goes with engine ray")
        return self

    @model_validator(mode="after")
    def _carried_hide_nothing(self) -> Self:
        refuse_own_columns(set(self.carried_columns))
        return self

    @property
    def carried_columns(self) -> list[str]:
        """Metadata columns that the fragments hold: asked for, or ranked by."""
        ranked = [column for column in self.ranking.columns if column not in OWN_COLUMNS]
        columns = dict.fromkeys([*self.source.metadata_fields, *ranked])
        return [c for c in columns if c not in (self.source.id_field, self.source.embedding_field)]

    def warnings(self) -> list[str]:
        """What to know before a run about the credentials; none of them is shown."""
        sides = (
            (
                self.storage.input_access,
                (self.source.input_embeddings_path, self.source.clips_path),
            ),
            (self.storage.output_access, (self.storage.output_path,)),
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


def grouped(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name as they are nested in YAML, with the groups that they need.

    Raises:
        KeyError: a name is that of no setting.
    """
    nested: dict[str, Any] = {}
    for name, value in values.items():
        place = nested if name == "dataset" else nested.setdefault(GROUP_OF[name], {})
        place[name] = value
    return nested


FIELDS: dict[str, FieldInfo] = {"dataset": Settings.model_fields["dataset"]} | {
    name: model.model_fields[name] for model in GROUPS.values() for name in model.model_fields
}
"""The declaration of each setting."""
