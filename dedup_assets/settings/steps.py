"""Settings of the steps between input and output."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from dedup_assets.compute.thresholds import canonical_eps
from dedup_assets.settings.group import Group
from dedup_assets.store.sizes import parse_bytes

Eps = Annotated[str, BeforeValidator(canonical_eps)]
Bytes = Annotated[int, BeforeValidator(parse_bytes)]

MAX_PARTITION_KEYS = 128


class Clustering(Group):
    """k-means, and the measurement of what it misses."""

    n_clusters: int = Field(
        description="Clusters; only rows of one cluster are compared. 1 compares all rows.",
        examples=[1000],
    )
    clusters_per_partition: int | None = Field(
        default=None,
        ge=1,
        description="Clusters in one partition key; by default as few as keep the keys at "
        f"{MAX_PARTITION_KEYS} or fewer.",
        examples=[8],
    )
    kmeans: Literal["lloyd", "cuml"] = Field(
        default="lloyd",
        description="Implementation of k-means: our own, or RAPIDS cuML on a GPU, whose centroids "
        "differ a little each time they are fitted.",
    )
    max_iter: int = Field(default=100, ge=1, description="Maximum number of k-means iterations.")
    tol: float = Field(default=1e-4, ge=0, description="Tolerance at which k-means stops.")
    random_state: int = Field(default=42, ge=0, lt=2**63, description="Seed of all random choices.")
    fit_data_fraction: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Largest share of the rows to fit k-means on.",
        examples=[0.1],
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

    balance_limit: float = Field(
        default=10.0,
        gt=1,
        description="How many times the comparisons of clusters of equal size the clusters may "
        "need before a check warns.",
    )

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


BEST_QUALITY = ("resolution:desc", "bit_rate:desc", "duration:desc")
"""The columns are those of clips made of videos here, all but the last of the source video."""


class Ranking(Group):
    """Which of a group of duplicates is kept."""

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
        description="Columns to rank by instead of which_to_keep, each COLUMN:asc or COLUMN:desc; "
        f"best_quality stands for {' '.join(BEST_QUALITY)}.",
        examples=[["height:desc", "duration:desc"]],
    )

    @field_validator("rank_by")
    @classmethod
    def _directions(cls, values: list[str]) -> list[str]:
        named = [BEST_QUALITY if value == "best_quality" else (value,) for value in values]
        values = [value for specs in named for value in specs]
        for value in values:
            column, _, direction = value.rpartition(":")
            if not column or direction not in ("asc", "desc"):
                raise ValueError(f"rank_by takes COLUMN:asc or COLUMN:desc, got {value!r}")
        return values

    @property
    def columns(self) -> list[str]:
        """The columns of `rank_by`."""
        return [spec.rpartition(":")[0] for spec in self.rank_by]


class Thresholds(Group):
    """How similar duplicates are."""

    eps_thresholds: list[Eps] = Field(
        default_factory=list,
        description="eps values to list the duplicates for; 1 - eps is the lowest similarity.",
        examples=[[0.001, 0.01]],
    )
    eps_to_extract: Eps | None = Field(
        default=None,
        description="eps to write the curated shards for.",
        examples=[0.01],
    )
    removed_factor: float = Field(
        default=2.0,
        gt=1,
        description="By what factor the share removed at an eps may differ from that of the run "
        "before, before a check warns.",
    )

    @field_validator("eps_thresholds")
    @classmethod
    def _once_each(cls, values: list[str]) -> list[str]:
        return list(dict.fromkeys(values))

    @model_validator(mode="after")
    def _extract_is_listed(self) -> Self:
        if self.eps_to_extract is not None and self.eps_to_extract not in self.eps_thresholds:
            self.eps_thresholds = [*self.eps_thresholds, self.eps_to_extract]
        return self


BUCKET_COLUMNS = {
    "resolution": ("width", "height"),
    "aspect_ratio": ("width", "height"),
    "duration": ("duration",),
}
"""Of each way to divide clips, the columns that it takes: pixels, and seconds."""


class Shards(Group):
    """The curated clips."""

    export: Literal["shards", "media"] = Field(
        default="shards", description="WebDataset tars, or a folder of plain media files."
    )
    samples_per_shard: int = Field(default=10_000, ge=1, description="Clips in one tar.")
    missing_media: Literal["fail", "skip"] = Field(
        default="fail", description="What to do with a kept clip without a media file."
    )
    bucket_by: list[Literal["resolution", "aspect_ratio", "duration"]] = Field(
        default_factory=list,
        description="Put clips into folders by these, so that a batch is of one shape: the shorter "
        "side (1080, 720, less), width by height, seconds (5, 10, 30). It takes the columns width, "
        "height and duration.",
        examples=[["resolution", "aspect_ratio"]],
    )

    @field_validator("bucket_by")
    @classmethod
    def _in_one_order(cls, values: list[str]) -> list[str]:
        return [name for name in BUCKET_COLUMNS if name in values]

    @property
    def columns(self) -> list[str]:
        """The columns that `bucket_by` takes."""
        return [column for name in self.bucket_by for column in BUCKET_COLUMNS[name]]


class Compute(Group):
    """Who computes, where, and with how much memory. Of these, only precision changes results."""

    engine: Literal["local", "ray"] = Field(
        default="local",
        description="Who does the work of the heavy steps: the step's own process, or the workers "
        "of a Ray cluster.",
    )
    address: str | None = Field(
        default=None,
        min_length=1,
        description="Ray cluster to use: auto, ray://HOST:PORT or HOST:PORT; by default one is "
        "started on this machine for the step.",
        examples=["auto"],
    )
    task_cpus: float | None = Field(
        default=None,
        gt=0,
        description="Processors that a task asks Ray for; by default 1, or for a task with a GPU "
        "that GPU's share of its node's.",
        examples=[4],
    )
    task_gpus: float | None = Field(
        default=None,
        ge=0,
        description="GPUs that a task asks Ray for, if it computes; several tasks share one below "
        "1. By default 1 where the cluster has any.",
        examples=[0.5],
    )
    task_memory: Bytes | None = Field(
        default=None,
        ge=1,
        description="Bytes of its node's memory that a task asks Ray for; by default none. "
        "memory_budget is what it holds.",
        examples=["2GiB"],
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]{1,4})?)$",
        description="Where to compute: auto, cpu, cuda, or one of several GPUs, such as cuda:1.",
        examples=["cuda:1"],
    )
    precision: Literal["exact", "fast"] = Field(
        default="exact",
        description="exact: each score is the highest similarity to an earlier row, the same on "
        "every machine. fast: up to 0.001 below it, for a GPU; near eps some duplicates stay.",
    )
    memory_budget: Bytes = Field(
        default=parse_bytes("1GiB"),
        ge=parse_bytes("16MiB"),
        description="Bytes a step may hold, such as 512MiB or 4GiB.",
    )
    device_memory_fraction: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of the GPU's free memory that a step may take.",
        examples=[0.4],
    )
    pairwise_batch_size: int | None = Field(
        default=None,
        ge=1,
        description="Rows of a tile in the pairwise step; it changes no result.",
        examples=[1024],
    )
    files_per_partition: int | None = Field(
        default=None,
        ge=1,
        description="Input files in one group of the shuffle; by default about 1 GiB of files.",
        examples=[100],
    )
    max_fragments: int = Field(
        default=64,
        ge=1,
        description="Maximum number of fragments of a cluster: beyond it, small groups of input "
        "files are shuffled again together.",
    )
    partitions_per_run: int | None = Field(
        default=None,
        ge=1,
        description="Partition keys of pairwise_scores in one run of a backfill; by default all.",
        examples=[16],
    )

    @model_validator(mode="after")
    def _of_one_engine(self) -> Self:
        if self.engine == "ray":
            if ":" in self.device:
                raise ValueError(
                    f"device {self.device} goes with engine local: Ray gives each task its GPU"
                )
            return self
        for name in ("address", "task_cpus", "task_gpus", "task_memory"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name} goes with engine ray")
        return self
