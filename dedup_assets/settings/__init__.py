"""What a user can set for one dataset: its name, and a group of settings for each subject.

A setting has one name everywhere (YAML, flags, specs, errors), so names are unique over all groups.
"""

from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from pydantic import ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from dedup_assets.graph import assets_of, reads_of
from dedup_assets.settings.group import Group
from dedup_assets.settings.orchestration import Assets, Automation
from dedup_assets.settings.places import OWN_COLUMNS, Source, Storage, refuse_own_columns
from dedup_assets.settings.steps import Clustering, Compute, Ranking, Shards, Thresholds
from dedup_assets.settings.videos import Videos
from dedup_assets.store.access import Access, is_remote

GROUPS: dict[str, type[Group]] = {
    "videos": Videos,
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

PATHS = (
    *("video_dir", "output_clip_path", "splitting_model_dir", "model_dir"),
    *("input_embeddings_path", "output_path", "clips_path"),
)
"""Settings that are local paths or URLs."""

SIZES = {"memory_budget", "task_memory"}
"""Settings of bytes: a number, or text such as 4GiB."""

OF_PROJECT = {"store_resource", *Assets.model_fields}
"""Settings of a project of the user's: they name what is bound or defined there."""

OF_CLUSTER = {"engine", "address", "task_cpus", "task_gpus", "task_memory"}
"""Who does the tasks: of the user's machines, never of a dataset.

Results from a Ray cluster are unpickled, so whoever chooses the cluster can run code here.
"""

OF_READER = {"trust_remote_code"}
"""What only who runs a command may allow, or who keeps a project: never a spec or an output."""


SPAN_COLUMNS = ("source_video", "span_start", "span_end")
"""Which part of which video a clip is: columns of the embeddings that are made of videos."""

SPLIT = "split"
"""Folder of an output that clips and embeddings go to where none is named."""


class Settings(dg.Model):
    """Settings of one dataset."""

    model_config = ConfigDict(hide_input_in_errors=True)

    dataset: str = Field(
        default="dedup",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the dataset: prefix of its asset keys, jobs and eps partitions.",
    )
    videos: Videos = Field(default_factory=Videos)
    source: Source = Field(default_factory=Source)
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
    def _one_input(self) -> Self:
        embeddings, videos = self.source.input_embeddings_path, self.videos.video_dir
        if embeddings is None and videos is None:
            raise ValueError("input_embeddings_path is required, or video_dir to make embeddings")
        if embeddings is not None and videos is not None:
            raise ValueError("input_embeddings_path and video_dir exclude each other; give one")
        filetype = self.source.input_filetype
        if videos is not None and filetype not in (None, "parquet"):
            raise ValueError(f"input_filetype is parquet with video_dir, got {filetype!r}")
        return self

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
    def assets_made(self) -> list[str]:
        """The assets of the dataset, in an order in which they can be made."""
        return assets_of(videos=self.begins_with_videos)

    def reads(self, asset: str) -> tuple[str, ...]:
        """The assets that ``asset`` reads."""
        return reads_of(asset, videos=self.begins_with_videos)

    @property
    def begins_with_videos(self) -> bool:
        """Whether the embeddings are made of videos."""
        return self.videos.video_dir is not None

    @property
    def split_path(self) -> str:
        """Where clips and embeddings that are made of videos go."""
        given = self.videos.output_clip_path
        return f"{self.storage.output_path.rstrip('/')}/{SPLIT}" if given is None else given

    @property
    def input_path(self) -> str:
        """Where the embeddings are read: as configured, or where those of the videos go."""
        given = self.source.input_embeddings_path
        return self.split_path if given is None else given

    @property
    def input_access(self) -> Access:
        """How embeddings and clips are reached: those of videos lie where the output does."""
        storage = self.storage
        return storage.output_access if self.begins_with_videos else storage.input_access

    @property
    def paths(self) -> list[tuple[str, Access]]:
        """Every path that is read or written, with how it is reached."""
        storage, videos = self.storage, self.videos
        found = [
            (videos.video_dir, storage.input_access),
            (self.input_path, self.input_access),
            (self.source.clips_path, self.input_access),
            (storage.output_path, storage.output_access),
        ]
        return [(path, access) for path, access in found if path is not None]

    @property
    def carried_columns(self) -> list[str]:
        """Metadata columns that the fragments hold: for the samples, or to rank by."""
        ranked = [column for column in self.ranking.columns if column not in OWN_COLUMNS]
        return self._but_id_and_embedding([*self.sample_columns, *ranked])

    @property
    def sample_columns(self) -> list[str]:
        """Metadata columns that go into the samples of the shards."""
        return self._but_id_and_embedding([*self.described_columns, *self.shards.columns])

    @property
    def described_columns(self) -> list[str]:
        """Metadata columns that are asked for, and those of videos."""
        of_videos = SPAN_COLUMNS if self.begins_with_videos else ()
        return list(dict.fromkeys([*self.source.metadata_fields, *of_videos]))

    def _but_id_and_embedding(self, columns: list[str]) -> list[str]:
        aside = (self.source.id_field, self.source.embedding_field)
        return [column for column in dict.fromkeys(columns) if column not in aside]

    def warnings(self) -> list[str]:
        """What to know before a run about the credentials; none of them is shown."""
        sources = {
            source
            for path, access in self.paths
            if is_remote(path) and (source := access.session_token) is not None
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
